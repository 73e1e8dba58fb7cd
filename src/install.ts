import type { Connection } from 'mysql2/promise';
import { type Account, parseAccount, quoteAccount } from './account.js';
import { call, NO_IDS } from './call.js';
import { DoLoopError, explained } from './errors.js';
import { triggersOf } from './follow.js';
import { DEFAULT_ID_TYPE, parseIdType } from './id-type.js';
import { shown } from './ids.js';
import { INSTALLING } from './installing.js';
import { type AnyConnection, type AnyPool, isPool, type MySqlError, promised, run } from './mysql.js';
import { type LoopName, parseLoopName, qualifiedName, quoteText } from './names.js';
import * as sql from './render.js';
import { connectedServer, type ServerKind } from './server-kind.js';

export interface SqlOptions {
  /**
   * The type of the ids, as in CREATE TABLE: `'CHAR(64) CHARSET ascii'`.
   * @default 'INT'; {@link create} over a table that is there: its own
   */
  idType?: string;
  /** The storage engine. @default 'InnoDB'; {@link create} over a table that is there: its own */
  engine?: string;
}

export interface CreateOptions extends SqlOptions {
  /** Accounts, like `'app'@'%'`, that may call the procedures from now on. They get EXECUTE on those, nothing more. */
  grant?: readonly string[];
}

/** What {@link create} did. */
export interface Created {
  /** Made new, or adopted from a table of the original's shape, or there already. */
  table: 'made' | 'adopted' | 'kept';
  /** The procedures that were made or replaced; those that were the same already are left alone. */
  procedures: string[];
  /** What could not be done, for people. */
  warnings: string[];
}

const DEFAULT_ENGINE = 'InnoDB';

/** Engines that would make a table and could not keep a loop: two workers would be given one id, or nobody any. */
const UNABLE: [RegExp, string][] = [
  [/^ndb(cluster)?$/i, 'it knows no SKIP LOCKED'],
  [/^spider$/i, 'it drops SKIP LOCKED, so that ids are given to two at once'],
  [/^federated$/i, 'it locks no rows where they are'],
  [/^blackhole$/i, 'it keeps no rows'],
];

/**
 * The statements that make a loop, one each, without DELIMITER: for a migration, on any connection. One text for MySQL
 * and MariaDB; may be run again.
 *
 * @throws {TypeError | RangeError} for a name, an id type or an engine that can't be one.
 */
export function sqlForCreate(table: string, options: SqlOptions = {}): string[] {
  return sql.statements(described(table, options));
}

/** The same as a script for the `mysql` or `mariadb` console. */
export function scriptForCreate(table: string, options: SqlOptions = {}): string {
  return sql.script(described(table, options));
}

function described(table: string, { idType = DEFAULT_ID_TYPE, engine = DEFAULT_ENGINE }: SqlOptions): sql.Loop {
  return { name: parseLoopName(table), idType: parseIdType(idType), engine: parseEngine(engine) };
}

function parseEngine(engine: string): string {
  if (typeof engine !== 'string' || !/^[a-z][a-z0-9_]{0,63}$/i.test(engine)) {
    throw new RangeError(`engine: ${shown(engine)} is not a storage engine's name, like InnoDB`);
  }
  const unable = UNABLE.find(([name]) => name.test(engine));
  if (unable) throw new RangeError(`engine: ${engine} can't keep a loop: ${unable[1]}`);
  return engine.toLowerCase() === DEFAULT_ENGINE.toLowerCase() ? DEFAULT_ENGINE : engine;
}

/**
 * Makes a loop, or brings an existing one up to date: replaces the procedures that differ, keeps all rows and all
 * grants. Adopts a table of the original's shape. Like any DDL it commits a transaction that is open on the connection.
 *
 * @throws {TypeError | RangeError} for a name, an id type, an engine or an account that can't be one.
 * @throws {DoLoopError} `REFUSED` for a table that is no loop, or one of other ids; the message names the difference.
 * @throws {Error} for a server that is too old or can't do it.
 */
