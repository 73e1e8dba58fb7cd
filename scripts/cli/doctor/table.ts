/** Checks of a loop's table. */
import { DEFAULT_ID_TYPE, type IdType, parseIdType } from '../../../src/id-type.js';
import { run } from '../../../src/mysql.js';
import { qualifiedName, quoteName } from '../../../src/names.js';
import { columnDefinitions } from '../../../src/render.js';
import { duration, many, shownLoop } from '../terminal.js';
import { type Column, type Facts, failures, type Key } from './facts.js';
import { alter, create, type Found, ok, problem, warning } from './finding.js';

const TIMES = ['last_updated', 'lock_until'];
const PICKING = 'lock_until, last_updated';
/** Nothing is done to a table which has not got these. */
const REQUIRED = ['id', ...TIMES];

const isInstalled = ({ procedures }: Facts) => procedures.some(({ version }) => version !== undefined);

/** Why there is nothing of a loop to look at, if there is nothing. */
export function noLoop(facts: Facts): Found | undefined {
  const { name, table, columns } = facts;
  const loop = shownLoop(name);
  if (isInstalled(facts)) return undefined;
  if (table === undefined) return problem(`there is no ${loop}, or this account may not see it`, create(facts));
  if (table.type !== 'BASE TABLE') return problem(`${loop} is no loop but a ${table.type}: a loop needs another name`);
  const missing = REQUIRED.find(column => !columns.some(({ name }) => name === column));
  return missing === undefined
    ? undefined
    : problem(`${loop} is no loop, for it has no ${missing}: a loop needs another name`);
}

/** The columns, against those of table.sql. */
export function shape(facts: Facts): Found[] {
  const { name, table, columns } = facts;
  if (table === undefined) return [unseen(facts)];
  if (table.type !== 'BASE TABLE') return [problem(`it is a ${table.type}: a loop needs a table of that name`)];
  const [idType, refusal] = idTypeOf(columns);
  const definitions = columnDefinitions({ name, idType, engine: '' });
  const noNull = `UPDATE ${qualifiedName(name)} SET failures = 0 WHERE failures IS NULL; `;
  const define = (how: 'ADD' | 'MODIFY', column: string) =>
    alter(facts, `${how} COLUMN ${quoteName(column)} ${definitions.get(column)}`);
  const found: Found[] = [...definitions.keys()]
    .filter(column => !columns.some(({ name }) => name === column))
    .map(column => problem(`it has no ${column}`, REQUIRED.includes(column) ? define('ADD', column) : create(facts)));
  for (const column of columns) {
    if (!definitions.has(column.name)) {
      const drop = alter(facts, `DROP COLUMN ${quoteName(column.name)}`);
      // Where there are no procedures yet, somebody may have mistaken another table for a loop.
      found.push(problem(`it has a column ${column.name}`, isInstalled(facts) ? drop : undefined));
    } else if (column.name === 'id' && refusal !== undefined) {
      found.push(problem(refusal));
    } else if (!FITS[column.name]!(column)) {
      const modify = (column.name === 'failures' && column.nullable ? noNull : '') + define('MODIFY', column.name);
      // What the numbers of another type mean is not known here.
      const whole = /int/i.test(column.type) || column.name === 'id';
      found.push(problem(`${described(column)}, not ${definitions.get(column.name)}`, whole ? modify : undefined));
    }
  }
  return found.length > 0 ? found : [ok(`${shownLoop(name)}, ids: ${idType.sql}`)];
}

const plain = ({ extra, type }: Column) => extra === '' && !/zerofill/i.test(type);
const fitsTime = (column: Column) =>
  plain(column) && /^(INT|BIGINT)$/.test(column.idType) && column.nullable && column.default === null;
/** What adopt.sql takes. */
const FITS: Record<string, (column: Column) => boolean> = {
  id: plain,
  last_updated: fitsTime,
  lock_until: fitsTime,
  failures: column =>
    plain(column) && column.idType === 'SMALLINT UNSIGNED' && !column.nullable && column.default === '0',
};

function described({ name, type, nullable, default: value, extra }: Column): string {
  const parts = [name, type.toUpperCase(), !nullable && 'NOT NULL', value !== null && `DEFAULT ${value}`, extra];
  return parts.filter(Boolean).join(' ');
}

/** The type of the ids; where it can be none, the default and why not. */
export function idTypeOf(columns: readonly Column[]): [IdType, refusal?: string] {
  try {
    return [parseIdType(columns.find(({ name }) => name === 'id')?.idType ?? DEFAULT_ID_TYPE)];
  } catch (error) {
    return [parseIdType(DEFAULT_ID_TYPE), (error as Error).message];
  }
}

