/** What the tests of the procedures and the client have in common: a database for each file, on the server under test. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { basename } from 'node:path';
import { after } from 'node:test';
import mysql, {
  type Connection,
  type ConnectionOptions,
  type FieldPacket,
  type Pool,
  type PoolOptions,
  type QueryOptions,
  type ResultSetHeader,
  type RowDataPacket,
} from 'mysql2/promise';
import { type CreateOptions, create, DoLoop, type LoopId } from '../src/index.js';
import type { Procedure } from '../src/render.js';

/** The server under test, as scripts/test.ts hands it over. */
export const server = JSON.parse(process.env.DOLOOP_TEST_SERVER ?? 'null') as {
  kind: 'mariadb' | 'mysql';
  version: string;
  url: string;
  /** Runs the server's own console as root; its other arguments go behind. */
  console?: string[];
  /** The same for its dump program. */
  dump?: string[];
};
assert.ok(server, 'run the tests with `npm test`: it brings the servers');

const file = basename(process.argv[1]!, '.test.js').replaceAll(/\W/g, '_');

/** This file's database, dropped in the end. */
export const database = `test_${file}_${process.pid}`;

/** A busy machine may take long to answer. */
const connectTimeout = 120_000;

const root = await mysql.createConnection({ uri: server.url, connectTimeout });
await root.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
const ends: (() => Promise<unknown>)[] = [];
after(async () => {
  await Promise.all(ends.map(end => end())); // at once, since one may wait for what another has locked
  await root.query(`DROP DATABASE ${database}`);
  await root.end();
});

/** Another database of this file, with other defaults (`CHARACTER SET latin1`), dropped in the end; its name. */
export async function makeDatabase(defaults: string): Promise<string> {
  const name = `${database}_${ends.length}`;
  await root.query(`CREATE DATABASE ${name} ${defaults}`);
  ends.push(() => root.query(`DROP DATABASE ${name}`));
  return name;
}

/** A connection of root to this file's database, closed in the end. */
export async function connect(options: ConnectionOptions = {}): Promise<Connection> {
  const connection = await mysql.createConnection({ uri: server.url, database, connectTimeout, ...options });
  ends.push(async () => connection.destroy());
  return connection;
}

/** A pool of root's connections to this file's database, closed in the end. */
export function makePool(options: PoolOptions = {}): Pool {
  const pool = mysql.createPool({ uri: server.url, database, connectTimeout, ...options });
  ends.push(() => pool.end());
  return pool;
}

let accounts = 0;

/** A new account that may do this on the database, dropped in the end: its name for SQL, and as whom to connect. */
export async function makeAccount(...privileges: string[]): Promise<{ account: string; who: ConnectionOptions }> {
  accounts += 1;
  const user = `${database}'\`${accounts}`;
  const account = `'${user.replaceAll("'", "''")}'@'%'`;
  await root.query(`CREATE USER ${account} IDENTIFIED BY 'secret'`);
  ends.push(() => root.query(`DROP USER ${account}`));
  if (privileges.length > 0) await root.query(`GRANT ${privileges.join(', ')} ON ${database}.* TO ${account}`);
  return { account, who: { user, password: 'secret' } };
}

/** Rows of a query, the first result set of a CALL. */
export async function rows(
  connection: Connection | Pool,
  sql: string,
  values: unknown[] = [],
): Promise<RowDataPacket[]> {
  const [result] = await connection.query<RowDataPacket[] | RowDataPacket[][]>(sql, values);
  return (Array.isArray(result[0]) ? result[0] : result) as RowDataPacket[];
}

let loops = 0;

/** A new, empty loop of its own, and the client for it. */
export async function makeLoop<Id extends LoopId = number>(
  target: Connection | Pool,
  options: CreateOptions = {},
): Promise<{ table: string; loop: DoLoop<Id> }> {
  loops += 1;
  const table = `l${loops}_loop`;
  await create(target, table, options);
  return { table, loop: new DoLoop<Id>(target, table) };
}

/** A row of a loop's table. */
export type Row = { id: LoopId; last_updated: number | null; lock_until: number | null; failures: number };

/** The whole table, by id, as plain objects; times as they stand in it. */
export async function contents(connection: Connection | Pool, table: string): Promise<Row[]> {
  const all = await rows(connection, `SELECT id, last_updated, lock_until, failures FROM \`${table}\` ORDER BY id`);
  return all.map(row => ({ ...row }) as Row);
}

