/**
 * Clocks that are wrong. The server's, which alone decides, steps forth and back: each session here has its own. And the
 * client's, which nothing depends on.
 */
import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import { random } from '../scripts/bench/soak-common.js';
import { DoLoop, type WorkEvent } from '../src/index.js';
import { callProcedure, connectFrozen, contents, makeLoop, makePool, NOW, put, row, setClock } from './harness.js';
import { Claims } from './load.js';
import { quickOrLong } from './long.js';
import { doloop, environment } from './run-doloop.js';
import { until } from './until.js';

const HOUR = 3600;
const connection = await connectFrozen();
const { table, loop } = await makeLoop(connection);
const at = (seconds: number) => setClock(connection, NOW + seconds);
const all = () => contents(connection, table);

test('the clock steps back: what was locked stays so until the clock is there again, and did, extend and fail go on under their leases', async () => {
  await put(connection, table, [row(1), row(2), row(3), row(4)]);
  await at(0);
  const batch = await loop.get(4);
  await at(-5 * HOUR);
  assert.deepEqual([...(await loop.get(4))], []);
  assert.equal(await loop.next(), 6 * HOUR, 'lock_for, and the step');
  assert.equal((await loop.check(1))[0]!.lockedFor, 6 * HOUR);
  assert.equal(await loop.did(batch.slice(0, 1)), 1);
  assert.equal(await loop.fail(batch.slice(1, 2)), 1);
  const extended = batch.slice(2, 3);
  assert.deepEqual(await loop.extend(extended), { extended: 1, lease: NOW - 4 * HOUR });
  assert.deepEqual(await all(), [
    row(1, { updated: -5 * HOUR }),
    row(2, { until: -5 * HOUR + 60, failures: 1 }),
    row(3, { until: -4 * HOUR }),
    row(4, { until: HOUR }),
  ]);
});

test('the clock steps back: bump and unlock mend at once what would be locked for too long', async () => {
  await at(-5 * HOUR);
  for (const [mend, first] of [
    [() => loop.bump([1, 2], { lockFor: 0 }), row(1, { until: -5 * HOUR })],
    [() => loop.unlock([1, 2]), row(1)],
  ] as const) {
    await put(connection, table, [row(1, { until: HOUR }), row(2, { until: HOUR }), row(3, { until: HOUR })]);
    assert.equal(await mend(), 2);
    assert.deepEqual((await all())[0], first);
    assert.deepEqual([...(await loop.get(9))], [1, 2]);
  }
});

test('the clock steps back: ids updated in the future are due min_loop_time after that, last of all; bump has them come at once, did mends them', async () => {
  await put(connection, table, [
    row(1, { updated: 5 * HOUR }),
    row(2, { updated: 4 * HOUR }),
    row(3, { updated: -9 * HOUR }),
    row(4),
  ]);
  await at(0);
  assert.deepEqual([...(await loop.get(9))], [4, 3]);
  await loop.did([3, 4]);
  assert.deepEqual([...(await loop.get(9, { minLoopTime: 0 }))], [3, 4]);
  assert.equal(await loop.next({ minLoopTime: 0 }), HOUR, 'the locks run out');
  await loop.remove([3, 4]);
  assert.equal(await loop.next(), 5 * HOUR, 'of the first, and min_loop_time');
  assert.equal((await loop.check(1))[0]!.sinceUpdated, -5 * HOUR, 'it will have been updated');
  const { minUpdateTime, maxUpdateTime, delayed } = await loop.stats({ delayThresholds: [0, HOUR] });
  assert.deepEqual([minUpdateTime, maxUpdateTime, delayed], [0, 0, { 0: 0, [HOUR]: 0 }]);
  await loop.bump(1);
  assert.deepEqual([...(await loop.get(9))], [1]);
  await loop.did([1, 2]);
  assert.deepEqual(await all(), [row(1, { updated: 0 }), row(2, { updated: 0 })]);
});

