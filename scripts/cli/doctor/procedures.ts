/** Checks of a loop's procedures: what they are, whether they can be called, and by whom. */
import { type Account, quoteAccount } from '../../../src/account.js';
import type { Installed } from '../../../src/install.js';
import { type MySqlError, run } from '../../../src/mysql.js';
import { qualifiedName, quoteText } from '../../../src/names.js';
import { PROCEDURES, type Procedure, procedureVersion, VERSION } from '../../../src/render.js';
import { type Facts, failures } from './facts.js';
import { create, type Found, ok, problem, shownAccount, warning } from './finding.js';
import { idTypeOf } from './table.js';

/** ER_PROCACCESS_DENIED_ERROR, whether there is such a procedure or not. */
const NOT_ALLOWED = 1370;
const UNSEEN = 'not seen: needs EXECUTE on the procedures';

/** Each procedure, against the one that this package would make. */
export function procedures(facts: Facts): Found[] {
  const { name, columns, procedures: installed } = facts;
  const loop = { name, idType: idTypeOf(columns)[0], engine: '' };
  const ours = installed.filter(({ version }) => version !== undefined);
  const numberOf = ({ version }: Installed) => version!.split('+')[0]!;
  const which = (some: readonly Installed[]) => some.map(({ procedure }) => procedure).join(', ');
  const found: Found[] = [];
  const say = (level: typeof problem, text: string, some: readonly Installed[], cure = create(facts)) => {
    if (some.length > 0) found.push(level(`${text}: ${which(some)}`, cure));
  };

  if (installed.length === 0 && failures(facts).every(([, { errno }]) => errno === NOT_ALLOWED)) {
    return [warning(UNSEEN)];
  }
  const missing = PROCEDURES.filter(procedure => !installed.some(one => one.procedure === procedure));
  if (missing.length > 0) found.push(problem(`missing: ${missing.join(', ')}`, create(facts)));
  for (const other of installed.filter(({ version }) => version === undefined)) {
    const full = qualifiedName(name, `_${other.procedure}`);
    say(problem, "not doloop's", [other], `DROP PROCEDURE ${full};`);
  }
  for (const version of new Set(ours.map(numberOf))) {
    const some = ours.filter(one => numberOf(one) === version);
    const difference = compare(version, VERSION);
    if (difference < 0) say(problem, `of doloop ${version}, older than this ${VERSION}`, some);
    if (difference > 0) {
      say(warning, `of doloop ${version}, newer than this ${VERSION}`, some, `npm install doloop@${version}`);
    }
  }
  // Their text depends on the type of the ids, which not every account may see.
  const same = columns.length > 0 ? ours.filter(one => numberOf(one) === VERSION) : [];
  say(
    problem,
    `another text than that of this ${VERSION} for ids ${loop.idType.sql}`,
    same.filter(one => one.version !== procedureVersion(one.procedure, loop)),
  );
  say(
    problem,
    'made under another sql_mode than theirs',
    ours.filter(one => one.otherMode),
  );
  say(
    warning,
    "made under another collation than the database's",
    ours.filter(one => one.otherCollation),
  );
  say(
    problem,
    'SQL SECURITY INVOKER, so that whoever calls them needs rights on the table',
    ours.filter(one => one.asInvoker),
  );
  return found.length > 0 ? found : [ok(`all ${PROCEDURES.length}, of doloop ${VERSION}`)];
}

/** Which of two versions is the newer one, by their numbers: above 0 if it is the first. */
function compare(one: string, other: string): number {
  const [a, b] = [one, other].map(version => version.split(/[.-]/).map(Number)) as [number[], number[]];
  return a.map((number, i) => number - (b[i] ?? 0)).find(difference => difference !== 0) ?? 0;
}

/** What other checks tell of, with its cure: no such procedure, table, key, column; other arguments; a read-only server; STATEMENT. */
const TOLD = new Set([1305, 1146, 1176, 1054, 1318, 1290, 1836, 1665]);

/** Whether the procedures can be called, which shows if their definers have what they need. */
export function calls(facts: Facts): Found[] {
  if (facts.procedures.length === 0) return [];
  const failed = failures(facts);
  const found = [...new Set(failed.map(([, error]) => error.errno))]
    .filter(errno => !TOLD.has(errno ?? 0))
    .map(errno => {
      const some = failed.filter(([, error]) => error.errno === errno);
      return explain(
        facts,
        some.map(([procedure]) => procedure),
        some[0]![1],
      );
    });
  if (found.length > 0) return found;
  return failed.length > 0
    ? []
    : [ok(`all answer, with the rights of ${definers(facts).map(shownAccount).join(', ')}`)];
}

