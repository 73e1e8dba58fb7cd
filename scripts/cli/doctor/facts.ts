/** What the doctor reads of a loop before it judges. */
import type { Connection } from 'mysql2/promise';
import { call, NO_IDS } from '../../../src/call.js';
import { type Installed, readProcedures } from '../../../src/install.js';
import { type Answer, type MySqlError, run } from '../../../src/mysql.js';
import { type LoopName, qualifiedName, quoteText } from '../../../src/names.js';
import { ID_TYPE_OF_COLUMN, PROCEDURES, type Procedure, settings } from '../../../src/render.js';

export interface Facts {
  readonly connection: Connection;
  readonly name: Required<LoopName>;
  /** The server's variables, in small letters. */
  readonly variables: ReadonlyMap<string, string>;
  /** A view is one, too; none if there is none that this account may see. */
  readonly table: { readonly type: string; readonly engine: string | null; readonly transactions: string } | undefined;
  readonly columns: readonly Column[];
  readonly keys: readonly Key[];
  readonly triggers: readonly string[];
  readonly procedures: readonly Installed[];
  /** What each procedure answered when it was called without ids. */
  readonly calls: ReadonlyMap<Procedure, Answer | MySqlError>;
}

export interface Column {
  readonly name: string;
  /** As doloop spells id types. */
  readonly idType: string;
  /** As the server spells it. */
  readonly type: string;
  readonly nullable: boolean;
  readonly default: string | null;
  /** `auto_increment` and its like. */
  readonly extra: string;
}

export interface Key {
  readonly name: string;
  /** With lengths and directions: `lock_until, id(10) DESC`. */
  readonly columns: string;
  readonly unique: boolean;
  /** If the server makes no use of it: what ALTER INDEX says to make it do so. */
  readonly ignored: 'VISIBLE' | 'NOT IGNORED' | undefined;
}

const LOCK_WAIT_TIMEOUT = 1205;

/** Reads all that any account may, under the settings for routines, which the session keeps. */
export async function readFacts(connection: Connection, name: Required<LoopName>): Promise<Facts> {
  await run(connection, settings(name).set);
  // Some other session may have locked the table, for good. And the times of transactions are the system's.
  await run(connection, "SET lock_wait_timeout = 2, innodb_lock_wait_timeout = 2, time_zone = 'SYSTEM'");
  return {
    connection,
    name,
    variables: await readVariables(connection),
    table: await readTable(connection, name),
    columns: await readColumns(connection, name),
    keys: await readKeys(connection, name),
    triggers: await readTriggers(connection, name),
    procedures: await readProcedures(connection, name),
    calls: await callEach(connection, name),
  };
}

async function readVariables(connection: Connection): Promise<Map<string, string>> {
  const { rows } = await run(connection, 'SHOW GLOBAL VARIABLES');
  return new Map(rows.map(({ Variable_name, Value }) => [`${Variable_name}`.toLowerCase(), `${Value}`]));
}

const ofTable = ({ database, table }: Required<LoopName>, schema = 'table_schema', name = 'table_name') =>
  `\`${schema}\` = ${quoteText(database!)} AND \`${name}\` = ${quoteText(table)}`;

async function readTable(connection: Connection, name: Required<LoopName>): Promise<Facts['table']> {
  const { rows } = await run(
    connection,
    `SELECT \`table_type\` AS \`type\`, tables.\`engine\` AS \`engine\`, \`transactions\` AS \`transactions\`
      FROM \`information_schema\`.\`tables\` AS tables
      LEFT JOIN \`information_schema\`.\`engines\` AS engines ON engines.\`engine\` = tables.\`engine\`
      WHERE ${ofTable(name)}`,
  );
  return rows[0] as unknown as Facts['table'];
}

async function readColumns(connection: Connection, name: Required<LoopName>): Promise<Column[]> {
  const { rows } = await run(
    connection,
    `SELECT \`column_name\` AS \`name\`, ${ID_TYPE_OF_COLUMN} AS \`idType\`, \`column_type\` AS \`type\`,
        \`is_nullable\` = 'YES' AS \`nullable\`, NULLIF(\`column_default\`, 'NULL') AS \`default\`, \`extra\` AS \`extra\`
      FROM \`information_schema\`.\`columns\` WHERE ${ofTable(name)} ORDER BY \`ordinal_position\``,
  );
  return rows.map(row => ({ ...row, nullable: row.nullable === 1 }) as Column);
}

async function readKeys(connection: Connection, name: Required<LoopName>): Promise<Key[]> {
  // MySQL has IS_VISIBLE, MariaDB has IGNORED: hence all of it.
  const { rows } = await run(
    connection,
    `SELECT * FROM \`information_schema\`.\`statistics\` WHERE ${ofTable(name)} ORDER BY \`index_name\`, \`seq_in_index\``,
  );
  const keys = new Map<string, Key>();
  for (const row of rows) {
    const key = row.INDEX_NAME as string;
    const before = keys.get(key);
    const part =
      (row.COLUMN_NAME ?? `(${row.EXPRESSION})`) +
      (row.SUB_PART === null ? '' : `(${row.SUB_PART})`) +
      (row.COLLATION === 'D' ? ' DESC' : '');
    keys.set(key, {
      name: key,
      columns: before ? `${before.columns}, ${part}` : part,
      unique: Number(row.NON_UNIQUE) === 0,
      ignored: row.IS_VISIBLE === 'NO' ? 'VISIBLE' : row.IGNORED === 'YES' ? 'NOT IGNORED' : undefined,
    });
  }
  return [...keys.values()];
}

async function readTriggers(connection: Connection, name: Required<LoopName>): Promise<string[]> {
  const { rows } = await run(
    connection,
    `SELECT \`trigger_name\` AS \`name\` FROM \`information_schema\`.\`triggers\`
      WHERE ${ofTable(name, 'event_object_schema', 'event_object_table')} ORDER BY 1`,
  );
  return rows.map(row => row.name as string);
}

async function callEach(
  connection: Connection,
  name: Required<LoopName>,
): Promise<Map<Procedure, Answer | MySqlError>> {
  const calls = new Map<Procedure, Answer | MySqlError>();
  for (const procedure of PROCEDURES) {
    try {
      calls.set(procedure, await call(connection, qualifiedName(name), procedure, NO_IDS[procedure]));
    } catch (error) {
      if ((error as MySqlError).fatal) throw error;
      calls.set(procedure, error as MySqlError);
      if ((error as MySqlError).errno === LOCK_WAIT_TIMEOUT) break; // the others would wait for as long
    }
  }
  return calls;
}

/** The errors of the calls that failed, by procedure. */
export function failures({ calls }: Facts): [Procedure, MySqlError][] {
  return [...calls].filter((entry): entry is [Procedure, MySqlError] => entry[1] instanceof Error);
}