test('the clock steps forth past a lease: others get the ids, and the first holder’s did marks them, but leaves the lock', async () => {
  await put(connection, table, [row(1), row(2)]);
  await at(0);
  const first = await loop.get(2);
  await at(HOUR - 1);
  assert.deepEqual([...(await loop.get(2))], []);
  await at(HOUR);
  const second = await loop.get(1);
  assert.equal(second.length, 1);
  assert.equal(await loop.did(first), 2);
  const { id, lock_until } = (await all()).find(one => one.lock_until !== null)!;
  assert.deepEqual([id, lock_until], [second[0], second.lease]);
  assert.equal(await loop.fail(first), 0, 'and what needs the lock does nothing');
});

for (const [when, now] of [
  ['1970', 1],
  ['the last second that sessions know', 2_147_483_647],
] as const) {
  test(`the clock steps to ${when}, with times of now in the table: no call fails, and no time that can't be below 0 is`, async () => {
    const ids = Array.from({ length: 12 }, (_, i) => i + 1);
    const some = [-HOUR, 0, HOUR];
    const before = ids.map((id, i) =>
      row(id, { ...(i % 4 < 3 && { updated: some[i % 4]! }), ...(i > 3 && { until: some[i % 3]! }) }),
    );
    await put(connection, table, before);
    await setClock(connection, now);
    const batch = await loop.get(5, { lockFor: 2_147_483_647, minLoopTime: 2_147_483_647 });
    await loop.extend(batch, { lockFor: 2_147_483_647 });
    await loop.bump([1, 2], { lockFor: -2_147_483_647 });
    await loop.bump([3], { lockFor: 2_147_483_647 });
    await loop.fail([4, 5], { retryIn: 2_147_483_647 });
    await loop.unlock([6]);
    await loop.did([7]);
    await loop.add([13], { updated: true });
    assert.equal((await loop.check(ids)).length, 12);
    for (const minLoopTime of [0, HOUR, 2_147_483_647]) {
      const dueIn = await loop.next({ minLoopTime });
      assert.ok(dueIn !== null && dueIn >= 0);
    }
    const { minId: _, maxId: __, delayed, ...stats } = await loop.stats({ delayThresholds: [0, HOUR, 2_147_483_647] });
    for (const [name, value] of Object.entries({ ...stats, ...delayed })) assert.ok(value! >= 0, `${name}: ${value}`);
    assert.equal(stats.total, 13);
    await setClock(connection);
    await loop.bump([...ids, 13]);
    assert.equal((await loop.get(99)).length, 13, 'none is lost');
  });
}

/** Steps of the clock: seconds, minutes, hours, days; back and forth. */
const step = () => (random(2) ? 1 : -1) * [1, 60, HOUR, 30 * HOUR][random(4)]! * random(5);

test('sixteen sessions whose clocks step all the time: an id is given again only by a clock past its lease, and no call fails', async t => {
  const { table } = await makeLoop(connection);
  const ids = Array.from({ length: 300 }, (_, i) => i + 1);
  await new DoLoop(connection, table).add(ids);
  const claims = new Claims();
  let got = 0;
  const worker = async (number: number, session: Connection) => {
    for (let round = 0; round < quickOrLong(25, 1_500); round += 1) {
      if (random(3) === 0) await setClock(session, NOW + step());
      const lockFor = [1, 60, HOUR][random(3)]!;
      const batch = await callProcedure(session, table, 'get', 1 + random(20), lockFor, 0);
      if (batch.length === 0) continue;
      const mine = batch.map(({ id }) => id as number);
      const lease = batch[0]!.lock_until as number;
      claims.take(`session ${number}`, mine, lease - lockFor, lease);
      got += mine.length;
      if (random(4) === 0) continue; // left to its lease, by whatever clock
      claims.release(mine);
      await callProcedure(
        session,
        table,
        ['did', 'unlock', 'fail'][random(3)] as 'did',
        JSON.stringify(mine),
        null,
        lease,
      );
    }
  };
  const sessions = await Promise.all(Array.from({ length: 16 }, () => connectFrozen()));
  await Promise.all(sessions.map((session, i) => worker(i, session)));
  for (const session of sessions) session.destroy();
  assert.deepEqual(claims.conflicts, []);
  assert.ok(got > 300);
  assert.deepEqual(
    (await contents(connection, table)).map(({ id }) => id),
    ids,
  );
  t.diagnostic(`${got} ids were given`);
});

