/** The tutorial of the original, sentence by sentence, in its order: each that tells of a behaviour holds here. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { create, DoLoop, scriptForCreate, sqlForCreate } from '../src/index.js';
import {
  callProcedure,
  connect,
  connectFrozen,
  contents,
  inConsole,
  makeLoop,
  makePool,
  NOW,
  put,
  row,
  rows,
  setClock,
} from './harness.js';

const HOUR = 3600;
const DAY = 24 * HOUR;

/** The workers' connection: its time stands still until it is told to pass. */
const connection = await connectFrozen();
const observer = await connect();
const { table, loop } = await makeLoop(connection);

/** Makes it so many seconds after NOW. */
const after = (seconds: number) => setClock(connection, NOW + seconds);

/** What a worker gets. */
async function got(maxIds = 100): Promise<number[]> {
  return [...(await loop.get(maxIds))];
}

/** A worker that gets some ids, updates them and says so; answers which. */
async function work(maxIds = 100): Promise<number[]> {
  const batch = await loop.get(maxIds);
  await loop.did(batch);
  return [...batch];
}

/** The number an SQL door answers. */
async function answer(procedure: 'add' | 'did' | 'bump' | 'unlock', ...args: unknown[]): Promise<unknown> {
  const [row] = await callProcedure(connection, table, procedure, ...args);
  return Object.values(row!)[0];
}

suite('Getting set up', () => {
  test('«create-doloop-table biz_loop | mysql -D test»', async () => {
    assert.equal(inConsole([], scriptForCreate('biz_loop')), '');
    assert.equal(await new DoLoop(connection, 'biz_loop').add([1, 2]), 2);
  });

  test('«one table per kind of update on kind of thing»', async () => {
    const profile = new DoLoop(connection, 'user_profile_loop');
    const friends = new DoLoop(connection, 'user_friend_loop');
    await create(connection, 'user_profile_loop');
    await create(connection, 'user_friend_loop');
    await profile.add([1, 2]);
    await friends.add([1, 2]);
    assert.deepEqual([...(await profile.get(2))], [1, 2]);
    await profile.did([1, 2]);
    assert.deepEqual([...(await friends.get(2))], [1, 2]);
  });

  test('«By default, IDs are INTs»', async () => {
    const [column] = await rows(
      connection,
      `SELECT data_type AS type FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = ? AND column_name = 'id'`,
      [table],
    );
    assert.equal(column!.type.toLowerCase(), 'int');
  });

  test('«you can use any column type that can be a primary key: 64-character ASCII strings»', async () => {
    const { loop: pages } = await makeLoop<string>(connection, { idType: 'CHAR(64) CHARSET ascii' });
    const id = '0123456789abcdef'.repeat(4);
    assert.equal(await pages.add([id, 'short']), 2);
    await pages.bump(id);
    assert.deepEqual([...(await pages.get(2))], [id, 'short']);
  });

  test('«You can also create tables programmatically using create and sql_for_create»', async () => {
    await create(connection, 'a_loop');
    for (const statement of sqlForCreate('b_loop')) await connection.query(statement);
    for (const name of ['a_loop', 'b_loop']) assert.equal(await new DoLoop(connection, name).add(1), 1);
  });
});

