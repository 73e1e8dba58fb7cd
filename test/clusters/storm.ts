/**
 * Workers on several servers, and a record of what they were given and told. Each id is due once: who gets one that was
 * given before has been given it while another held it.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, Pool, PoolNamespace, RowDataPacket } from 'mysql2/promise';
import { connected } from '../../scripts/cluster/account.js';
import { DoLoop } from '../../src/index.js';
import type { MySqlError } from '../../src/mysql.js';
import { until } from '../until.js';

/** So many ids at once. */
const BATCH = 50;
const PAUSE_MS = 100;
/** For how long a plain caller calls again. */
const PATIENCE_MS = 60_000;

/** The error by its number or, where the server did not answer, its code. */
export const nameOf = (error: unknown) => String((error as MySqlError).errno ?? (error as MySqlError).code);

export class Storm {
  /** The loop, with its database. */
  readonly table: string;
  /** Who was given an id first. */
  readonly holders = new Map<number, string>();
  /** Ids that were given to another, too. */
  readonly doubles: string[] = [];
  /** Ids of which somebody was told that they are marked as updated. */
  readonly acknowledged = new Set<number>();
  /** Errors that came to those who call by plain SQL, and to the client, whether or not it called again: how many of each. */
  readonly errors = { plain: new Map<string, number>(), client: new Map<string, number>() };
  /** When answers came, ms. */
  readonly answers: number[] = [];

  constructor(table: string) {
    this.table = table;
  }

  /** Works by `loop.work()` until nothing is due. */
  async byClient(who: string, pool: Pool | PoolNamespace): Promise<void> {
    const loop = new DoLoop(counting(pool, this.errors.client), this.table);
    const handler = (batch: readonly number[]) => this.#take(batch, who);
    await loop.work(handler, {
      batch: true,
      maxIds: BATCH,
      once: true,
      onEvent: event => {
        if (event.type === 'did') this.#acknowledge(event.ids);
      },
    });
  }

  /** Works by plain SQL until nothing is due; calls again after each error, whatever it is. */
  async byPlainSql(who: string, pool: Pool): Promise<void> {
    for (;;) {
      const got = await this.#persist(pool, 'get', [BATCH, null, null]);
      const ids = got.map(({ id }) => id as number);
      if (ids.length === 0) return;
      this.#take(ids, who);
      await this.#persist(pool, 'did', [JSON.stringify(ids), false, got[0]!.lock_until]);
      this.#acknowledge(ids);
    }
  }

  /** The longest time without an answer, ms. */
  get longestGap(): number {
    return Math.max(...this.answers.slice(1).map((time, i) => time - this.answers[i]!));
  }

  #take(ids: readonly number[], who: string): void {
    this.answers.push(performance.now());
    for (const id of ids) {
      const other = this.holders.get(id);
      if (other !== undefined) this.doubles.push(`${id}: ${other} and ${who}`);
      this.holders.set(id, who);
    }
  }

  #acknowledge(ids: readonly number[]): void {
    this.answers.push(performance.now());
    for (const id of ids) this.acknowledged.add(id);
  }

  async #persist(pool: Pool, procedure: string, args: unknown[]): Promise<RowDataPacket[]> {
    for (const deadline = performance.now() + PATIENCE_MS; ; await sleep(Math.random() * PAUSE_MS)) {
      try {
        const [sets] = await pool.query<RowDataPacket[][]>(`CALL ${this.table}_${procedure}(?, ?, ?)`, args);
        return sets[0]!;
      } catch (error) {
        count(this.errors.plain, error);
        if (performance.now() > deadline) throw error;
      }
    }
  }
}

function count(errors: Map<string, number>, error: unknown): void {
  errors.set(nameOf(error), (errors.get(nameOf(error)) ?? 0) + 1);
}

/** A pool that counts the errors of what is asked of its connections. */
function counting(pool: Pool | PoolNamespace, errors: Map<string, number>): Pool | PoolNamespace {
  const heard = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(real, key) {
        const value: unknown = Reflect.get(real, key);
        if (typeof value !== 'function') return value;
        if (key !== 'query' && key !== 'getConnection') return value.bind(real);
        return async (...args: unknown[]) => {
          try {
            const answer = await value.apply(real, args);
            return key === 'query' ? answer : heard(answer);
          } catch (error) {
            count(errors, error);
            throw error;
          }
        };
      },
    });
  return heard(pool);
}

/** Waits for the workers of a storm; `disturb` is called when a fourth of the ids is given. */
export async function disturbed(
  storm: Storm,
  size: number,
  workers: readonly Promise<void>[],
  disturb: () => Promise<void>,
): Promise<void> {
  const all = Promise.all(workers);
  all.catch(() => {}); // is awaited below
  await until('a fourth is given', () => storm.holders.size > size / 4);
  await disturb();
  await all;
}

/** Says what a test has seen, for people. */
export function tell(t: { diagnostic(message: string): void }, storm: Storm, more = ''): void {
  const errors = Object.entries(storm.errors).map(([who, counts]) => {
    const all = [...counts].map(([error, times]) => `${error} ${times} times`);
    return `${who}: ${all.join(', ') || 'no errors'}`;
  });
  t.diagnostic(`${storm.holders.size} ids; ${errors.join('; ')}${more}`);
}

/** Errors other than these came to nobody. */
export function assertOnly(storm: Storm, errors: readonly string[]): void {
  const others = [...storm.errors.client.keys(), ...storm.errors.plain.keys()].filter(error => !errors.includes(error));
  assert.deepEqual(others, []);
}

/** A row for each id that a server has: when its last update and its lock end, as they stand in the table. */
export async function rowsOn(url: string, table: string): Promise<Map<number, RowDataPacket>> {
  const [rows] = await connected(url, connection =>
    connection.query<RowDataPacket[]>(`SELECT * FROM ${table} ORDER BY id`),
  );
  return new Map(rows.map(row => [row.id as number, row]));
}

/**
 * Nobody was given another's id, and on each of these servers all ids are there, and marked as updated where somebody was
 * told so. Answers how many ids are locked though nobody was given them.
 */
export async function assertKept(storm: Storm, size: number, urls: readonly string[]): Promise<number> {
  assert.deepEqual(storm.doubles, []);
  let first: [number, RowDataPacket][] | undefined;
  for (const url of urls) {
    const rows = await rowsOn(url, storm.table);
    assert.equal(rows.size, size, 'all ids are there');
    const lost = [...storm.acknowledged].filter(id => rows.get(id)!.last_updated === null);
    assert.deepEqual(lost, [], 'acknowledged, and not updated');
    first ??= [...rows];
    assert.deepEqual([...rows], first, 'the servers differ');
  }
  return first!.filter(([id, row]) => row.lock_until !== null && !storm.holders.has(id)).length;
}

/** Calls that read, in a loop that has the ids 1 to 3. */
export const READING = ["check('[1, 2, 3]')", "stats('[60]')", 'next(NULL)'];
/** And one of each procedure that writes. */
const WRITING = [
  ...['get(2, NULL, NULL)', "did('[1]', NULL, NULL)", "add('[9]', NULL)", "remove('[2]')", 'bump(3, NULL, NULL)'],
  ...['unlock(1, NULL, NULL)', 'extend(1, NULL, NULL)', 'fail(1, NULL, NULL)'],
];

/** Every procedure that writes is refused, as read-only, to who calls it here. */
export async function refusesToWrite(connection: Connection, table: string): Promise<void> {
  for (const call of WRITING) {
    const refused = connection.query(`CALL ${table}_${call}`);
    await assert.rejects(refused, { errno: 1290, message: /read.only/ }, call);
  }
}
