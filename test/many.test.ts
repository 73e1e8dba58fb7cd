/** Many connections at once, and many ids in one call. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type Connection } from 'mysql2/promise';
import { DoLoop, type LoopId } from '../src/index.js';
import type { Procedure } from '../src/render.js';
import {
  callProcedure,
  connect,
  connectFrozen,
  contents,
  database,
  makeLoop,
  makePool,
  rows,
  server,
  waitsForRow,
} from './harness.js';
import { quickOrLong } from './long.js';
import { until } from './until.js';

const root = await connect();
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
const byId = (a: number, b: number) => a - b;

/** The named lock under which calls of `get` for fewer than 1,000 ids take turns in the second of the session's clock. */
const turn = (table: string) => `CONCAT('doloop ', CRC32(DATABASE()), ' ', CRC32('${table}'), ' ', UNIX_TIMESTAMP())`;

test('a get that has waited a second for its turn waits on, and has it when the other is gone', async () => {
  const { table, loop } = await makeLoop(root);
  await loop.add(numbers(5));
  const [holder, session] = await Promise.all([connectFrozen(), connectFrozen()]);
  await holder.query(`DO GET_LOCK(${turn(table)}, 0)`);
  let answered = false;
  const got = new DoLoop(session, table).get(5).finally(() => {
    answered = true;
  });
  await sleep(2_500);
  assert.equal(answered, false);
  await holder.query(`DO RELEASE_LOCK(${turn(table)})`);
  assert.deepEqual([...(await got)], numbers(5));
});

test('a get in a transaction waits for no turn: who has it may wait for what that has locked', {
  timeout: 30_000,
}, async () => {
  const { table, loop } = await makeLoop(root);
  await loop.add(numbers(10));
  const [holder, session] = await Promise.all([connectFrozen(), connectFrozen()]);
  await holder.query(`DO GET_LOCK(${turn(table)}, 0)`);
  await session.beginTransaction();
  const mine = new DoLoop(session, table);
  await mine.did(10);
  assert.deepEqual([...(await mine.get(5))], numbers(5));
  await session.rollback();
});

suite('many connections', async () => {
  const MANY = quickOrLong(100, 1_000);
  const [{ most }] = (await rows(root, 'SELECT @@max_connections AS most')) as [{ most: number }];
  const sessions: Connection[] = [];
  after(async () => {
    for (const session of sessions) session.destroy();
    await until('the server has seen that they are gone', async () => {
      const [connected] = await rows(root, "SHOW GLOBAL STATUS LIKE 'Threads_connected'");
      return Number(connected!.Value) < most / 2;
    });
    await root.query(`SET GLOBAL max_connections = ${most}`);
  });
  /** As many as there are to be, on real time; made once. */
  async function all(): Promise<Connection[]> {
    if (sessions.length > 0) return sessions;
    if (most < MANY + 100) await root.query(`SET GLOBAL max_connections = ${MANY + 100}`);
    while (sessions.length < MANY) {
      const some = numbers(Math.min(50, MANY - sessions.length)); // lest the server's backlog be full
      sessions.push(...(await Promise.all(some.map(() => mysql.createConnection({ uri: server.url, database })))));
    }
    return sessions;
  }

  for (const [ids, maxIds] of [
    [MANY / 2, 1],
    [MANY * 5, 5],
    [MANY, 100],
  ] as const) {
    test(`${MANY} get(${maxIds}) at once from a loop of ${ids}: all are answered, no id twice, none is left`, {
      timeout: 180_000,
    }, async () => {
      const { table, loop } = await makeLoop(root);
      await loop.add(numbers(ids));
      const answers = await Promise.all((await all()).map(session => new DoLoop(session, table).get(maxIds)));
      assert.ok(answers.every(batch => batch.length <= maxIds));
      assert.deepEqual(answers.flat().sort(byId), numbers(ids));
      const locks = new Map(answers.flatMap(batch => batch.map(id => [id, batch.lease])));
      for (const { id, lock_until } of await contents(root, table)) assert.equal(lock_until, locks.get(Number(id)));
    });
  }

  test(`${MANY} did at once that wait for a row somebody has locked: all go on when it is free, and none fails`, {
    timeout: quickOrLong(120_000, 600_000),
  }, async t => {
    const { table, loop } = await makeLoop(root);
    const ids = numbers(MANY);
    await loop.add(ids);
    const callers = await all();
    await Promise.all(callers.map(session => session.query('SET innodb_lock_wait_timeout = 600')));
    const holder = await connect();
    t.after(() => holder.destroy());
    await holder.beginTransaction();
    await new DoLoop(holder, table).bump(1, { lockFor: 1 });
    // Each has the row that all want, and one of its own.
    const calls = callers.map((session, i) => new DoLoop(session, table).did(i === 0 ? 1 : [1, ids[i]!]));
    const answers = Promise.all(calls);
    await until('they wait', () => waitsForRow(callers.at(-1)!.threadId!));
    // Nobody else is kept from anything: these rows are free.
    assert.equal((await loop.get(10)).length, 10);
    await holder.commit();
    assert.deepEqual(
      await answers,
      ids.map((_, i) => (i === 0 ? 1 : 2)),
    );
    const rows = await contents(root, table);
    assert.ok(rows.every(row => row.last_updated !== null && row.lock_until === null));
  });
});