suite('Adding things to the loop', () => {
  test('«Use add to add IDs: for each user id of a stream»', async () => {
    await put(connection, table, []);
    for (const id of [3, 1, 2]) assert.equal(await loop.add(id), 1);
    assert.deepEqual(await contents(connection, table), [row(1), row(2), row(3)]);
  });

  test('«it’s fine to call add several times for the same ID»', async () => {
    const before = [row(1, { updated: -50, until: 60, failures: 1 }), row(2, { until: -5 }), row(3)];
    await put(connection, table, before);
    assert.equal(await loop.add([1, 2, 3]), 0);
    assert.equal(await answer('add', '[1, 2, 3, 3]'), 0);
    assert.deepEqual(await contents(connection, table), before);
  });

  test('«Each call to add does a database transaction»', async () => {
    await put(connection, table, []);
    await loop.add([1, 2]);
    assert.equal((await contents(observer, table)).length, 2);
    await assert.rejects(loop.add([3, 2 ** 40]));
    assert.equal((await contents(observer, table)).length, 2);
  });

  test('«add chunks of several IDs at a time»', async () => {
    await put(connection, table, []);
    for (const start of [0, 500, 1000]) {
      assert.equal(await loop.add(Array.from({ length: 1000 }, (_, i) => start + i)), start === 0 ? 1000 : 500);
    }
  });

  test('«If something no longer needs to be updated, you can remove the ID»', async () => {
    await put(connection, table, [row(1), row(2)]);
    assert.equal(await loop.remove(1), 1);
    assert.deepEqual(await got(), [2]);
  });
});

suite('Doing updates', () => {
  test('«get grabs the IDs of the things that have gone the longest without being updated»', async () => {
    await put(connection, table, [
      row(1, { updated: -2 * HOUR }),
      row(2, { updated: -9 * HOUR }),
      row(3),
      row(4, { updated: -5 * HOUR }),
    ]);
    assert.deepEqual(await got(3), [3, 2, 4]);
  });

  test('«user_ids = get(…, 1000); run your update logic; did(…, user_ids)»', async () => {
    const ids = Array.from({ length: 1500 }, (_, i) => i);
    await put(
      connection,
      table,
      ids.map(id => row(id)),
    );
    const first = await work(1000);
    const second = await work(1000);
    assert.deepEqual([first.length, second.length], [1000, 500]);
    assert.deepEqual(
      [...first, ...second].sort((a, b) => a - b),
      ids,
    );
    assert.deepEqual(
      await contents(connection, table),
      ids.map(id => row(id, { updated: 0 })),
    );
  });

  test('«perfectly safe to run several workers concurrently; get will lock the IDs it grabs»', async () => {
    const ids = Array.from({ length: 900 }, (_, i) => i);
    const waiting = [{}, { updated: -DAY }, { updated: -1, until: -60 }];
    await put(
      connection,
      table,
      ids.map(id => row(id, waiting[id % 3])),
    );
    const pool = makePool();
    pool.on('connection', one => one.query(`SET timestamp = ${NOW}`));
    const taken: number[] = [];
    await Promise.all(
      Array.from({ length: 6 }, async (_, worker) => {
        const mine = new DoLoop(pool, table);
        for (;;) {
          const batch = await mine.get(3 + worker);
          if (batch.length === 0) return;
          taken.push(...batch);
          await mine.did(batch);
        }
      }),
    );
    assert.deepEqual(
      taken.sort((a, b) => a - b),
      ids,
    );
  });

  test('«totally cool for code that has never called get to update arbitrary things and then call did»', async () => {
    await put(connection, table, [row(1), row(2, { updated: -DAY }), row(3, { until: 60 }), row(4, { until: -60 })]);
    assert.equal(await answer('did', '[1, 2, 3, 4]'), 4);
    assert.deepEqual(
      await contents(connection, table),
      [1, 2, 3, 4].map(id => row(id, { updated: 0 })),
    );
    assert.deepEqual(await got(), []);
  });

  test('«not enough workers: things will simply be updated less often»', async () => {
    await put(
      connection,
      table,
      [1, 2, 3, 4, 5, 6, 7].map(id => row(id, { updated: id - DAY })),
    );
    const updated: number[] = [];
    for (let hour = 0; hour < 14; hour += 1) {
      await after(hour * HOUR);
      updated.push(...(await work(1)));
    }
    await after(0);
    const round = [1, 2, 3, 4, 5, 6, 7];
    assert.deepEqual(updated, [...round, ...round]);
  });

  test('«a limit on how frequently the same ID will be updated; by default, this is one hour»', async () => {
    await put(connection, table, [row(1)]);
    await work();
    await after(HOUR - 1);
    assert.deepEqual(await got(), []);
    await after(HOUR);
    assert.deepEqual(await got(), [1]);
    await after(0);
  });

  test('«You can set that limit»', async () => {
    await put(connection, table, [row(1, { updated: -100 })]);
    assert.deepEqual([...(await loop.get(1, { minLoopTime: 101 }))], []);
    assert.deepEqual([...(await loop.get(1, { minLoopTime: 100 }))], [1]);
  });

  test('«your workers crashing: IDs are locked for an hour, then fetched by another worker»', async () => {
    await put(connection, table, [row(1), row(2)]);
    assert.deepEqual(await got(1), [1]); // and crashes
    await after(HOUR - 1);
    assert.deepEqual(await got(), [2]);
    await after(HOUR);
    assert.deepEqual(await work(), [1]);
    await after(0);
  });

  test('«a problem ID that always causes a crash won’t bother your workers for another hour»', async () => {
    await put(connection, table, [row(13)]);
    const crashes: number[] = [];
    for (let minutes = 0; minutes <= 180; minutes += 10) {
      await after(minutes * 60);
      if ((await got()).includes(13)) crashes.push(minutes);
    }
    await after(0);
    assert.deepEqual(crashes, [0, 60, 120, 180]);
  });

  test('«You can also explicitly unlock IDs»', async () => {
    await put(connection, table, [row(1), row(2)]);
    assert.deepEqual(await got(), [1, 2]);
    assert.deepEqual(await got(), []);
    assert.equal(await answer('unlock', 2), 1);
    assert.deepEqual(await got(), [2]);
  });
});