export async function create(
  target: AnyPool | AnyConnection,
  table: string,
  options: CreateOptions = {},
): Promise<Created> {
  const accounts = (options.grant ?? []).map(parseAccount);
  const wanted = described(table, options);
  return onConnection(target, async connection => {
    const server = await connectedServer(connection);
    const name = await inDatabase(connection, wanted.name);
    for (const account of accounts) await refuseUnknown(connection, account);
    return installing(connection, name, async () => {
      const installed = await installedProcedures(connection, name);
      const before = await readTable(connection, name);
      const loop: sql.Loop = {
        name,
        idType: (options.idType === undefined && possible(parseIdType, before?.idType)) || wanted.idType,
        engine: (options.engine === undefined && possible(parseEngine, before?.engine)) || wanted.engine,
      };
      await makeTable(connection, loop);
      // From here on the table itself says what its ids are, down to the collation.
      const after = (await readTable(connection, name))!;
      const made = await makeProcedures(connection, server, { ...loop, idType: parseIdType(after.idType) }, installed);
      await grantExecute(connection, server, name, accounts);
      return { table: before === undefined ? 'made' : before.parts < after.parts ? 'adopted' : 'kept', ...made };
    });
  });
}

/** Runs the work on the connection, or on one of the pool's. */
async function onConnection<T>(
  target: AnyPool | AnyConnection,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const given = promised(target);
  const onThis = async (connection: Connection) => {
    await refuseBytes(connection);
    return work(connection);
  };
  if (!isPool(given)) return onThis(given);
  const connection = await given.getConnection();
  try {
    return await onThis(connection);
  } finally {
    connection.release();
  }
}

/** After `SET NAMES binary` all text is read as bytes, and no name is any more what it was. */
async function refuseBytes(connection: Connection): Promise<void> {
  const { rows } = await run(connection, "SELECT 'text' AS `read`");
  if (rows[0]!.read === 'text') return;
  throw new DoLoopError('REFUSED', "connection: this session's character set is binary; utf8mb4 is one of letters");
}

/** Does the work under the settings for routines, and one at a time: a deployment may run an installer on every host. */
async function installing<T>(connection: Connection, name: LoopName, work: () => Promise<T>): Promise<T> {
  const { set, restore } = sql.settings(name);
  await run(connection, set);
  try {
    const { rows } = await run(connection, `SELECT GET_LOCK(${INSTALLING}, 60) AS \`got\``);
    if (rows[0]!.got !== 1) throw new Error('another installation on this server has not ended for 60 s');
    return await work();
  } catch (error) {
    if ((error as MySqlError).errno !== 1205) throw error; // ER_LOCK_WAIT_TIMEOUT
    throw new Error(
      `a transaction has used ${name.table} for ${sql.LOCK_WAIT} s, and calls would have had to wait with us; try again later`,
      { cause: error },
    );
  } finally {
    // On a connection that is lost there is nothing to restore, and the error that tells so is on its way.
    await run(connection, `DO RELEASE_LOCK(${INSTALLING})`).catch(() => {});
    await run(connection, restore).catch(() => {});
  }
}

/**
 * The loop's name with its database: the connection's, where none was given.
 *
 * @throws {RangeError} if the connection's can't stand in our SQL.
 * @throws {DoLoopError} `REFUSED` if there is none, or if the name does not reach the server as it is.
 */
export async function inDatabase(connection: Connection, { database, table }: LoopName): Promise<Required<LoopName>> {
  const name = { database: database ?? (await currentDatabase(connection, table)), table };
  await refuseGarbled(connection, `${name.database}.${table}`);
  return name;
}