function explain(facts: Facts, some: readonly Procedure[], error: MySqlError): Found {
  const text = `${some.join(', ')}: ${error.message}`;
  const [definer] = definers({ ...facts, procedures: facts.procedures.filter(one => some.includes(one.procedure)) });
  switch (error.errno) {
    case 1205: // ER_LOCK_WAIT_TIMEOUT
      return warning('not seen: another session has the table locked');
    case NOT_ALLOWED: // of the definer, who needs EXECUTE, too; or of who calls
      return definer && error.message.includes(`'${definer.user}'@'${definer.host}'`)
        ? problem(`the definer lacks EXECUTE: ${text}`, create(facts, shownAccount(definer)))
        : warning(UNSEEN);
    case 1449: // ER_NO_SUCH_USER
      return problem(text, create(facts));
    case 1044: // ER_DBACCESS_DENIED_ERROR
    case 1142: // ER_TABLEACCESS_DENIED_ERROR
    case 1143: // ER_COLUMNACCESS_DENIED_ERROR
      return problem(
        `the definer lacks rights: ${text}`,
        definer && `GRANT SELECT, INSERT, UPDATE, DELETE ON ${qualifiedName(facts.name)} TO ${quoteAccount(definer)};`,
      );
    default:
      return problem(text);
  }
}

/** The accounts whose rights the procedures have. */
function definers({ procedures }: Pick<Facts, 'procedures'>): Account[] {
  return [...new Map(procedures.map(({ definer }) => [quoteAccount(definer), definer])).values()];
}

/** Who may call the procedures, besides their definers. */
export async function grants(facts: Facts): Promise<Found[]> {
  const { connection, name, procedures } = facts;
  if (procedures.length === 0) return [];
  const names = PROCEDURES.map(procedure => quoteText(`${name.table}_${procedure}`));
  const { rows } = await run(
    connection,
    `SELECT \`user\` AS \`user\`, \`host\` AS \`host\`, \`routine_name\` AS \`routine\` FROM \`mysql\`.\`procs_priv\`
        WHERE \`routine_type\` = 'PROCEDURE' AND \`db\` = ${quoteText(name.database!)}
          AND \`routine_name\` IN (${names.join(', ')}) AND FIND_IN_SET('Execute', \`proc_priv\`)
      UNION ALL SELECT \`user\`, \`host\`, NULL FROM \`mysql\`.\`db\`
        WHERE ${quoteText(name.database!)} LIKE \`db\` AND \`execute_priv\` = 'Y'
      UNION ALL SELECT \`user\`, \`host\`, NULL FROM \`mysql\`.\`user\` WHERE \`execute_priv\` = 'Y'
      ORDER BY 1, 2`,
  );
  const allowed = new Map<string, { account: Account; procedures: Set<string> }>();
  for (const { user, host, routine } of rows as { user: string; host: string; routine: string | null }[]) {
    const account = { user, host };
    const { procedures } = allowed.get(quoteAccount(account)) ?? { procedures: new Set<string>() };
    for (const one of PROCEDURES)
      if (routine === null || routine.slice(name.table.length + 1) === one) procedures.add(one);
    allowed.set(quoteAccount(account), { account, procedures });
  }
  for (const definer of definers(facts)) allowed.delete(quoteAccount(definer));
  if (allowed.size === 0) {
    return [warning('nobody may call them but their definer', create(facts, 'ACCOUNT'))];
  }
  const whole = [...allowed.values()].filter(({ procedures }) => procedures.size === PROCEDURES.length);
  const parts = [...allowed.values()].filter(one => !whole.includes(one));
  return [
    ...(whole.length > 0 ? [ok(whole.map(({ account }) => shownAccount(account)).join(', '))] : []),
    ...parts.map(({ account, procedures }) =>
      warning(
        `${shownAccount(account)} may not call ${PROCEDURES.filter(one => !procedures.has(one)).join(', ')}`,
        create(facts, shownAccount(account)),
      ),
    ),
  ];
}