test('work() while the server’s clock steps forth and back: no error, and all ids are updated and marked', async t => {
  const { table } = await makeLoop(connection);
  const ids = Array.from({ length: 400 }, (_, i) => i + 1);
  await new DoLoop(connection, table).add(ids);
  const pool = makePool({ connectionLimit: 16 });
  let clock = NOW;
  pool.on('acquire', one => one.query(`SET timestamp = ${clock}`));
  const updated = new Set<number>();
  const errors: WorkEvent<number>[] = [];
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  t.after(() => stop.abort());
  const working = Array.from({ length: 16 }, () =>
    new DoLoop(pool, table).work(
      async id => {
        await sleep(2);
        updated.add(id);
      },
      {
        ...{ maxIds: 10, lockFor: 60, minLoopTime: HOUR, pollInterval: 1, signal: stop.signal },
        onEvent: event => {
          if (event.type === 'retry') errors.push(event);
        },
      },
    ),
  );
  for (let i = 0; i < quickOrLong(20, 400); i += 1) {
    clock = NOW + step();
    await sleep(20);
  }
  clock = NOW + 300 * HOUR; // past all
  const marked = async () => (await contents(connection, table)).every(one => one.last_updated === NOW + 300 * HOUR);
  await until('all are marked by the last clock', marked);
  stop.abort();
  await Promise.all(working);
  assert.deepEqual(errors, []);
  assert.equal(updated.size, ids.length);
  assert.ok((await contents(connection, table)).every(one => one.lock_until === null));
});

const SRC = new URL('../src/', import.meta.url);

test('the client asks no clock of its own machine for the time: none that can be wrong, or be set', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.js'));
  assert.ok(files.length > 15);
  for (const name of files) assert.doesNotMatch(readFileSync(new URL(name, SRC), 'utf8'), /\bDate[.(]|new Date/, name);
});

test('work() on a machine whose clock is wrong by years and steps all the time: the leases and times are the server’s, and are held', async t => {
  const { table, loop } = await makeLoop(connection);
  const ids = Array.from({ length: 40 }, (_, i) => i + 1);
  await loop.add(ids);
  const pool = makePool({ connectionLimit: 16 });
  const real = Date.now;
  t.mock.method(Date, 'now', () => real() + (random(3) - 1) * 1e11 * Math.random());
  const leases: number[] = [];
  const extended = new Set<number>();
  const summaries = await Promise.all(
    Array.from({ length: 16 }, () =>
      new DoLoop(pool, table).work(id => sleep(id <= 4 ? 2_500 : 20), {
        ...{ maxIds: 3, lockFor: 2, concurrency: 3, once: true },
        onEvent: event => {
          if (event.type === 'got') leases.push(event.lease);
          if (event.type === 'extended') for (const id of event.ids) extended.add(id);
        },
      }),
    ),
  );
  t.mock.restoreAll();
  const now = Math.floor(Date.now() / 1000);
  for (const lease of leases) assert.ok(Math.abs(lease - now) < 100, String(lease));
  assert.deepEqual([...extended].filter(id => id <= 4).sort(), [1, 2, 3, 4]);
  const sum = (of: 'did' | 'failed' | 'left') => summaries.reduce((total, one) => total + one[of], 0);
  assert.deepEqual([sum('did') >= 40, sum('failed'), sum('left')], [true, 0, 0]);
  for (const { last_updated, lock_until } of await contents(connection, table)) {
    assert.ok(Math.abs(last_updated! - now) < 100);
    assert.equal(lock_until, null);
  }
});

test('doloop work on such a machine does its work, and says so', async () => {
  const { table, loop } = await makeLoop(connection);
  await loop.add([1, 2, 3]);
  const wild = 'const now = Date.now; Date.now = () => now() + (Math.random() - 0.5) * 1e12;';
  const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(wild)}`;
  const ran = await doloop(['work', table, '--once', '--', 'cat'], { ...environment(), NODE_OPTIONS });
  assert.deepEqual([ran.code, ran.stdout], [0, '1\n2\n3\n']);
  assert.match(ran.stderr, /^doloop: 3 done, 0 failed, 0 lost in \d+\.\d s \([\d,.]+ ids\/s\)\n$/);
});
