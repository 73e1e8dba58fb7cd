/** Who competes: each does the same, getting ids and reporting them as done, on a connection of its own. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { DoLoop } from '../../src/index.js';

export interface Contender {
  /** Before a turn: what the session needs. Not timed. */
  begin(): Promise<void>;
  /** Locks at most n ids for an hour and answers them, by priority. All that were updated before now are due. */
  get(n: number): Promise<number[]>;
  /** Marks what `get` answered as updated, and unlocks it. */
  did(ids: number[]): Promise<void>;
}

export type MakeContender = (connection: Connection, table: string) => Contender;

async function selectIds(connection: Connection, sql: string): Promise<number[]> {
  const [rows] = await connection.query<RowDataPacket[]>(sql);
  return rows.map(row => row.id);
}

/** Ours: a call of a procedure each, by the client. */
const doloop: MakeContender = (connection, table) => {
  const loop = new DoLoop(connection, table);
  return {
    begin: async () => {},
    get: n => loop.get(n, { minLoopTime: 0 }),
    async did(ids) {
      await loop.did(ids);
    },
  };
};

/**
 * The best that was found to be written by hand, with mysql2 as it comes: a transaction at READ COMMITTED, row locks that
 * nobody waits for, each range by itself in the order of the index.
 *
 * Tried, on both servers: the never updated and the stale each by themselves (a statement more; about 15 % slower on
 * MariaDB, no difference on MySQL); prepared statements; rows as arrays; `INSERT … ON DUPLICATE KEY UPDATE` instead of
 * either UPDATE: none was better on both, and most of the differences were within the noise. BEGIN and COMMIT in one query
 * with others save two round trips, but take a connection with `multipleStatements`, which a careful application does
 * without, since it turns an injection into anything. All ranges in one UNION ALL seemed faster with few ids, but is
 * wrong: MariaDB locks the ids of every part, and others pass over the stalest though nobody takes them.
 */
const byHand: MakeContender = (connection, table) => {
  const select = (where: string, order: string, n: number) =>
    selectIds(
      connection,
      `SELECT id FROM ${table} FORCE INDEX (lock_until) WHERE ${where} ORDER BY ${order} LIMIT ${n} FOR UPDATE SKIP LOCKED`,
    );
  return {
    async begin() {
      await connection.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
    },
    async get(n) {
      await connection.beginTransaction();
      const ids = await select('lock_until <= UNIX_TIMESTAMP()', 'lock_until, last_updated', n);
      if (ids.length < n) {
        const where = 'lock_until IS NULL AND (last_updated IS NULL OR last_updated <= UNIX_TIMESTAMP())';
        for (const id of await select(where, 'last_updated', n - ids.length)) ids.push(id);
      }
      if (ids.length > 0) {
        await connection.query(`UPDATE ${table} SET lock_until = UNIX_TIMESTAMP() + 3600 WHERE id IN (${ids.join()})`);
      }
      await connection.commit();
      return ids;
    },
    async did(ids) {
      await connection.query(
        `UPDATE ${table} SET last_updated = UNIX_TIMESTAMP(), lock_until = NULL, failures = 0 WHERE id IN (${ids.join()})`,
      );
    },
  };
};

/** The original's way, statement by statement: the whole table is locked. */
const original: MakeContender = (connection, table) => ({
  async begin() {
    await connection.query('SET autocommit = 0');
  },
  async get(n) {
    await connection.query(`LOCK TABLES ${table} WRITE`);
    const ids = await selectIds(
      connection,
      `SELECT id FROM ${table} WHERE lock_until <= UNIX_TIMESTAMP() ORDER BY lock_until, last_updated LIMIT ${n}`,
    );
    if (ids.length < n) {
      const more = await selectIds(
        connection,
        `SELECT id FROM ${table}
          WHERE lock_until IS NULL AND (last_updated IS NULL OR last_updated <= UNIX_TIMESTAMP())
          ORDER BY last_updated LIMIT ${n - ids.length}`,
      );
      for (const id of more) ids.push(id);
    }
    if (ids.length > 0) {
      await connection.query(`UPDATE ${table} SET lock_until = UNIX_TIMESTAMP() + 3600 WHERE id IN (${ids.join()})`);
    }
    await connection.query('COMMIT');
    await connection.query('UNLOCK TABLES');
    return ids;
  },
  async did(ids) {
    await connection.query(`LOCK TABLES ${table} WRITE`);
    await connection.query(`INSERT IGNORE INTO ${table} (id) VALUES (${ids.join('), (')})`);
    await connection.query(
      `UPDATE ${table} SET last_updated = UNIX_TIMESTAMP(), lock_until = NULL WHERE id IN (${ids.join()})`,
    );
    await connection.query('COMMIT');
    await connection.query('UNLOCK TABLES');
  },
});

/**
 * No contender, but the limit: nothing is picked, a range of keys is changed twice, from the stalest id on. It has to be
 * alone, on a loop whose stale ids lie by their key.
 */
const limit: MakeContender = (connection, table) => {
  let from = 1;
  let last = 0;
  const update = (ids: number[], change: string) =>
    connection.query(`UPDATE ${table} SET ${change} WHERE id BETWEEN ${ids[0]} AND ${ids.at(-1)}`);
  return {
    async begin() {
      [from = 1] = await selectIds(
        connection,
        `SELECT id FROM ${table} FORCE INDEX (lock_until) ORDER BY lock_until, last_updated, id LIMIT 1`,
      );
      [last = 0] = await selectIds(connection, `SELECT MAX(id) AS id FROM ${table}`);
    },
    async get(n) {
      if (from > last) from = 1;
      const ids = Array.from({ length: Math.min(n, last - from + 1) }, (_, i) => from + i);
      from += ids.length;
      await update(ids, 'lock_until = UNIX_TIMESTAMP() + 3600');
      return ids;
    },
    async did(ids) {
      await update(ids, 'last_updated = UNIX_TIMESTAMP(), lock_until = NULL, failures = 0');
    },
  };
};

export const CONTENDERS = { doloop, byHand, original, limit } satisfies Record<string, MakeContender>;
export type ContenderName = keyof typeof CONTENDERS;