/** Where a session's clock stands still: Unix time, s. */
export const NOW = 1_800_000_000;

/**
 * Stops the clock of the session, for the procedures, too: times in the table are then known to the second, and an hour
 * passes by setting it again. A pool must have one connection.
 */
export async function setClock(target: Connection | Pool, now = NOW): Promise<void> {
  await target.query(`SET timestamp = ${now}`);
}

/** A row with its times in seconds from NOW. */
export function row(id: LoopId, times: { updated?: number; until?: number; failures?: number } = {}): Row {
  const { updated, until, failures = 0 } = times;
  const time = (seconds: number | undefined) => (seconds === undefined ? null : NOW + seconds);
  return { id, last_updated: time(updated), lock_until: time(until), failures };
}

/** Makes these rows, and no others, the loop's. */
export async function put(connection: Connection | Pool, table: string, all: readonly Row[]): Promise<void> {
  await fill(
    connection,
    table,
    all.map(one => Object.values(one) as RowValues),
  );
}

/** A pool or connection that passes all on to this one, and before that each statement to `hear`, which may answer instead. */
export function standIn<T extends Connection | Pool>(target: T, hear: (sql: string) => object[] | undefined): T {
  return new Proxy(target, {
    get(real, key) {
      if (key === 'query') {
        return (options: QueryOptions) => {
          const answer = hear(options.sql);
          return answer ? Promise.resolve([answer, []]) : real.query(options);
        };
      }
      if (key === 'getConnection') return async () => standIn(await (real as Pool).getConnection(), hear);
      const value: unknown = Reflect.get(real, key);
      return typeof value === 'function' ? value.bind(real) : value;
    },
  });
}

/** Whether the session has a transaction open. */
export async function inTransaction(connection: Connection | Pool): Promise<boolean> {
  const [{ serverStatus }] = await connection.query<ResultSetHeader>('DO 0');
  return (serverStatus & 1) !== 0;
}

/**
 * Whether one of these sessions waits for a row that another has locked. (information_schema.innodb_trx would be a copy,
 * which grows old as long as anybody asks for it often.)
 */
export async function waitsForRow(...threadIds: number[]): Promise<boolean> {
  const [{ Status: status }] = (await rows(root, 'SHOW ENGINE INNODB STATUS')) as [{ Status: string }];
  const waiting = status.split('---TRANSACTION').filter(one => one.includes('LOCK WAIT'));
  return threadIds.some(id => waiting.some(one => one.includes(`thread id ${id},`)));
}

/** Runs statements in the server's own console; its output, with what it says of errors in between. */
export function inConsole(args: string[], input: string): string {
  assert.ok(server.console, "the server's console is not installed");
  const command = [...server.console, '--default-character-set=utf8mb4', ...args, database];
  const { stdout, error } = spawnSync('sh', ['-c', 'exec "$@" 2>&1', 'sh', ...command], { input, encoding: 'utf8' });
  if (error) throw error;
  return stdout;
}

/** The isolation level of the next transaction of a session, by what it lets it see. */
export async function isolation(session: Connection): Promise<string> {
  const probe = `${database}.isolation_probe`;
  await root.query(`CREATE TABLE IF NOT EXISTS ${probe} (n INT PRIMARY KEY) ENGINE=InnoDB`);
  await root.query(`INSERT INTO ${probe} VALUES (0) ON DUPLICATE KEY UPDATE n = n`);
  const seen = async () => (await rows(session, `SELECT COUNT(*) AS n FROM ${probe}`))[0]!.n as number;
  await session.query('START TRANSACTION');
  const before = await seen();
  await root.query('START TRANSACTION');
  const unlocked = await rows(root, `SELECT n FROM ${probe} FOR UPDATE SKIP LOCKED`);
  try {
    if (unlocked.length < before) return 'SERIALIZABLE';
    await root.query(`INSERT INTO ${probe} SELECT MAX(n) + 1 FROM ${probe}`);
    if ((await seen()) > before) return 'READ UNCOMMITTED';
    await root.query('COMMIT');
    return (await seen()) > before ? 'READ COMMITTED' : 'REPEATABLE READ';
  } finally {
    await root.query('ROLLBACK');
    await session.query('ROLLBACK AND NO CHAIN NO RELEASE');
  }
}

