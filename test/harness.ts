/** What the tests of the procedures and the client have in common: a database for each file, on the server under test. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { basename } from 'node:path';
import { after } from 'node:test';
import mysql, {
  type Connection,
  type ConnectionOptions,
  type Pool,
  type PoolOptions,
  type RowDataPacket,
} from 'mysql2/promise';
import { type CreateOptions, create, DoLoop, type LoopId } from '../src/index.js';

/** The server under test, as scripts/test.ts hands it over. */
export const server = JSON.parse(process.env.DOLOOP_TEST_SERVER ?? 'null') as {
  kind: 'mariadb' | 'mysql';
  version: string;
  url: string;
  /** Runs the server's own console as root; its other arguments go behind. */
  console?: string[];
};
assert.ok(server, 'run the tests with `npm test`: it brings the servers');

const file = basename(process.argv[1]!, '.test.js').replaceAll(/\W/g, '_');

/** This file's database, dropped in the end. */
export const database = `test_${file}_${process.pid}`;

const root = await mysql.createConnection({ uri: server.url });
await root.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
const ends: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const end of ends) await end();
  await root.query(`DROP DATABASE ${database}`);
  await root.end();
});

/** A connection of root to this file's database, closed in the end. */
export async function connect(options: ConnectionOptions = {}): Promise<Connection> {
  const connection = await mysql.createConnection({ uri: server.url, database, ...options });
  ends.push(async () => connection.destroy());
  return connection;
}

/** A pool of root's connections to this file's database, closed in the end. */
export function makePool(options: PoolOptions = {}): Pool {
  const pool = mysql.createPool({ uri: server.url, database, ...options });
  ends.push(() => pool.end());
  return pool;
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

/** The whole table, by id, as plain objects; times as they stand in it. */
export async function contents(connection: Connection | Pool, table: string): Promise<object[]> {
  const all = await rows(connection, `SELECT id, last_updated, lock_until, failures FROM \`${table}\` ORDER BY id`);
  return all.map(row => ({ ...row }));
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