async function currentDatabase(connection: Connection, table: string): Promise<string> {
  const { rows } = await run(connection, 'SELECT DATABASE() AS `database`');
  const current = rows[0]!.database as string | null;
  if (current === null) {
    throw new DoLoopError(
      'REFUSED',
      `database: none is selected; connect to one, or name the table as DATABASE.${table}`,
    );
  }
  return parseLoopName(qualifiedName({ database: current, table })).database!;
}

/** In a session of another character set the server would make another name of it (`?_loop`), or of where it ends. */
async function refuseGarbled(connection: Connection, name: string): Promise<void> {
  const letters = [...name].filter(letter => letter > '\u007f').join('');
  if (letters === '') return;
  const { rows } = await run(connection, `SELECT HEX(CONVERT('${letters}' USING utf8mb4)) AS \`read\``);
  if (rows[0]!.read !== Buffer.from(letters).toString('hex').toUpperCase()) {
    throw new DoLoopError(
      'REFUSED',
      `table: ${name} has characters that do not reach the server in this session's character set; utf8mb4 has them all`,
    );
  }
}

interface Table {
  idType: string;
  /** A view has none. */
  engine: string | null;
  /** How many columns and keys it has: more after being adopted. */
  parts: number;
}

/** What the table has, unless no loop can have that: it is then refused for being no loop, and told why. */
function possible<T>(parse: (written: string) => T, written: string | null | undefined): T | undefined {
  try {
    return parse(written!);
  } catch {
    return undefined;
  }
}

/** What information_schema knows of the table, if it is there and has an id. */
async function readTable(connection: Connection, { database, table }: LoopName): Promise<Table | undefined> {
  const where = `\`table_schema\` = ${quoteText(database!)} AND \`table_name\` = ${quoteText(table)}`;
  const { rows } = await run(
    connection,
    `SELECT ${sql.ID_TYPE_OF_COLUMN} AS \`idType\`,
      (SELECT \`engine\` FROM \`information_schema\`.\`tables\` WHERE ${where}) AS \`engine\`,
      (SELECT COUNT(*) FROM \`information_schema\`.\`columns\` WHERE ${where}) +
      (SELECT COUNT(*) FROM \`information_schema\`.\`statistics\` WHERE ${where}) AS \`parts\`
      FROM \`information_schema\`.\`columns\` WHERE ${where} AND \`column_name\` = 'id'`,
  );
  return rows[0] as Table | undefined;
}

/** A procedure of a loop, as it is in the database. */
export interface Installed {
  procedure: sql.Procedure;
  /** What its comment gives: the version of doloop, + a digest of the text. Of a procedure that is not doloop's: undefined. */
  version: string | undefined;
  definer: Account;
  /** Whether it was made under other settings than this session has, which are to be {@link sql.settings}. */
  otherMode: boolean;
  otherCollation: boolean;
  /** Whether it runs with the rights of who calls it. */
  asInvoker: boolean;
}

/** The procedures of a loop's names that are there, in the order of the contract. */
export async function readProcedures(connection: Connection, name: LoopName): Promise<Installed[]> {
  const { rows } = await run(
    connection,
    `SELECT \`routine_name\` AS \`name\`, \`routine_comment\` AS \`comment\`, \`definer\` AS \`definer\`,
        \`sql_mode\` <> @@sql_mode AS \`otherMode\`,
        \`collation_connection\` <> @@collation_connection AS \`otherCollation\`,
        \`security_type\` <> 'DEFINER' AS \`asInvoker\`
      FROM \`information_schema\`.\`routines\`
      WHERE \`routine_type\` = 'PROCEDURE' AND \`routine_schema\` = ${quoteText(name.database!)}
        AND \`routine_name\` IN (${sql.PROCEDURES.map(procedure => quoteText(`${name.table}_${procedure}`)).join(', ')})`,
  );
  const installed = rows.map(row => {
    const definer = row.definer as string;
    const at = definer.lastIndexOf('@');
    return {
      procedure: (row.name as string).slice(name.table.length + 1) as sql.Procedure,
      version: VERSION_IN_COMMENT.exec(row.comment as string)?.[1],
      definer: { user: definer.slice(0, at), host: definer.slice(at + 1) },
      otherMode: row.otherMode === 1,
      otherCollation: row.otherCollation === 1,
      asInvoker: row.asInvoker === 1,
    };
  });
  return installed.sort((a, b) => sql.PROCEDURES.indexOf(a.procedure) - sql.PROCEDURES.indexOf(b.procedure));
}