suite('many ids in one call', () => {
  const MANY = quickOrLong(20_000, 100_000);
  const SOME = quickOrLong(5_000, 100_000);

  /** All calls with all ids, one after the other. */
  async function allCalls<Id extends LoopId>(loop: DoLoop<Id>, ids: Id[]): Promise<void> {
    const n = ids.length;
    assert.equal(await loop.add(ids, { dryRun: true }), n);
    assert.equal(await loop.next(), null, 'that was dry');
    assert.equal(await loop.add(ids), n);
    const batch = await loop.get(n);
    assert.equal(batch.length, n);
    assert.equal(new Set(batch).size, n);
    assert.equal((await loop.extend(batch, { lockFor: 9_000 })).extended, n);
    const statuses = await loop.check(ids);
    assert.equal(statuses.length, n);
    assert.ok(statuses.every(status => status.lockedFor! > 0 && status.sinceUpdated === null));
    assert.equal(await loop.fail(batch, { retryIn: 60 }), n);
    assert.equal(await loop.fail(batch), 0, 'their lease is gone');
    assert.equal(await loop.unlock(ids), n);
    assert.equal(await loop.bump(ids), n);
    assert.equal(await loop.did(ids), n);
    const { bumped, locked, neverUpdated, total } = await loop.stats({ delayThresholds: [86_400] });
    assert.deepEqual([bumped, locked, neverUpdated, total], [0, 0, 0, n]);
    assert.equal(await loop.remove(ids), n);
    assert.equal(await loop.next(), null);
  }

  test(`${MANY} numbers, by the client`, async () => {
    const { loop } = await makeLoop(makePool());
    await allCalls(loop, numbers(MANY));
  });

  test(`${SOME} numbers, by CALL: each is one transaction`, async () => {
    const { table } = await makeLoop(root);
    const ids = JSON.stringify(numbers(SOME));
    const call = (procedure: Procedure, ...args: unknown[]) => callProcedure(root, table, procedure, ...args);
    assert.deepEqual(await call('add', ids), [{ added: SOME }]);
    const got = await call('get', SOME);
    assert.deepEqual(
      got.map(({ id }) => id),
      numbers(SOME),
    );
    const { lock_until: lease } = got[0]!;
    const [extension] = await call('extend', ids, 9_000, lease);
    assert.equal(extension!.extended, SOME);
    assert.deepEqual(await call('fail', ids, 60, extension!.lock_until), [{ failed: SOME }]);
    assert.equal((await call('check', ids)).length, SOME);
    assert.deepEqual(await call('unlock', ids), [{ unlocked: SOME }]);
    assert.deepEqual(await call('bump', ids), [{ bumped: SOME }]);
    assert.deepEqual(await call('did', ids), [{ updated: SOME }]);
    // One of them that is none: nothing is done.
    const before = await rows(root, `CHECKSUM TABLE ${table}`);
    const bad = `${ids.slice(0, -1)},"x"]`;
    for (const procedure of ['add', 'remove', 'did', 'unlock', 'bump', 'extend', 'fail'] as const) {
      await assert.rejects(call(procedure, bad), /ids: "x" is not/);
    }
    assert.deepEqual(await rows(root, `CHECKSUM TABLE ${table}`), before);
    assert.deepEqual(await call('remove', ids), [{ removed: SOME }]);
  });

  /** Text of 250 characters: 100,000 of them are 25 MB of JSON. */
  const wide = numbers(quickOrLong(3_000, 100_000)).map(n => String(n).padStart(250, 'x'));
  const WIDE = { idType: 'VARCHAR(255) CHARSET ascii' };

  /** A connection whose packets have so many bytes at most; undefined: as the server has it. */
  async function connectSmall(bytes: number | undefined): Promise<Connection> {
    if (bytes === undefined) return connect();
    const [{ usual }] = (await rows(root, 'SELECT @@GLOBAL.max_allowed_packet AS usual')) as [{ usual: number }];
    try {
      await root.query(`SET GLOBAL max_allowed_packet = ${bytes}`);
      return await connect(); // a session keeps what there is when it begins
    } finally {
      await root.query(`SET GLOBAL max_allowed_packet = ${usual}`);
    }
  }

  for (const bytes of quickOrLong(0, 1) === 1 ? [1 << 18, undefined] : [1 << 18]) {
    test(`${wide.length} ids of 250 characters, with a max_allowed_packet of ${bytes ?? 'the default'}: in pieces, each call one transaction`, async () => {
      const session = await connectSmall(bytes);
      const [{ packet }] = (await rows(session, 'SELECT @@max_allowed_packet AS packet')) as [{ packet: number }];
      const { table, loop } = await makeLoop<string>(session, WIDE);
      const size = wide.length * 253;
      assert.equal(await loop.add(wide), wide.length);
      // What get answers is put together in one packet.
      if (size > packet) {
        // MySQL says so itself (1301); MariaDB would cut them without a word.
        await assert.rejects(loop.get(wide.length), /than max_allowed_packet/);
        assert.equal((await loop.stats()).locked, 0);
      } else {
        assert.equal((await loop.get(wide.length)).length, wide.length);
        await loop.unlock(wide);
      }
      if (size > packet / 2) await assert.rejects(loop.extend(wide), /^RangeError: ids: more than one call can hold/);
      else assert.equal((await loop.extend(wide)).extended, 0);
      const got: string[] = [];
      for (let batch = await loop.get(400); batch.length > 0; batch = await loop.get(400)) {
        assert.equal((await loop.extend(batch, { lockFor: 9_000 })).extended, batch.length);
        got.push(...batch);
      }
      assert.equal(new Set(got).size, wide.length);
      assert.equal(await loop.fail(wide), wide.length);
      const statuses = await loop.check(wide);
      assert.deepEqual(new Set(statuses.map(({ id }) => id)), new Set(wide));
      assert.ok(statuses.every(({ failures, lockedFor }) => failures === 1 && lockedFor! > 0));
      assert.equal(await loop.unlock(wide), wide.length);
      assert.equal(await loop.bump(wide), wide.length);
      // One of the last piece is none: nothing is done.
      const before = await rows(root, `CHECKSUM TABLE ${table}`);
      await assert.rejects(loop.did([...wide, 'ü']), { code: 'REFUSED' });
      assert.deepEqual(await rows(root, `CHECKSUM TABLE ${table}`), before);
      // Nobody sees a part of it, either.
      await session.beginTransaction();
      assert.equal(await loop.did(wide), wide.length);
      assert.deepEqual(await rows(root, `CHECKSUM TABLE ${table}`), before);
      await session.rollback();
      assert.equal(await loop.did(wide), wide.length);
      assert.equal(await loop.remove(wide), wide.length);
    });
  }
});