/** An account that may only call the procedures learns from them what is wrong with the table. */
function unseen(facts: Facts): Found {
  // No such table, no such key, no such column.
  const failure = failures(facts).find(([, { errno = 0 }]) => [1146, 1176, 1054].includes(errno));
  return failure ? problem(failure[1].message, create(facts)) : warning('not seen: needs SELECT on the table');
}

export function keys(facts: Facts): Found[] {
  const { table, keys } = facts;
  if (table?.type !== 'BASE TABLE') return [];
  const primary = keys.find(({ name }) => name === 'PRIMARY');
  const picking = keys.find(({ name }) => name === 'lock_until');
  const found: Found[] = [];
  if (primary?.columns !== 'id') {
    const drop = primary ? ['DROP PRIMARY KEY'] : [];
    found.push(
      problem(
        `the primary key is (${primary?.columns ?? ''}), not (id)`,
        alter(facts, ...drop, 'ADD PRIMARY KEY (`id`)'),
      ),
    );
  }
  if (!picking) {
    found.push(problem(`there is no key lock_until (${PICKING})`, create(facts)));
  } else if (picking.columns !== PICKING || picking.unique) {
    const cure = alter(facts, 'DROP KEY `lock_until`', 'ADD KEY `lock_until` (`lock_until`, `last_updated`)');
    found.push(problem(`${describedKey(picking)}, not key lock_until (${PICKING})`, cure));
  }
  if (picking?.ignored) {
    found.push(
      problem('the server ignores the key lock_until', alter(facts, `ALTER INDEX \`lock_until\` ${picking.ignored}`)),
    );
  }
  for (const key of keys.filter(key => key.unique && key !== primary && key !== picking)) {
    const cure = alter(facts, `DROP KEY ${quoteName(key.name)}`);
    found.push(problem(`${describedKey(key)} keeps ids from being written`, cure));
  }
  return found.length > 0 ? found : [ok(`id; ${PICKING}`)];
}

function describedKey({ name, columns, unique }: Key): string {
  return `${unique ? 'unique ' : ''}key ${name} (${columns})`;
}

export function engine(facts: Facts): Found[] {
  const { table } = facts;
  if (!table?.engine) return [];
  return table.transactions === 'YES'
    ? [ok(table.engine)]
    : [
        warning(
          `${table.engine} has no transactions: what fails in the middle is not undone, and claims wait for each other`,
          alter(facts, 'ENGINE=InnoDB'),
        ),
      ];
}

export function triggers({ name, triggers }: Facts): Found[] {
  return triggers.map(trigger =>
    warning(
      `trigger ${trigger} runs for every id of every call`,
      `DROP TRIGGER ${qualifiedName({ database: name.database, table: trigger })};`,
    ),
  );
}

/** INT ends in 2038. */
export function times(facts: Facts): Found[] {
  const { name, columns } = facts;
  const short = columns.filter(column => TIMES.includes(column.name) && column.idType === 'INT');
  if (short.length === 0) return columns.length === 0 ? [] : [ok('good past 2038')];
  const definitions = columnDefinitions({ name, idType: idTypeOf(columns)[0], engine: '' });
  const changes = short.map(column => `MODIFY COLUMN ${quoteName(column.name)} ${definitions.get(column.name)}`);
  const which = short.map(column => column.name).join(' and ');
  return [warning(`${which}: INT holds no time past 2038-01-19`, alter(facts, ...changes))];
}

const YEAR = 365 * 86400;

/** Locks that nobody can have meant. */
export function locks({ name, calls }: Facts): Found[] {
  const stats = calls.get('stats');
  if (stats === undefined || stats instanceof Error) return [];
  const longest = Number(stats.rows[0]!.max_lock_time);
  return longest <= YEAR
    ? [ok(longest > 0 ? `the longest for ${duration(longest)}` : 'none')]
    : [
        warning(
          `an id is locked for ${duration(longest)}`,
          `UPDATE ${qualifiedName(name)} SET lock_until = NULL WHERE lock_until > UNIX_TIMESTAMP() + ${YEAR};`,
        ),
      ];
}

const HOUR = 3600;

/** Times of updates that are still to come, as of a program that writes milliseconds: until then get passes these ids over. */
export async function updates({ connection, name, columns }: Facts): Promise<Found[]> {
  if (!REQUIRED.every(required => columns.some(({ name }) => name === required))) return [];
  const table = qualifiedName(name);
  const future = `lock_until IS NULL AND last_updated > UNIX_TIMESTAMP() + ${HOUR}`;
  const { rows } = await run(connection, `SELECT COUNT(*) AS n FROM ${table} WHERE ${future}`);
  const n = rows[0]!.n as number;
  return n === 0
    ? [ok('none is in the future')]
    : [
        warning(
          `last_updated is in the future for ${many(n, 'id')}: get passes them over until then`,
          `UPDATE ${table} SET last_updated = UNIX_TIMESTAMP() WHERE ${future};`,
        ),
      ];
}