/** The same, of doloop's alone: what has the name of one and is none is not to be replaced or dropped. */
async function installedProcedures(connection: Connection, name: LoopName): Promise<Installed[]> {
  const installed = await readProcedures(connection, name);
  const other =
    installed.find(({ version }) => version === undefined)?.procedure ?? (await otherAdopt(connection, name));
  if (other) {
    throw new DoLoopError('REFUSED', `procedure: ${name.table}_${other} is there already, and is not doloop's`);
  }
  return installed;
}

/** An `adopt` that is not doloop's: its own is of no use to anyone, if an installer has left it behind. */
async function otherAdopt(connection: Connection, { database, table }: LoopName): Promise<'adopt' | undefined> {
  const { rows } = await run(
    connection,
    `SELECT \`routine_comment\` AS \`comment\` FROM \`information_schema\`.\`routines\`
      WHERE \`routine_type\` = 'PROCEDURE' AND \`routine_schema\` = ${quoteText(database!)}
        AND \`routine_name\` = ${quoteText(`${table}_adopt`)}`,
  );
  return rows.some(({ comment }) => !VERSION_IN_COMMENT.test(comment as string)) ? 'adopt' : undefined;
}

const VERSION_IN_COMMENT = /^doloop (\S+): /;

async function makeTable(connection: Connection, loop: sql.Loop): Promise<void> {
  const { prepare, make, cleanUp } = sql.tableStatements(loop);
  for (const statement of prepare) await run(connection, statement);
  try {
    for (const statement of make) await run(connection, statement);
  } catch (error) {
    throw explained(error as MySqlError, loop.name);
  } finally {
    await run(connection, cleanUp);
  }
}

/** Makes the procedures that are not there, or not the same, or can't be called since their definer is no more. */
async function makeProcedures(
  connection: Connection,
  server: ServerKind,
  loop: sql.Loop,
  installed: readonly Installed[],
): Promise<Pick<Created, 'procedures' | 'warnings'>> {
  const gone = await goneDefiners(connection, loop.name, installed);
  const good = installed.filter(
    one =>
      one.version === sql.procedureVersion(one.procedure, loop) &&
      !(one.otherMode || one.otherCollation || one.asInvoker || gone.has(quoteAccount(one.definer))),
  );
  const procedures = sql.PROCEDURES.filter(procedure => !good.some(one => one.procedure === procedure));
  const warnings: string[] = [];
  // MariaDB replaces a procedure with its grants; on MySQL they go with the old one.
  const grants = server === 'MySQL' && installed.length > 0 ? await readGrants(connection, loop.name) : [];
  if (grants === undefined) {
    warnings.push(
      'this account may not read mysql.procs_priv: EXECUTE that was granted on single procedures may be gone ' +
        '(EXECUTE on the database is not)',
    );
  }
  for (const procedure of procedures) {
    for (const statement of sql.procedureStatements(loop, procedure)) await run(connection, statement);
    for (const statement of grants?.filter(grant => grant.procedure === procedure).map(({ sql }) => sql) ?? []) {
      await run(connection, statement).catch(error => {
        warnings.push(`could not give back what was granted (${(error as Error).message}): ${statement}`);
      });
    }
  }
  return { procedures, warnings };
}

/** The definers, quoted, that are no accounts any more, as far as that can be found out. */
async function goneDefiners(
  connection: Connection,
  name: LoopName,
  installed: readonly Installed[],
): Promise<Set<string>> {
  const gone = new Set<string>();
  for (const [quoted, one] of new Map(installed.map(one => [quoteAccount(one.definer), one]))) {
    if (await isGone(connection, name, one)) gone.add(quoted);
  }
  return gone;
}

