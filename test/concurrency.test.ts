import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pool } from 'mysql2/promise';
import { DoLoop } from '../src/index.js';
import type { Procedure } from '../src/render.js';
import { callProcedure, connect, contents, makeLoop, makePool, rows } from './harness.js';
import { quickOrLong } from './long.js';

/** Numbers that look random, and are the same in each run. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

/**
 * Ids by what is done with them. `work`: only who got them does anything with them, so each has one holder at a time.
 * `shared`: anyone does anything with them but remove them. `churned`: anyone adds and removes them. `fresh`: they come
 * in by being done, unlocked or bumped.
 */
const ranges = { work: 0, shared: 10_000, churned: 20_000, fresh: 30_000 };
const sizes = { work: 400, shared: 80, churned: 80, fresh: 300 };
type Range = keyof typeof ranges;
const isIn = (range: Range, id: number) => id > ranges[range] && id <= ranges[range] + sizes[range];
const allOf = (range: Range) => Array.from({ length: sizes[range] }, (_, i) => ranges[range] + i + 1);

/** Who holds which ids of `work`, as the test knows it. */
class Holders {
  readonly #holders = new Map<number, string>();
  readonly conflicts: string[] = [];
  taken = 0;

  /** Right after an answer. */
  take(holder: string, ids: number[]): void {
    for (const id of ids) {
      const other = this.#holders.get(id);
      if (other !== undefined) this.conflicts.push(`${id}: ${holder} got it while ${other} had it`);
      this.#holders.set(id, holder);
      this.taken += 1;
    }
  }

  /** Before the call is sent: from then on anyone may get them. */
  release(ids: number[]): void {
    for (const id of ids) this.#holders.delete(id);
  }
}

/** What came of a day that many worked on. */
class Day {
  readonly holders = new Holders();
  /** How many ids of `churned` were put in, less those taken out. */
  churned = 0;
  readonly fresh = new Set<number>();
}

/** What may be done with ids by who got them, and by anyone. */
const finishing: [Procedure, ...unknown[]][] = [['did'], ['did', false], ['unlock'], ['unlock', false], ['fail', 0]];
const meddling: [Procedure, Range, ...unknown[]][] = [
  ['add', 'shared'],
  ['did', 'shared'],
  ['did', 'shared', false],
  ['unlock', 'shared'],
  ['bump', 'shared', -50],
  ['bump', 'shared', 0, false],
  ['fail', 'shared', 1],
  ['extend', 'shared'],
  ['check', 'shared'],
  ['add', 'fresh', true],
  ['did', 'fresh'],
  ['unlock', 'fresh'],
  ['bump', 'fresh'],
];

/** A worker of ours: plain calls, and the client for what adds and removes the same ids, which may deadlock. */
async function work(number: number, table: string, pool: Pool, rounds: number, day: Day): Promise<void> {
  const name = `worker ${number}`;
  const session = await connect();
  const loop = new DoLoop(pool, table);
  const random = randomFrom(number * 7919);
  const call = (procedure: Procedure, ids: number[] | number, ...args: unknown[]) =>
    callProcedure(session, table, procedure, JSON.stringify(ids), ...args);
  /** Some of a range, in no order, perhaps twice. */
  const some = (range: Range) => Array.from({ length: 1 + random(40) }, () => ranges[range] + 1 + random(sizes[range]));
  for (let round = 0; round < rounds; round += 1) {
    const got = await call('get', [2, 20, 60][random(3)]!, 3600, 0);
    const own = got.map(({ id }) => id as number).filter(id => isIn('work', id));
    day.holders.take(name, own);
    if (random(3) === 0) await call('extend', own, 7200, got[0]?.lock_until);
    const [finish, ...how] = finishing[random(finishing.length)]!;
    day.holders.release(own);
    await call(finish, own, ...how);

    for (let times = 0; times < 4; times += 1) {
      const [meddle, range, ...args] = meddling[random(meddling.length)]!;
      const ids = some(range);
      if (range === 'fresh') for (const id of ids) day.fresh.add(id);
      await call(meddle, ids, ...args);
    }

    const added = await loop.add(some('churned'), { updated: random(2) === 0 });
    await loop.did(some('churned'), { autoAdd: false });
    await loop.fail(some('churned'), { retryIn: 0 });
    const removed = await loop.remove(some('churned'));
    day.churned += added - removed;
  }
  session.destroy();
}

