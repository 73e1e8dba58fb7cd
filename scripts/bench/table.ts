/** The loops that are measured: many ids, put in fast. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { create, drop } from '../../src/index.js';
import { type Bench, count } from './section.js';

export const DATABASE = 'doloop_bench';

/** When the stalest and the freshest ids of a new loop were last updated: so many seconds ago. */
const STALEST = 864_000;
const FRESHEST = 4_000;
/** Rows of one INSERT: few enough to be committed easily, enough to take no time by themselves. */
const CHUNK = 200_000;
const DIGITS = 1_000;

/**
 * Makes a loop of the ids from 1 to `size`, all of them updated once, the smallest first: the order that a loop has
 * after a round, where the ids of each second lie by their key. The server's statistics are fresh.
 *
 * @param progress told how many ids are in.
 */
export async function makeLoop(
  connection: Connection,
  table: string,
  size: number,
  progress: (done: number) => void = () => {},
): Promise<void> {
  await create(connection, table);
  await connection.query('SET sql_log_bin = 0');
  await connection.query('CREATE TEMPORARY TABLE digit (n INT PRIMARY KEY)');
  await connection.query('INSERT INTO digit VALUES ?', [Array.from({ length: DIGITS }, (_, n) => [n])]);
  await connection.query('CREATE TEMPORARY TABLE thousand LIKE digit');
  for (let from = 0; from < size; from += CHUNK) {
    const to = Math.min(from + CHUNK, size);
    await connection.query('DELETE FROM thousand');
    const thousands = Array.from({ length: Math.ceil((to - from) / DIGITS) }, (_, n) => [from / DIGITS + n]);
    await connection.query('INSERT INTO thousand VALUES ?', [thousands]);
    await connection.query(
      `INSERT INTO ${table} (id, last_updated)
        SELECT id, UNIX_TIMESTAMP() - ? + FLOOR(id * ? / ?)
        FROM (SELECT thousand.n * ? + digit.n + 1 AS id FROM thousand STRAIGHT_JOIN digit) AS ids
        WHERE id <= ?`,
      [STALEST, STALEST - FRESHEST, size, DIGITS, to],
    );
    progress(to);
  }
  await connection.query('DROP TEMPORARY TABLE digit, thousand');
  await connection.query(`ANALYZE TABLE ${table}`);
  await connection.query('SET sql_log_bin = 1');
}

export async function dropLoop(connection: Connection, table: string): Promise<void> {
  await drop(connection, table, { table: true });
}

/** A loop of many ids that more than one section reads, each leaving it unlocked: made by the first that needs it. */
export async function largeLoop(bench: Bench): Promise<{ table: string; size: number }> {
  const [table, size] = ['large_loop', bench.quick ? 1_000_000 : 10_000_000];
  const connection = await bench.open();
  const [found] = await connection.query<RowDataPacket[]>('SHOW TABLES LIKE ?', [table]);
  if (found.length === 0) {
    await makeLoop(connection, table, size, done =>
      bench.progress(done / size, `putting ids in: ${count(done)} of ${count(size)}`),
    );
  }
  return { table, size };
}