async function isGone(connection: Connection, name: LoopName, { definer, procedure }: Installed): Promise<boolean> {
  const seen = await lookUp(connection, definer);
  if (seen === undefined) return false;
  if (seen.errno === NONEXISTING_GRANT) return true;
  // Who may not look it up may call the procedure, perhaps.
  return call(connection, qualifiedName(name), procedure, NO_IDS[procedure]).then(
    () => false,
    (error: MySqlError) => error.errno === 1449, // ER_NO_SUCH_USER
  );
}

/** The GRANT statements for what accounts may do with the single procedures; undefined if that can't be read. */
async function readGrants(
  connection: Connection,
  name: LoopName,
): Promise<{ procedure: string; sql: string }[] | undefined> {
  const names = sql.PROCEDURES.map(procedure => quoteText(`${name.table}_${procedure}`));
  try {
    const { rows } = await run(
      connection,
      `SELECT \`user\` AS \`user\`, \`host\` AS \`host\`, \`routine_name\` AS \`routine\`, CAST(\`proc_priv\` AS CHAR) AS \`privileges\`
        FROM \`mysql\`.\`procs_priv\`
        WHERE \`routine_type\` = 'PROCEDURE' AND \`db\` = ${quoteText(name.database!)} AND \`routine_name\` IN (${names.join(', ')})`,
    );
    return (rows as { user: string; host: string; routine: string; privileges: string }[]).map(row => {
      const privileges = row.privileges.toUpperCase().split(',');
      const granted = privileges.filter(privilege => privilege !== 'GRANT').join(', ') || 'USAGE';
      const option = privileges.includes('GRANT') ? ' WITH GRANT OPTION' : '';
      const procedure = row.routine.slice(name.table.length + 1);
      const on = qualifiedName(name, `_${procedure}`);
      return { procedure, sql: `GRANT ${granted} ON PROCEDURE ${on} TO ${quoteAccount(row)}${option}` };
    });
  } catch (error) {
    if ((error as MySqlError).errno === 1142) return undefined; // ER_TABLEACCESS_DENIED_ERROR
    throw error;
  }
}

/** MariaDB's GRANT would make an account that is not there, and without a password. */
async function refuseUnknown(connection: Connection, account: Account): Promise<void> {
  const cause = await lookUp(connection, account);
  if (cause?.errno !== NONEXISTING_GRANT) return; // who may not look it up (1044, 1142) is told nothing
  throw new DoLoopError('REFUSED', `grant: there is no account ${quoteAccount(account)}; CREATE USER makes it`, {
    cause,
  });
}

const NONEXISTING_GRANT = 1141;

/** What the server says against it, if it has no such account, or this one may not look it up. */
function lookUp(connection: Connection, account: Account): Promise<MySqlError | undefined> {
  return run(connection, `SHOW GRANTS FOR ${quoteAccount(account)}`).then(
    () => undefined,
    (error: MySqlError) => error,
  );
}

async function grantExecute(
  connection: Connection,
  server: ServerKind,
  name: LoopName,
  accounts: readonly Account[],
): Promise<void> {
  if (accounts.length === 0) return;
  if (server === 'MariaDB') await run(connection, "SET sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_CREATE_USER')");
  for (const procedure of sql.PROCEDURES) {
    const on = qualifiedName(name, `_${procedure}`);
    await run(connection, `GRANT EXECUTE ON PROCEDURE ${on} TO ${accounts.map(quoteAccount).join(', ')}`);
  }
}

export interface DropOptions {
  /** Drop the table, too: all its ids and times are gone. @default false */
  table?: boolean;
}

/**
 * Takes a loop's procedures away, and with `table` its rows, too.
 *
 * @throws {DoLoopError} `NO_LOOP` if there is none of that name; a table that is no loop is never dropped. `REFUSED` for
 * one that follows another table: its triggers would make the writes there fail.
 */