/** A worker of the original system: locks the table, and reads and writes its columns. */
async function workAsOriginal(number: number, table: string, rounds: number, day: Day): Promise<void> {
  const name = `original ${number}`;
  const session = await connect();
  const random = randomFrom(number * 104_729);
  await session.query('SET autocommit = 0');
  const locked = async (body: () => Promise<void>) => {
    await session.query(`LOCK TABLES ${table} WRITE`);
    await body();
    await session.query('COMMIT');
    await session.query('UNLOCK TABLES');
  };
  for (let round = 0; round < rounds; round += 1) {
    const max = 1 + random(15);
    const ids: number[] = [];
    await locked(async () => {
      for (const [condition, order] of [
        ['lock_until <= UNIX_TIMESTAMP()', 'lock_until, last_updated'],
        ['lock_until IS NULL AND (last_updated IS NULL OR last_updated <= UNIX_TIMESTAMP())', 'last_updated'],
      ]) {
        const limit = max - ids.length;
        const found = await rows(
          session,
          `SELECT id FROM ${table} WHERE ${condition} ORDER BY ${order} LIMIT ${limit}`,
        );
        ids.push(...found.map(({ id }) => id as number));
      }
      if (ids.length > 0) {
        await session.query(`UPDATE ${table} SET lock_until = UNIX_TIMESTAMP() + 3600 WHERE id IN (${ids.join()})`);
      }
    });
    const own = ids.filter(id => isIn('work', id));
    day.holders.take(name, own);
    if (own.length === 0) continue;
    day.holders.release(own);
    await locked(async () => {
      await session.query(`INSERT IGNORE INTO ${table} (id) VALUES ${own.map(id => `(${id})`).join()}`);
      const done = 'last_updated = UNIX_TIMESTAMP(), lock_until = NULL';
      await session.query(`UPDATE ${table} SET ${done} WHERE id IN (${own.join()})`);
    });
  }
  session.destroy();
}

const root = await connect();

async function live(workers: number, originals: number, rounds: number): Promise<void> {
  const { table, loop } = await makeLoop(root);
  await loop.add([...allOf('work'), ...allOf('shared')]);
  const day = new Day();
  const pool = makePool({ connectionLimit: workers });
  await Promise.all([
    ...Array.from({ length: workers }, (_, i) => work(i + 1, table, pool, rounds, day)),
    ...Array.from({ length: originals }, (_, i) => workAsOriginal(i + 1, table, rounds, day)),
  ]);

  assert.deepEqual(day.holders.conflicts, []);
  assert.ok(day.holders.taken > (workers + originals) * rounds, 'there was work for all');
  const left = await contents(root, table);
  const idsIn = (range: Range) => left.map(({ id }) => id as number).filter(id => isIn(range, id));
  assert.deepEqual(idsIn('work'), allOf('work'));
  assert.deepEqual(idsIn('shared'), allOf('shared'));
  assert.deepEqual(
    idsIn('fresh'),
    [...day.fresh].sort((a, b) => a - b),
  );
  assert.equal(idsIn('churned').length, day.churned, 'added less removed');
  assert.equal(left.length, sizes.work + sizes.shared + day.fresh.size + day.churned, 'and nothing else is there');
  const gettable = await loop.get(10_000, { minLoopTime: 0 });
  assert.deepEqual(
    [...gettable].filter(id => isIn('work', id)).sort((a, b) => a - b),
    allOf('work'),
    'none of them is left locked',
  );
}

test('16 connections get, finish, fail, extend, bump, add and remove at once: no call fails, no id has two holders, none is lost', async () => {
  await live(16, 0, 12);
});

test('workers of the original on the same table: no call fails, no id has two holders, none is lost', async () => {
  await live(6, 4, 15);
});

for (const errno of [3101, 1180]) {
  test(`a conflict of a cluster (${errno}) in a later claim of a get: what it had claimed before is answered, and nothing else is locked`, async () => {
    const root = await connect();
    const { table, loop } = await makeLoop(root);
    await loop.add([1, 2, 9]);
    await loop.extend(await loop.get(3));
    await loop.unlock([1, 2]);
    // The first claim finds that 2 can't be had; the next one, for 2 alone, is undone.
    await root.query(`CREATE TRIGGER ${table}_conflict BEFORE INSERT ON ${table} FOR EACH ROW
      IF NEW.id = 2 AND @claims = 1 THEN
        SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = ${errno}, MESSAGE_TEXT = 'as ordered';
      ELSEIF NEW.id = 2 THEN
        SET @claims = 1, NEW.id = 9;
      END IF`);
    const got = await callProcedure(root, table, 'get', 2, 60, null);
    assert.deepEqual(
      got.map(({ id }) => id),
      [1],
    );
    await root.query(`SET @claims = 1`);
    await assert.rejects(callProcedure(root, table, 'get', 2, 60, null), { errno });
    await root.query(`DROP TRIGGER ${table}_conflict`);
    const next = await callProcedure(root, table, 'get', 5, 60, null);
    assert.deepEqual(
      next.map(({ id }) => id),
      [2],
    );
  });
}

test('get gives as many as there are, however often others unlock and bump meanwhile what it has claimed', async () => {
  const { table, loop } = await makeLoop(await connect());
  await loop.add(Array.from({ length: 60 }, (_, i) => i + 1));
  const end = performance.now() + quickOrLong(4_000, 60_000);
  const meddle = async (number: number) => {
    const random = randomFrom(number * 7919);
    const its = new DoLoop(await connect(), table);
    while (performance.now() < end) {
      const ids = Array.from({ length: 1 + random(4) }, () => 1 + random(15));
      await (random(2) === 0 ? its.unlock(ids) : its.bump(ids));
    }
  };
  const meddling = Promise.all(Array.from({ length: 12 }, (_, i) => meddle(i + 1)));
  const counts = new Set<number>();
  while (performance.now() < end) {
    const ids = [...(await loop.get(20, { minLoopTime: 0 }))];
    counts.add(new Set(ids).size);
    await loop.unlock(ids);
  }
  await meddling;
  assert.deepEqual([...counts], [20]);
});
