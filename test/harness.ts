/** What the tests of the procedures and the client have in common: a database for each file, on the server under test. */
import assert from 'node:assert/strict';
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