export async function drop(
  target: AnyPool | AnyConnection,
  table: string,
  { table: withTable = false }: DropOptions = {},
): Promise<void> {
  const parsed = parseLoopName(table);
  await onConnection(target, async connection => {
    const name = await inDatabase(connection, parsed);
    await installing(connection, name, async () => {
      const installed = await installedProcedures(connection, name);
      const columns = withTable ? await columnsOf(connection, name) : [];
      const isLoop = columns.join() === 'failures,id,last_updated,lock_until';
      if (installed.length === 0 && !isLoop) {
        throw new DoLoopError('NO_LOOP', `${name.database}.${name.table} is no loop here`);
      }
      if (columns.length > 0 && !isLoop) {
        throw new DoLoopError('REFUSED', `table: ${name.database}.${name.table} is no loop, and was not dropped`);
      }
      const [followed] = withTable ? await triggersOf(connection, name) : [];
      if (followed) {
        throw new DoLoopError(
          'REFUSED',
          `table: ${name.database}.${name.table} follows ${followed.on.database}.${followed.on.table}, where all writes would ` +
            `fail; \`npx doloop follow ${name.database}.${name.table} --drop\` ends that`,
        );
      }
      for (const procedure of ['adopt', ...installed.map(one => one.procedure)]) {
        await run(connection, `DROP PROCEDURE IF EXISTS ${qualifiedName(name, `_${procedure}`)}`);
      }
      if (withTable) await run(connection, `DROP TABLE IF EXISTS ${qualifiedName(name)}`);
    });
  });
}

/** The names of a table's columns, sorted. */
async function columnsOf(connection: Connection, { database, table }: LoopName): Promise<string[]> {
  const { rows } = await run(
    connection,
    `SELECT \`column_name\` AS \`name\` FROM \`information_schema\`.\`columns\`
      WHERE \`table_schema\` = ${quoteText(database!)} AND \`table_name\` = ${quoteText(table)}`,
  );
  return rows.map(({ name }) => name as string).sort();
}

/** A loop of a database. */
export interface LoopInfo {
  table: string;
  idType: string;
  /** The version of doloop that made its procedures. */
  version: string;
  /** How many ids it has, counted. */
  rows: number;
}

/** The loops of a database (the connection's, unless another is named), by name. */
export async function list(target: AnyPool | AnyConnection, database?: string): Promise<LoopInfo[]> {
  return onConnection(target, async connection => {
    const inThis = database === undefined ? 'DATABASE()' : quoteText(database);
    const { rows } = await run(
      connection,
      `SELECT \`table_schema\` AS \`database\`, \`table_name\` AS \`table\`, \`routine_comment\` AS \`comment\`,
          ${sql.ID_TYPE_OF_COLUMN} AS \`idType\`
        FROM \`information_schema\`.\`columns\`
        JOIN (
          SELECT \`routine_schema\`, \`routine_name\`, \`routine_comment\` FROM \`information_schema\`.\`routines\`
        ) AS routines ON \`routine_schema\` = \`table_schema\` AND \`routine_name\` = CONCAT(\`table_name\`, '_get')
        WHERE \`table_schema\` = ${inThis} AND \`column_name\` = 'id' AND \`routine_comment\` LIKE 'doloop %'
        ORDER BY \`table_name\``,
    );
    const loops: LoopInfo[] = [];
    for (const { database, table, comment, idType } of rows as Record<string, string>[]) {
      const counted = await run(connection, `SELECT COUNT(*) AS n FROM ${qualifiedName({ database, table: table! })}`);
      loops.push({
        table: table!,
        idType: idType!,
        version: VERSION_IN_COMMENT.exec(comment!)?.[1]?.split('+')[0] ?? 'unknown',
        rows: counted.rows[0]!.n as number,
      });
    }
    return loops;
  });
}