suite('Prioritization', () => {
  /** 1 to 4 wait: never updated, or for days. */
  const WAITING = [row(1), row(2), row(3, { updated: -9 * DAY }), row(4, { updated: -8 * DAY })];

  test('«use bump to prioritize certain ID(s)»', async () => {
    await put(connection, table, WAITING);
    assert.equal(await loop.bump(4), 1);
    assert.deepEqual(await got(2), [4, 1]);
  });

  test('«IDs which are locked get highest priority once the lock expires»', async () => {
    await put(connection, table, [...WAITING, row(5, { updated: -1, until: 60 })]);
    await after(59);
    assert.ok(!(await loop.get(9, { dryRun: true })).includes(5));
    await after(60);
    assert.equal((await got())[0], 5);
    await after(0);
  });

  test('«By default, bump sets the lock to expire immediately: priority without any waiting»', async () => {
    await put(connection, table, [...WAITING, row(5, { updated: -1 })]);
    assert.equal(await answer('bump', 5), 1);
    assert.deepEqual(await got(1), [5]);
  });

  test('«the first time a user does something noteworthy, wait for an hour, and then update them»', async () => {
    await put(connection, table, [row(1, { updated: -DAY }), row(2, { updated: -2 * DAY })]);
    await loop.bump(1, { lockFor: HOUR });
    for (const minutes of [10, 20, 59]) {
      await after(minutes * 60);
      await loop.bump(1, { lockFor: HOUR });
      assert.ok(!(await got()).includes(1));
    }
    await after(HOUR);
    assert.deepEqual(await work(), [1]);
    assert.deepEqual(await got(), []);
    await after(0);
  });

  test('«a user who did noteworthy things continuously would still get updated more or less hourly»', async () => {
    await put(connection, table, [row(1, { updated: -DAY })]);
    const updates: number[] = [];
    for (let minutes = 0; minutes <= 240; minutes += 10) {
      await after(minutes * 60);
      if ((await work()).length > 0) updates.push(minutes);
      await answer('bump', 1, HOUR);
    }
    await after(0);
    assert.deepEqual(updates, [0, 60, 120, 180, 240]);
  });

  test('«you can’t repeatedly bump things into the future»', async () => {
    await put(connection, table, [row(1)]);
    assert.equal(await loop.bump(1, { lockFor: 60 }), 1);
    for (const lockFor of [60, 61, 9 * HOUR]) assert.equal(await loop.bump(1, { lockFor }), 0);
    assert.deepEqual(await contents(connection, table), [row(1, { until: 60 })]);
  });

  for (const [name, expected] of [
    ['bump', row(9, { until: 0 })],
    ['did', row(9, { updated: 0 })],
    ['unlock', row(9)],
  ] as const) {
    test(`«If you forgot to add a user, ${name} will automatically add them»`, async () => {
      await put(connection, table, []);
      assert.equal(await loop[name](9), 1);
      assert.deepEqual(await contents(connection, table), [expected]);
      await put(connection, table, []);
      assert.equal(await answer(name, 9), 1);
      assert.deepEqual(await contents(connection, table), [expected]);
    });
  }

  test('«bump every time something changes; things will still get updated eventually»', async () => {
    await put(connection, table, [row(1, { updated: -3 * HOUR }), row(2, { updated: -2 * HOUR })]);
    await loop.bump([8, 9]);
    assert.deepEqual(await work(2), [8, 9]);
    assert.deepEqual(await work(2), [1, 2]);
  });

  test('«give ID(s) super-high priority by setting lock_for to a negative number»', async () => {
    await put(connection, table, WAITING);
    await loop.bump(1);
    await loop.bump(3, { lockFor: -60 });
    assert.equal(await answer('bump', '[2]', -DAY), 1);
    assert.deepEqual(await got(3), [2, 3, 1]);
  });

  test('«at a certain point, just do the update immediately and call did»', async () => {
    await put(connection, table, WAITING);
    await loop.bump([2, 3], { lockFor: -DAY });
    await loop.did(3);
    assert.deepEqual(await got(), [2, 1, 4]);
  });
});