/** A connection of root on which time stands still, at NOW: what the procedures write and answer is known to the second. */
export async function connectFrozen(options: ConnectionOptions = {}): Promise<Connection> {
  const connection = await connect(options);
  await setClock(connection);
  return connection;
}

/** What each procedure takes and what columns it answers, in order, as the contract has it. */
export const SIGNATURES: Record<Procedure, { takes: string[]; answers: string[] }> = {
  add: { takes: ['ids', 'updated'], answers: ['added'] },
  remove: { takes: ['ids'], answers: ['removed'] },
  get: { takes: ['max_ids', 'lock_for', 'min_loop_time'], answers: ['id', 'lock_until'] },
  did: { takes: ['ids', 'auto_add', 'lease'], answers: ['updated'] },
  unlock: { takes: ['ids', 'auto_add', 'lease'], answers: ['unlocked'] },
  bump: { takes: ['ids', 'lock_for', 'auto_add'], answers: ['bumped'] },
  extend: { takes: ['ids', 'lock_for', 'lease'], answers: ['extended', 'lock_until'] },
  fail: { takes: ['ids', 'retry_in', 'lease'], answers: ['failed'] },
  check: { takes: ['ids'], answers: ['id', 'since_updated', 'locked_for', 'failures'] },
  stats: {
    takes: ['delay_thresholds'],
    answers: [
      ...['bumped', 'locked', 'min_bump_time', 'max_bump_time', 'min_lock_time', 'max_lock_time'],
      ...['min_update_time', 'max_update_time', 'min_id', 'max_id', 'total', 'never_updated', 'delayed'],
    ],
  },
  next: { takes: ['min_loop_time'], answers: ['due_in'] },
};

/** The procedures whose first argument is ids. */
export const TAKING_IDS = (Object.keys(SIGNATURES) as Procedure[]).filter(one => SIGNATURES[one].takes[0] === 'ids');

/**
 * CALL of a loop's procedure by plain SQL; arguments left out are NULL. Whatever it answers, it answers one result set
 * with the columns of {@link SIGNATURES}.
 */
export async function callProcedure(
  connection: Connection | Pool,
  table: string,
  procedure: Procedure,
  ...args: unknown[]
): Promise<Record<string, unknown>[]> {
  const { takes, answers } = SIGNATURES[procedure];
  const values = takes.map((_, i) => args[i] ?? null);
  const sql = `CALL \`${table}_${procedure}\`(${values.map(() => '?').join(', ')})`;
  const [sets, fields] = await connection.query<RowDataPacket[][]>(sql, values);
  assert.equal(sets.length, 2, `${procedure} answers one result set and a status`);
  const [columns] = fields as unknown as FieldPacket[][];
  assert.deepEqual(
    columns!.map(column => column.name),
    answers,
  );
  return sets[0]!.map(row => ({ ...row }));
}

/** A row of a loop's table, its values in order; what is left out: never updated, unlocked, no failures. */
export type RowValues = [
  id: unknown,
  lastUpdated?: number | null | undefined,
  lockUntil?: number | null | undefined,
  failures?: number | undefined,
];

export function fullRows(rows: RowValues[]): Required<RowValues>[] {
  return rows.map(([id, lastUpdated = null, lockUntil = null, failures = 0]) => [id, lastUpdated, lockUntil, failures]);
}

/** Makes these the rows of the table. */
export async function fill(connection: Connection | Pool, table: string, rows: RowValues[]): Promise<void> {
  await connection.query(`DELETE FROM \`${table}\``);
  if (rows.length === 0) return;
  await connection.query(`INSERT INTO \`${table}\` (id, last_updated, lock_until, failures) VALUES ?`, [
    fullRows(rows),
  ]);
}

/** {@link contents}, as {@link RowValues}s. */
export async function rowsOf(connection: Connection | Pool, table: string): Promise<RowValues[]> {
  return (await contents(connection, table)).map(row => Object.values(row) as RowValues);
}

/** What is no setting of the session: it counts, or tells the time, or whether a transaction is open. */
const noSetting = /gtid|^(timestamp|rand_seed\d|statement_id|in_transaction|error_count|warning_count)$/;

/** All settings of a session. */
export async function settingsOf(session: Connection): Promise<string[]> {
  const all = await rows(session, 'SHOW SESSION VARIABLES');
  return all
    .filter(({ Variable_name }) => !noSetting.test(Variable_name))
    .map(row => `${row.Variable_name}=${row.Value}`);
}