suite('Auditing', () => {
  const ROWS = [
    row(1),
    row(2, { updated: -100 }),
    row(3, { updated: -2 * DAY, until: 60 }),
    row(4, { updated: -8 * DAY, until: -30 }),
    row(5, { updated: -9 * DAY }),
  ];

  test('«check on a particular ID, for example to see how long it’s gone without being updated»', async () => {
    await put(connection, table, ROWS);
    assert.deepEqual(await loop.check(3), [{ id: 3, sinceUpdated: 2 * DAY, lockedFor: 60, failures: 0 }]);
  });

  test('«check on a set of IDs»', async () => {
    await put(connection, table, ROWS);
    assert.deepEqual(await callProcedure(connection, table, 'check', '[5, 4, 1, 7]'), [
      { id: 1, since_updated: null, locked_for: null, failures: 0 },
      { id: 4, since_updated: 8 * DAY, locked_for: -30, failures: 0 },
      { id: 5, since_updated: 9 * DAY, locked_for: null, failures: 0 },
    ]);
    assert.deepEqual(await contents(connection, table), ROWS);
  });

  test('«check on the status of the task loop as a whole: stats»', async () => {
    await put(connection, table, ROWS);
    const { bumped, locked, minBumpTime, maxLockTime, minUpdateTime, maxUpdateTime } = await loop.stats();
    assert.deepEqual(
      { bumped, locked, minBumpTime, maxLockTime, minUpdateTime, maxUpdateTime },
      { bumped: 1, locked: 1, minBumpTime: 30, maxLockTime: 60, minUpdateTime: 100, maxUpdateTime: 9 * DAY },
    );
  });

  test('«how many IDs have gone more than a day/week without being updated»', async () => {
    await put(connection, table, ROWS);
    const { delayed, neverUpdated, total } = await loop.stats({ delayThresholds: [DAY, 7 * DAY] });
    assert.deepEqual({ delayed, neverUpdated, total }, { delayed: { 86400: 3, 604800: 2 }, neverUpdated: 1, total: 5 });
    const [stats] = await callProcedure(connection, table, 'stats', `[${DAY}, ${7 * DAY}]`);
    assert.deepEqual(JSON.parse(stats!.delayed as string), { 86400: 3, 604800: 2 });
  });
});
