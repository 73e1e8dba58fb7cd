import assert from 'node:assert/strict';
import { afterEach, suite, test } from 'node:test';
import callbackMysql, { type PoolConnection as CallbackPoolConnection } from 'mysql2';
import type { Connection, Pool, PoolOptions } from 'mysql2/promise';
import { Batch, DoLoop, DoLoopError, type LoopId } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import {
  connect,
  contents,
  database,
  inTransaction,
  makeLoop,
  makePool,
  NOW,
  put,
  type Row,
  row,
  rows,
  server,
  setClock,
  standIn,
} from './harness.js';

const connection = await connect();
await setClock(connection);
// A failed test leaves nothing locked for the next.
afterEach(() => connection.query('ROLLBACK'));
/** Sees only what is committed. */
const observer = await connect();
const { table, loop } = await makeLoop(connection);

/** A loop of all kinds of ids: 1 never updated, 2 stale, 3 locked, 4 bumped, 5 fresh. */
const KINDS = [
  row(1),
  row(2, { updated: -5000 }),
  row(3, { updated: -9000, until: 600, failures: 2 }),
  row(4, { updated: -50, until: -20 }),
  row(5, { updated: -100 }),
];

/** What stands there instead of the rows of these ids. */
function changed(...all: Row[]): Row[] {
  const byId = new Map([...KINDS, ...all].map(one => [Number(one.id), one]));
  return [...byId].sort(([a], [b]) => a - b).map(([, one]) => one);
}

const without = (...ids: number[]) => KINDS.filter(({ id }) => !ids.includes(Number(id)));

/** A batch as something to compare: equal ids, equal lease. */
const plain = (answer: unknown) => (answer instanceof Batch ? { ids: [...answer], lease: answer.lease } : answer);

async function rejection(call: Promise<unknown>): Promise<Error> {
  return call.then(
    () => assert.fail('it was not refused'),
    (error: Error) => error,
  );
}

type Call<Id extends LoopId = number> = (loop: DoLoop<Id>) => Promise<unknown>;

interface Case {
  title: string;
  before?: Row[];
  call: Call;
  answer: unknown;
  after?: Row[];
}

const LEASE = NOW + 600;

const CASES: Case[] = [
  {
    title: 'add puts new ids in and counts them',
    call: l => l.add([5, 6, 7]),
    answer: 2,
    after: changed(row(6), row(7)),
  },
  {
    title: 'add with updated counts the new ids as updated now, and leaves the others',
    call: l => l.add([2, 6], { updated: true }),
    answer: 1,
    after: changed(row(6, { updated: 0 })),
  },
  {
    title: 'updated: false is the default of add',
    call: l => l.add(6, { updated: false }),
    answer: 1,
    after: changed(row(6)),
  },
  {
    title: 'remove takes ids out and counts those that were in',
    call: l => l.remove([1, 3, 6]),
    answer: 2,
    after: without(1, 3),
  },
  {
    title: 'get picks the bumped, then the never updated, then the stale, and locks them for an hour',
    call: l => l.get(10),
    answer: { ids: [4, 1, 2], lease: NOW + 3600 },
    after: changed(
      row(4, { updated: -50, until: 3600 }),
      row(1, { until: 3600 }),
      row(2, { updated: -5000, until: 3600 }),
    ),
  },
  {
    title: 'get picks at most maxIds',
    call: l => l.get(2),
    answer: { ids: [4, 1], lease: NOW + 3600 },
    after: changed(row(4, { updated: -50, until: 3600 }), row(1, { until: 3600 })),
  },
  {
    title: 'get locks for lockFor seconds',
    call: l => l.get(1, { lockFor: 60 }),
    answer: { ids: [4], lease: NOW + 60 },
    after: changed(row(4, { updated: -50, until: 60 })),
  },
  {
    title: 'get with minLoopTime picks those last updated that long ago, the longest first',
    call: l => l.get(10, { minLoopTime: 100 }),
    answer: { ids: [4, 1, 2, 5], lease: NOW + 3600 },
  },
  {
    title: 'get with minLoopTime 0 picks all that are not locked',
    before: [row(1, { updated: 0 })],
    call: l => l.get(10, { minLoopTime: 0 }),
    answer: { ids: [1], lease: NOW + 3600 },
  },
  {
    title: 'get of no ids is an empty batch without a lease',
    call: l => l.get(0),
    answer: { ids: [], lease: null },
    after: KINDS,
  },
  {
    title: 'get from an empty loop is an empty batch without a lease',
    before: [],
    call: l => l.get(10),
    answer: { ids: [], lease: null },
    after: [],
  },
  {
    title: 'did marks ids updated now, unlocks them, forgets failures and adds the unknown',
    call: l => l.did([2, 3, 6]),
    answer: 3,
    after: changed(row(2, { updated: 0 }), row(3, { updated: 0 }), row(6, { updated: 0 })),
  },
  {
    title: 'did with autoAdd: false leaves unknown ids out',
    call: l => l.did([2, 6], { autoAdd: false }),
    answer: 1,
    after: changed(row(2, { updated: 0 })),
  },
  {
    title: 'did with the lease opens the lock',
    call: l => l.did(3, { lease: LEASE }),
    answer: 1,
    after: changed(row(3, { updated: 0 })),
  },
  {
    title: 'did with another lease marks the update and leaves the lock',
    call: l => l.did(3, { lease: LEASE + 1 }),
    answer: 1,
    after: changed(row(3, { updated: 0, until: 600 })),
  },
  {
    title: 'unlock opens locks without marking, counts those opened, and adds the unknown',
    call: l => l.unlock([2, 3, 4, 6]),
    answer: 3,
    after: changed(row(3, { updated: -9000, failures: 2 }), row(4, { updated: -50 }), row(6)),
  },
  {
    title: 'unlock with autoAdd: false leaves unknown ids out',
    call: l => l.unlock([3, 6], { autoAdd: false }),
    answer: 1,
    after: changed(row(3, { updated: -9000, failures: 2 })),
  },
  {
    title: 'unlock with a lease opens only the locks that still are this lease',
    call: l => l.unlock([3, 4], { lease: LEASE }),
    answer: 1,
    after: changed(row(3, { updated: -9000, failures: 2 })),
  },
  {
    title: 'bump gives ids priority now, adds the unknown, and leaves those that have it earlier',
    call: l => l.bump([2, 3, 4, 6]),
    answer: 3,
    after: changed(
      row(2, { updated: -5000, until: 0 }),
      row(3, { updated: -9000, until: 0, failures: 2 }),
      row(6, { until: 0 }),
    ),
  },
  {
    title: 'bump with lockFor gives it in so many seconds, and puts nothing off',
    call: l => l.bump([2, 3, 4], { lockFor: 900 }),
    answer: 1,
    after: changed(row(2, { updated: -5000, until: 900 })),
  },
  {
    title: 'bump with a negative lockFor gives more priority',
    call: l => l.bump([4], { lockFor: -100 }),
    answer: 1,
    after: changed(row(4, { updated: -50, until: -100 })),
  },
  {
    title: 'bump with autoAdd: false leaves unknown ids out',
    call: l => l.bump([1, 6], { autoAdd: false }),
    answer: 1,
    after: changed(row(1, { until: 0 })),
  },
  {
    title: 'extend locks anew what is locked, for an hour, and nothing else',
    call: l => l.extend([1, 3, 4, 6]),
    answer: { extended: 1, lease: NOW + 3600 },
    after: changed(row(3, { updated: -9000, until: 3600, failures: 2 })),
  },
  {
    title: 'extend with lockFor locks for so many seconds, fewer too',
    call: l => l.extend(3, { lockFor: 60 }),
    answer: { extended: 1, lease: NOW + 60 },
    after: changed(row(3, { updated: -9000, until: 60, failures: 2 })),
  },
  {
    title: 'extend with another lease changes nothing and answers no lease',
    call: l => l.extend(3, { lease: LEASE - 1 }),
    answer: { extended: 0, lease: null },
    after: KINDS,
  },
  {
    title: 'fail counts the failure, doubles the pause with each in a row, and adds nothing',
    call: l => l.fail([1, 3, 6]),
    answer: 2,
    after: changed(row(1, { until: 60, failures: 1 }), row(3, { updated: -9000, until: 240, failures: 3 })),
  },
  {
    title: 'fail with retryIn locks for so many seconds',
    call: l => l.fail([1], { retryIn: 5 }),
    answer: 1,
    after: changed(row(1, { until: 5, failures: 1 })),
  },
  {
    title: 'fail with retryIn 0 gives priority at once',
    call: l => l.fail([1], { retryIn: 0 }),
    answer: 1,
    after: changed(row(1, { until: 0, failures: 1 })),
  },
  {
    title: 'fail with another lease changes nothing',
    call: l => l.fail([3], { lease: LEASE + 1 }),
    answer: 0,
    after: KINDS,
  },
  {
    title: 'check tells how ids are doing, by id, each once, and leaves out the unknown',
    call: l => l.check([4, 3, 1, 6, 3]),
    answer: [
      { id: 1, sinceUpdated: null, lockedFor: null, failures: 0 },
      { id: 3, sinceUpdated: 9000, lockedFor: 600, failures: 2 },
      { id: 4, sinceUpdated: 50, lockedFor: -20, failures: 0 },
    ],
    after: KINDS,
  },
  {
    title: 'stats without thresholds has null for what needs them',
    call: l => l.stats(),
    answer: {
      bumped: 1,
      locked: 1,
      minBumpTime: 20,
      maxBumpTime: 20,
      minLockTime: 600,
      maxLockTime: 600,
      minUpdateTime: 50,
      maxUpdateTime: 9000,
      minId: 1,
      maxId: 5,
      total: null,
      neverUpdated: null,
      delayed: null,
    },
    after: KINDS,
  },
  {
    title: 'stats with thresholds counts all, the never updated, and the delayed for each',
    call: async l => {
      const { total, neverUpdated, delayed } = await l.stats({ delayThresholds: [99, 100, 8000, 99] });
      return { total, neverUpdated, delayed };
    },
    answer: { total: 5, neverUpdated: 1, delayed: { 99: 3, 100: 2, 8000: 1 } },
  },
  {
    title: 'stats with an empty array of thresholds counts all but delays',
    call: async l => {
      const { total, neverUpdated, delayed } = await l.stats({ delayThresholds: [] });
      return { total, neverUpdated, delayed };
    },
    answer: { total: 5, neverUpdated: 1, delayed: {} },
  },
  {
    title: 'stats of an empty loop are zeros and nulls',
    before: [],
    call: l => l.stats({ delayThresholds: [60] }),
    answer: {
      bumped: 0,
      locked: 0,
      minBumpTime: 0,
      maxBumpTime: 0,
      minLockTime: 0,
      maxLockTime: 0,
      minUpdateTime: 0,
      maxUpdateTime: 0,
      minId: null,
      maxId: null,
      total: 0,
      neverUpdated: 0,
      delayed: { 60: 0 },
    },
  },
  { title: 'next is 0 where get has something now', call: l => l.next(), answer: 0, after: KINDS },
  {
    title: 'next is the time until get has something',
    before: [row(3, { until: 600 }), row(5, { updated: -100 })],
    call: l => l.next(),
    answer: 600,
  },
  {
    title: 'next goes by minLoopTime',
    before: [row(3, { until: 600 }), row(5, { updated: -100 })],
    call: l => l.next({ minLoopTime: 150 }),
    answer: 50,
  },
  { title: 'next is null where nothing will ever be due', before: [], call: l => l.next(), answer: null },
];

suite('methods and options', () => {
  for (const { title, before = KINDS, call, answer, after } of CASES) {
    test(title, async () => {
      await put(connection, table, before);
      assert.deepEqual(plain(await call(loop)), answer);
      if (after) assert.deepEqual(await contents(connection, table), after);
    });
  }

  test('each id of a batch is locked until its lease', async () => {
    await put(connection, table, KINDS);
    const batch = await loop.get(3);
    const locked = await rows(connection, `SELECT id FROM ${table} WHERE lock_until = ?`, [batch.lease]);
    assert.deepEqual(locked.map(({ id }) => id).sort(), [...batch].sort());
  });

  test('an option that is undefined or null is its default', async () => {
    await put(connection, table, []);
    const none = { updated: undefined } as unknown as { updated: boolean };
    await loop.add([1], none);
    await loop.did([2], { lease: null });
    assert.deepEqual(await contents(connection, table), [row(1), row(2, { updated: 0 })]);
  });

  test('a loop of another database is named with it', async () => {
    const elsewhere = await connect({ database: 'mysql' });
    await put(connection, table, KINDS);
    const far = new DoLoop(elsewhere, `${database}.${table}`);
    assert.equal(await far.add([5, 6]), 1);
    assert.equal(far.table, `${database}.${table}`);
  });
});

suite('what ids may be given as', () => {
  const GIVEN: [string, () => number | Iterable<number>, number[]][] = [
    ['one number', () => 7, [7]],
    ['an array', () => [7, 8], [7, 8]],
    ['a Set', () => new Set([7, 8]), [7, 8]],
    [
      'a generator',
      function* () {
        yield 7;
        yield 8;
      },
      [7, 8],
    ],
    [
      'the keys of a Map',
      () =>
        new Map([
          [7, 'a'],
          [8, 'b'],
        ]).keys(),
      [7, 8],
    ],
    ['an Int32Array', () => Int32Array.of(7, 8), [7, 8]],
    ['an id twice', () => [7, 8, 7], [7, 8]],
    ['no ids', () => [], []],
  ];
  for (const [title, ids, expected] of GIVEN) {
    test(`${title}`, async () => {
      await put(connection, table, []);
      assert.equal(await loop.add(ids()), expected.length);
      assert.deepEqual(
        (await loop.check(ids())).map(({ id }) => id),
        expected,
      );
      assert.equal(await loop.bump(ids()), expected.length);
      assert.equal((await loop.extend(ids())).extended, 0);
      assert.equal(await loop.unlock(ids()), expected.length);
      assert.equal(await loop.did(ids()), expected.length);
      assert.equal(await loop.fail(ids()), expected.length);
      assert.deepEqual(
        await contents(connection, table),
        expected.map(id => row(id, { updated: 0, until: 60, failures: 1 })),
      );
      assert.equal(await loop.remove(ids()), expected.length);
      assert.deepEqual(await contents(connection, table), []);
    });
  }

  test('a string is one id', async () => {
    const { loop: texts } = await makeLoop<string>(connection, { idType: 'VARCHAR(20) CHARSET utf8mb4' });
    assert.equal(await texts.add('[1, 2]'), 1);
    assert.deepEqual([...(await texts.get(5))], ['[1, 2]']);
  });

  test('a Buffer or a Uint8Array is one id', async () => {
    const { loop: bytes } = await makeLoop<Buffer>(connection, { idType: 'BINARY(3)' });
    assert.equal(await bytes.add(Buffer.from([0, 1, 255])), 1);
    assert.equal(await bytes.add([Buffer.from([0, 1, 254]), Buffer.from(Uint8Array.of(0, 1, 255))]), 1);
    assert.equal(await bytes.remove(Uint8Array.of(0, 1, 254) as Buffer), 1);
    assert.deepEqual([...(await bytes.get(5))], [Buffer.from([0, 1, 255])]);
  });
});

suite('batches', () => {
  /** The id 1 locked by us, and an id 2 that was ours and has been bumped since. */
  async function half(): Promise<Batch<number>> {
    await put(connection, table, [row(1), row(2)]);
    const batch = await loop.get(2, { lockFor: 600 });
    await loop.bump(2);
    return batch;
  }
  const MINE = row(1, { until: 600 });
  const BUMPED = row(2, { until: 0 });

  const GUARDED: [string, (batch: Batch<number>) => Promise<unknown>, unknown, Row[]][] = [
    ['did', b => loop.did(b), 2, [row(1, { updated: 0 }), row(2, { updated: 0, until: 0 })]],
    ['unlock', b => loop.unlock(b), 1, [row(1), BUMPED]],
    ['extend', b => loop.extend(b), { extended: 1, lease: NOW + 3600 }, [row(1, { until: 3600 }), BUMPED]],
    ['fail', b => loop.fail(b), 1, [row(1, { until: 60, failures: 1 }), BUMPED]],
  ];
  for (const [name, call, answer, after] of GUARDED) {
    test(`${name} of a batch touches only the locks that still are its lease`, async () => {
      const batch = await half();
      assert.deepEqual(await call(batch), answer);
      assert.deepEqual(await contents(connection, table), after);
    });
  }

  const PLAIN: [string, (ids: Iterable<number>) => Promise<unknown>, unknown, Row[]][] = [
    ['did', ids => loop.did(ids), 2, [row(1, { updated: 0 }), row(2, { updated: 0 })]],
    ['unlock', ids => loop.unlock(ids), 2, [row(1), row(2)]],
    ['fail', ids => loop.fail(ids), 2, [row(1, { until: 60, failures: 1 }), row(2, { until: 60, failures: 1 })]],
  ];
  for (const [name, call, answer, after] of PLAIN) {
    for (const [copy, copied] of [
      ['[...batch]', (batch: Batch<number>) => [...batch]],
      ['map', (batch: Batch<number>) => batch.map(id => id)],
      ['concat', (batch: Batch<number>) => batch.concat([])],
      ['a Set', (batch: Batch<number>) => new Set(batch)],
    ] as const) {
      test(`${name} of what ${copy} made of a batch has no guard`, async () => {
        assert.deepEqual(await call(copied(await half())), answer);
        assert.deepEqual(await contents(connection, table), after);
      });
    }
  }

  test('filter and slice make batches with the same lease', async () => {
    const batch = await half();
    for (const part of [batch.filter(id => id === 2), batch.slice(1)]) {
      assert.ok(part instanceof Batch);
      assert.deepEqual(plain(part), { ids: [2], lease: NOW + 600 });
      assert.equal(await loop.unlock(part), 0);
    }
    assert.deepEqual(await contents(connection, table), [MINE, BUMPED]);
  });

  test('map and spreading make plain arrays', async () => {
    const batch = await half();
    for (const copy of [batch.map(id => id + 1), [...batch], batch.concat(3), batch.flatMap(id => [id])]) {
      assert.ok(!(copy instanceof Batch) && !('lease' in copy));
    }
  });

  test('the lease option comes before the lease of the batch', async () => {
    const batch = await half();
    assert.equal(await loop.unlock(batch, { lease: batch.lease! + 1 }), 0);
    assert.equal(await loop.unlock([...batch], { lease: batch.lease }), 1);
    assert.deepEqual(await contents(connection, table), [row(1), BUMPED]);
  });

  test('the lease guards an id whose lock ran out and which another worker has now', async () => {
    await put(connection, table, [row(1)]);
    const batch = await loop.get(1, { lockFor: 60 });
    await setClock(connection, NOW + 61);
    const later = await loop.get(1, { lockFor: 60 });
    assert.deepEqual([...later], [1]);
    assert.equal(await loop.unlock(batch), 0);
    assert.equal(await loop.fail(batch), 0);
    assert.deepEqual(await loop.extend(batch), { extended: 0, lease: null });
    assert.equal(await loop.did(batch), 1);
    await setClock(connection);
    assert.deepEqual(await contents(connection, table), [row(1, { updated: 61, until: 121 })]);
  });

  test('extend gives the batch its new lease, so that it still guards', async () => {
    await put(connection, table, [row(1)]);
    const batch = await loop.get(1, { lockFor: 60 });
    await loop.extend(batch, { lockFor: 90 });
    assert.equal(batch.lease, NOW + 90);
    assert.equal(await loop.unlock(batch), 1);
  });

  test('extend that finds no lock leaves the lease of the batch', async () => {
    const batch = await half();
    await loop.bump(batch);
    assert.deepEqual(await loop.extend(batch), { extended: 0, lease: null });
    assert.equal(batch.lease, NOW + 600);
  });

  test('a dry extend leaves the lease of the batch', async () => {
    const batch = await half();
    assert.deepEqual(await loop.extend(batch, { dryRun: true }), { extended: 1, lease: NOW + 3600 });
    assert.equal(batch.lease, NOW + 600);
  });

  test('an empty batch is no ids', async () => {
    await put(connection, table, []);
    const batch = await loop.get(3);
    assert.equal(await loop.did(batch), 0);
    assert.deepEqual(await loop.extend(batch), { extended: 0, lease: null });
    assert.deepEqual(await contents(connection, table), []);
  });
});

type Options = { dryRun?: boolean };
/** Each writing call, in a form that changes something of KINDS. */
const WRITES: Record<string, (loop: DoLoop, options: Options) => Promise<unknown>> = {
  add: (l, options) => l.add([1, 6], { ...options, updated: true }),
  remove: (l, options) => l.remove([1, 6], options),
  get: async (l, options) => plain(await l.get(3, { ...options, lockFor: 60 })),
  did: (l, options) => l.did([1, 6], options),
  unlock: (l, options) => l.unlock([3, 6], options),
  bump: (l, options) => l.bump([1, 6], options),
  extend: (l, options) => l.extend([3, 6], options),
  fail: (l, options) => l.fail([1, 6], options),
};

/** Something of the caller's own. */
await connection.query('CREATE TABLE notes (n INT PRIMARY KEY) ENGINE=InnoDB');
const notes = async (by: Connection) => (await rows(by, 'SELECT n FROM notes')).map(({ n }) => n);

suite('dry runs', async () => {
  const pool = makePool({ connectionLimit: 1 });
  await setClock(pool);
  const manual = makePool({ connectionLimit: 1 });
  await setClock(manual);
  await manual.query('SET autocommit = 0');
  const own = await connect();
  await setClock(own);
  afterEach(async () => {
    await own.query('ROLLBACK');
    await own.query('SET autocommit = 1');
    await connection.query('DELETE FROM notes');
  });
  const TARGETS: [string, Pool | Connection, begin: string[] | undefined][] = [
    ['a pool', pool, undefined],
    ['a pool with autocommit off', manual, undefined],
    ['a connection', own, []],
    ['a connection with a transaction open', own, ['BEGIN', 'INSERT INTO notes VALUES (1)']],
    ['a connection with autocommit off', own, ['SET autocommit = 0']],
    [
      'a connection with autocommit off and something written',
      own,
      ['SET autocommit = 0', 'INSERT INTO notes VALUES (1)'],
    ],
  ];
  for (const [name, call] of Object.entries(WRITES)) {
    let answer: unknown;
    test(`${name} for real changes something`, async () => {
      await put(connection, table, KINDS);
      answer = await call(loop, {});
      assert.notDeepEqual(await contents(connection, table), KINDS);
    });
    for (const [where, target, begin = []] of TARGETS) {
      test(`a dry run of ${name} on ${where} answers as if, and changes nothing`, async () => {
        await put(connection, table, KINDS);
        const writes = begin.some(sql => sql.startsWith('INSERT'));
        for (const sql of begin) await target.query(sql);

        assert.deepEqual(await call(new DoLoop(target, table), { dryRun: true }), answer);
        assert.deepEqual(await notes(observer), []);
        if (writes) {
          assert.deepEqual(await contents(target, table), KINDS);
          assert.ok(await inTransaction(target));
          await target.query('COMMIT');
          assert.deepEqual(await notes(observer), [1]);
        }
        assert.deepEqual(await contents(observer, table), KINDS);
        if (target === own) await own.query('COMMIT');
        assert.equal(await inTransaction(target), false);
      });
    }
  }

  test('a dry run that is refused leaves the transaction of the caller open and whole', async () => {
    await put(connection, table, KINDS);
    const mine = new DoLoop(own, table);
    await own.query('BEGIN');
    await mine.remove(5);
    await assert.rejects(mine.add([6, 2 ** 40], { dryRun: true }), { code: 'REFUSED' });
    assert.ok(await inTransaction(own));
    await own.query('COMMIT');
    assert.deepEqual(await contents(observer, table), without(5));
  });

  test('what is done after a dry run in the same transaction is part of it', async () => {
    await put(connection, table, KINDS);
    const mine = new DoLoop(own, table);
    await own.query('BEGIN');
    await mine.remove(5);
    await mine.remove(4, { dryRun: true });
    await mine.remove(3);
    await own.query('COMMIT');
    assert.deepEqual(await contents(observer, table), without(3, 5));
  });

  test('a dry run on an engine without transactions says that it was for real', async () => {
    const { table: real, loop: myisam } = await makeLoop(connection, { engine: 'MyISAM' });
    await assert.rejects(myisam.add([1], { dryRun: true }), { name: 'DoLoopError', code: 'NOT_ROLLED_BACK' });
    assert.deepEqual(await contents(connection, real), [row(1)]);
  });
});

suite('transactions', async () => {
  const own = await connect();
  await setClock(own);
  afterEach(async () => {
    await own.query('ROLLBACK');
    await own.query('SET autocommit = 1');
  });
  for (const [name, call] of Object.entries(WRITES)) {
    test(`${name} on a connection belongs to the transaction that is open there`, async () => {
      await put(connection, table, KINDS);
      await own.beginTransaction();
      await call(new DoLoop(own, table), {});
      assert.notDeepEqual(await contents(own, table), KINDS);
      assert.deepEqual(await contents(observer, table), KINDS);
      await own.rollback();
      assert.deepEqual(await contents(own, table), KINDS);
    });
    test(`${name} on a connection without one is done when it answers`, async () => {
      await put(connection, table, KINDS);
      await call(new DoLoop(own, table), {});
      assert.notDeepEqual(await contents(observer, table), KINDS);
      assert.equal(await inTransaction(own), false);
    });
  }

  test('with autocommit off the caller of a connection commits', async () => {
    await put(connection, table, KINDS);
    await own.query('SET autocommit = 0');
    await new DoLoop(own, table).remove(1);
    assert.deepEqual(await contents(observer, table), KINDS);
    await own.query('COMMIT');
    assert.deepEqual(await contents(observer, table), without(1));
  });
});

interface Kind {
  idType: string;
  ids: LoopId[];
}

/** For each kind of id: some at its ends, by id. */
const EXACT: Kind[] = [
  { idType: 'INT', ids: [-2147483648, -1, 0, 2147483647] },
  { idType: 'TINYINT UNSIGNED', ids: [0, 255] },
  {
    idType: 'BIGINT',
    ids: [-(2n ** 63n), Number.MIN_SAFE_INTEGER, 0, Number.MAX_SAFE_INTEGER, 2n ** 53n, 2n ** 63n - 1n],
  },
  { idType: 'BIGINT UNSIGNED', ids: [0, 2n ** 63n, 2n ** 64n - 1n] },
  { idType: 'DECIMAL(30,10)', ids: ['-1.5000000000', '0.1000000000', '12345678901234567890.0123456789'] },
  { idType: 'DATE', ids: ['1969-12-31', '2026-01-31'] },
  { idType: 'DATETIME', ids: ['1969-12-31 23:59:59', '2026-03-29 02:30:00'] },
  { idType: 'DATETIME(6)', ids: ['2026-03-29 02:30:00.000001', '2026-03-29 02:30:00.999999'] },
  { idType: 'CHAR(64) CHARSET ascii', ids: ['', '007', 'a:length', 'it?', 'null'] },
  { idType: 'VARBINARY(4)', ids: [Buffer.of(), Buffer.of(0), Buffer.of(0, 255, 39, 92), Buffer.from('1')] },
  { idType: 'BINARY(2)', ids: [Buffer.of(0, 0), Buffer.of(195, 40)] },
];
const TEXTS: Kind = {
  idType: 'VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
  ids: [
    '\0',
    '\n\r\t\u001a',
    '"',
    '%_',
    "' OR 1=1 -- ",
    '?:name',
    '\\',
    "\\'",
    'null',
    '{"a": [1]}',
    'ß',
    'ü',
    '한글',
    '\u{1f600}',
  ],
};

const kinds = await Promise.all(
  [...EXACT, TEXTS].map(async kind => ({
    ...kind,
    table: (await makeLoop(makePool(), { idType: kind.idType })).table,
  })),
);

type Target = ConstructorParameters<typeof DoLoop>[0];

/** Whatever ids have been through, they come back as they went in. */
async function areExact(target: Target, some: (kind: Kind) => boolean = () => true): Promise<void> {
  for (const { idType, ids, table } of kinds.filter(some)) {
    await connection.query(`DELETE FROM ${table}`);
    const exact = new DoLoop<LoopId>(target, table);
    assert.equal(await exact.add(ids), ids.length, idType);
    const found: LoopId[] = [];
    for (const id of ids) for (const status of await exact.check(id)) found.push(status.id);
    assert.deepEqual(found, ids);
    const batch = await exact.get(ids.length, { dryRun: true });
    assert.deepEqual(new Set(batch), new Set(ids));
    assert.equal(typeof batch.lease, 'number');
    const { minId, maxId, delayed } = await exact.stats({ delayThresholds: [60] });
    assert.deepEqual({ minId, maxId, delayed }, { minId: ids[0], maxId: ids.at(-1), delayed: { 60: 0 } });
    assert.equal(await exact.remove(batch), ids.length);
  }
}

suite('ids are exact', () => {
  for (const { idType, ids, table } of kinds) {
    test(`in every call: ${idType}`, async () => {
      await connection.query(`DELETE FROM ${table}`);
      const exact = new DoLoop<LoopId>(connection, table);
      for (const [i, id] of ids.entries()) assert.equal(await exact.bump(id, { lockFor: i - 100 }), 1);
      const batch = await exact.get(ids.length);
      assert.deepEqual([...batch], ids);
      assert.equal((await exact.extend(batch)).extended, ids.length);
      assert.equal(await exact.fail(batch.slice(1)), ids.length - 1);
      assert.equal(await exact.did(ids.slice(0, 1)), 1);
      assert.deepEqual(
        (await exact.check(batch)).map(({ failures, sinceUpdated }) => [failures, sinceUpdated]),
        ids.map((_, i) => (i === 0 ? [0, 0] : [1, null])),
      );
      assert.equal(await exact.unlock(ids), ids.length - 1);
      assert.equal(await exact.remove(ids), ids.length);
    });
  }

  const POOLS: [string, PoolOptions][] = [
    ['no options', {}],
    ['supportBigNumbers', { supportBigNumbers: true }],
    ['supportBigNumbers and bigNumberStrings', { supportBigNumbers: true, bigNumberStrings: true }],
    ['dateStrings', { dateStrings: true }],
    ['dateStrings for DATE alone', { dateStrings: ['DATE'] }],
    ['decimalNumbers', { decimalNumbers: true }],
    ['rowsAsArray', { rowsAsArray: true }],
    ['typeCast: false', { typeCast: false }],
    ['a typeCast that mangles', { typeCast: () => 'mangled' }],
    ['namedPlaceholders', { namedPlaceholders: true }],
    ['nestTables', { nestTables: '_' }],
    ['nestTables: true', { nestTables: true }],
    ['timezone', { timezone: '+14:00' }],
    ['jsonStrings', { jsonStrings: true }],
    ['a queryFormat', { queryFormat: named }],
    ['multipleStatements', { multipleStatements: true }],
    ['without FOUND_ROWS', { flags: ['-FOUND_ROWS'] }],
    ['resetOnRelease', { resetOnRelease: true }],
    ['charset utf8mb4_unicode_ci', { charset: 'utf8mb4_unicode_ci' }],
  ];

  for (const [title, options] of POOLS) {
    test(`on a pool with ${title}`, async () => {
      await assert.doesNotReject(areExact(makePool(options)));
    });
  }
  test('on a pool with charset latin1, which has no more letters, all but those', async () => {
    await assert.doesNotReject(areExact(makePool({ charset: 'latin1' }), ({ idType }) => idType !== TEXTS.idType));
  });

  test("on the pool of 'mysql2' with callbacks", async () => {
    const pool = callbackMysql.createPool({ uri: server.url, database });
    await assert.doesNotReject(areExact(pool).finally(() => pool.promise().end()));
  });
  test("on the connection of 'mysql2' with callbacks", async () => {
    const one = callbackMysql.createConnection({ uri: server.url, database });
    await assert.doesNotReject(areExact(one).finally(() => one.destroy()));
  });
  test("on a connection of the pool of 'mysql2' with callbacks", async () => {
    const pool = callbackMysql.createPool({ uri: server.url, database });
    const one = await new Promise<CallbackPoolConnection>((resolve, reject) => {
      pool.getConnection((error, got) => (error ? reject(error) : resolve(got)));
    });
    await assert.doesNotReject(areExact(one).finally(() => one.destroy()));
    await pool.promise().end();
  });
  test('on a connection of a pool', async () => {
    const one = await makePool().getConnection();
    await assert.doesNotReject(areExact(one).finally(() => one.release()));
  });

  const SESSIONS: [string, string][] = [
    ['NO_BACKSLASH_ESCAPES', "sql_mode = 'NO_BACKSLASH_ESCAPES'"],
    ['ANSI', "sql_mode = 'ANSI'"],
    ['no sql_mode', "sql_mode = ''"],
    ['PAD_CHAR_TO_FULL_LENGTH', "sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'"],
    ['gbk statements', "character_set_client = 'gbk'"],
    ['another collation', "collation_connection = 'latin1_swedish_ci'"],
    ['another time zone', "time_zone = '-12:00'"],
    ['autocommit off', 'autocommit = 0'],
  ];
  for (const [title, setting] of SESSIONS) {
    test(`in sessions with ${title}`, async () => {
      const pool = makePool();
      pool.on('connection', one => one.query(`SET ${setting}`));
      await assert.doesNotReject(areExact(pool));
    });
  }

  test('a text id in the table is the one that was given', async () => {
    const { ids, table } = kinds.at(-1)!;
    const pool = makePool();
    pool.on('connection', one => one.query("SET sql_mode = 'NO_BACKSLASH_ESCAPES'"));
    await connection.query(`DELETE FROM ${table}`);
    await new DoLoop<LoopId>(pool, table).add(ids);
    const stored = await rows(observer, `SELECT HEX(id) AS hex FROM ${table} ORDER BY id`);
    assert.deepEqual(
      stored.map(({ hex }) => Buffer.from(hex, 'hex').toString()),
      ids,
    );
  });
});

/** The queryFormat of mysql's documentation. */
function named(query: string, values?: Record<string, string>): string {
  if (!values) return query;
  return query.replace(/:(\w+)/g, (all, key: string) => (key in values ? callbackMysql.escape(values[key]) : all));
}

/** A pool that has been listened to, and what was said. */
function heard<T extends Connection | Pool>(target: T): { sent: string[]; target: T } {
  const sent: string[] = [];
  const hear = (sql: string) => {
    sent.push(sql);
    return undefined;
  };
  return { sent, target: standIn(target, hear) };
}

const READS: Record<string, Call> = {
  check: l => l.check([1, 2]),
  stats: l => l.stats({ delayThresholds: [60] }),
  next: l => l.next(),
};

suite('round trips', () => {
  /** How many statements the server has had from this session. */
  const questions = async (target: Connection | Pool) =>
    Number((await rows(target, "SHOW SESSION STATUS LIKE 'Questions'"))[0]!.Value);

  for (const [where, target] of [
    ['a pool', makePool({ connectionLimit: 1 })],
    ['a connection', connection],
  ] as const) {
    for (const [name, call] of Object.entries({ ...WRITES, ...READS })) {
      test(`${name} on ${where} is one statement`, async () => {
        const listened = heard(target);
        const before = await questions(target);
        await call(new DoLoop(listened.target, table), {});
        assert.equal((await questions(target)) - before, 2); // this question is one, too
        assert.equal(listened.sent.length, 1);
      });
    }
  }

  test('a call on a connection with a transaction open is one statement', async () => {
    await connection.beginTransaction();
    const listened = heard(connection);
    await new DoLoop(listened.target, table).did([1, 2]);
    await connection.rollback();
    assert.equal(listened.sent.length, 1);
  });
});

suite('wrong arguments are refused before anything is sent', () => {
  const odd = (value: unknown) => value as number;
  const options = (value: object) => value as object;
  const seconds = (low: number) => `is not a number of seconds from ${low} to 2147483647`;
  const WRONG: [string, (l: DoLoop) => Promise<unknown>, ErrorConstructor, string][] = [
    ['null for ids', l => l.add(odd(null)), TypeError, 'ids: null is not a number, bigint, string or Buffer'],
    [
      'nothing for ids',
      l => l.add(odd(undefined)),
      TypeError,
      'ids: undefined is not a number, bigint, string or Buffer',
    ],
    [
      'true among the ids',
      l => l.did([1, odd(true)]),
      TypeError,
      'ids: true is not a number, bigint, string or Buffer',
    ],
    [
      'an object as id',
      l => l.bump(odd({ id: 1 })),
      TypeError,
      'ids: an object is not a number, bigint, string or Buffer',
    ],
    [
      'arrays among the ids',
      l => l.fail([odd([1, 2])]),
      TypeError,
      'ids: an array is not a number, bigint, string or Buffer',
    ],
    [
      'a hole in the array',
      l => l.add(new Array<number>(1)),
      TypeError,
      'ids: undefined is not a number, bigint, string or Buffer',
    ],
    [
      'a function as id',
      l => l.add(odd(Number)),
      TypeError,
      'ids: a function is not a number, bigint, string or Buffer',
    ],
    [
      'a Date',
      l => l.check(odd(new Date(0))),
      TypeError,
      'ids: a Date depends on the time zone; give a string like "2026-01-31 23:59:59"',
    ],
    [
      'a fraction',
      l => l.extend(1.5),
      RangeError,
      'ids: 1.5 is not a whole number that is exact; an id with a fraction is a string',
    ],
    [
      'NaN',
      l => l.unlock(Number.NaN),
      RangeError,
      'ids: NaN is not a whole number that is exact; an id with a fraction is a string',
    ],
    [
      'a number past 2^53',
      l => l.remove(2 ** 53),
      RangeError,
      'ids: 9007199254740992 is not a whole number that is exact; a bigint is exact',
    ],
    ['half a character', l => l.add(odd('\ud83d')), RangeError, 'ids: "\\ud83d" has half a character in it'],
    ['no maxIds', l => l.get(odd(undefined)), TypeError, 'maxIds: undefined is not a number'],
    ['text for maxIds', l => l.get(odd('10')), TypeError, 'maxIds: "10" is not a number'],
    ['a bigint for maxIds', l => l.get(odd(10n)), TypeError, 'maxIds: 10 is not a number'],
    ['a negative maxIds', l => l.get(-1), RangeError, 'maxIds: -1 is not a whole number from 0 up'],
    ['a fraction for maxIds', l => l.get(0.5), RangeError, 'maxIds: 0.5 is not a whole number from 0 up'],
    ['lockFor 0 in get', l => l.get(1, { lockFor: 0 }), RangeError, `lockFor: 0 ${seconds(1)}`],
    ['a fraction for lockFor', l => l.get(1, { lockFor: 1.5 }), RangeError, `lockFor: 1.5 ${seconds(1)}`],
    ['text for lockFor', l => l.bump(1, { lockFor: odd('60') }), TypeError, 'lockFor: "60" is not a number'],
    ['a negative minLoopTime', l => l.get(1, { minLoopTime: -1 }), RangeError, `minLoopTime: -1 ${seconds(0)}`],
    ['a negative minLoopTime of next', l => l.next({ minLoopTime: -1 }), RangeError, `minLoopTime: -1 ${seconds(0)}`],
    ['lockFor 0 in extend', l => l.extend(1, { lockFor: 0 }), RangeError, `lockFor: 0 ${seconds(1)}`],
    [
      'a lockFor of bump too large',
      l => l.bump(1, { lockFor: 2 ** 31 }),
      RangeError,
      `lockFor: 2147483648 ${seconds(-2147483647)}`,
    ],
    ['a negative retryIn', l => l.fail(1, { retryIn: -1 }), RangeError, `retryIn: -1 ${seconds(0)}`],
    ['a lease that is no number', l => l.did(1, { lease: odd('1') }), TypeError, 'lease: "1" is not a number'],
    [
      'a lease that is not whole',
      l => l.did(1, { lease: 0.5 }),
      RangeError,
      'lease: 0.5 is not a whole number from -9007199254740991 to 9007199254740991',
    ],
    [
      'a flag that is no flag',
      l => l.did(1, { autoAdd: odd(0) as unknown as boolean }),
      TypeError,
      'autoAdd: 0 is not true or false',
    ],
    [
      'a dryRun that is no flag',
      l => l.remove(1, { dryRun: 'yes' as unknown as boolean }),
      TypeError,
      'dryRun: "yes" is not true or false',
    ],
    [
      'one threshold without an array',
      l => l.stats({ delayThresholds: odd(60) as unknown as number[] }),
      TypeError,
      'delayThresholds: 60 is not an array of numbers of seconds',
    ],
    [
      'a negative threshold',
      l => l.stats({ delayThresholds: [1, -1] }),
      RangeError,
      `delayThresholds: -1 ${seconds(0)}`,
    ],
    [
      'a threshold that is no number',
      l => l.stats({ delayThresholds: [odd('60')] }),
      TypeError,
      'delayThresholds: "60" is not a number',
    ],
    ['options that are no object', l => l.get(1, 60 as unknown as object), TypeError, 'options: 60 is not an object'],
    ['null for options', l => l.add(1, null as unknown as object), TypeError, 'options: null is not an object'],
    [
      'an unknown option of add',
      l => l.add(1, options({ update: true })),
      TypeError,
      'options: update is none of updated, dryRun',
    ],
    [
      'an unknown option of remove',
      l => l.remove(1, options({ autoAdd: true })),
      TypeError,
      'options: autoAdd is none of dryRun',
    ],
    [
      'an unknown option of get',
      l => l.get(1, options({ lock_for: 1 })),
      TypeError,
      'options: lock_for is none of lockFor, minLoopTime, dryRun',
    ],
    [
      'an unknown option of did',
      l => l.did(1, options({ lockFor: 1 })),
      TypeError,
      'options: lockFor is none of autoAdd, lease, dryRun',
    ],
    [
      'an unknown option of unlock',
      l => l.unlock(1, options({ lockFor: 1 })),
      TypeError,
      'options: lockFor is none of autoAdd, lease, dryRun',
    ],
    [
      'an unknown option of bump',
      l => l.bump(1, options({ lease: 1 })),
      TypeError,
      'options: lease is none of lockFor, autoAdd, dryRun',
    ],
    [
      'an unknown option of extend',
      l => l.extend(1, options({ autoAdd: true })),
      TypeError,
      'options: autoAdd is none of lockFor, lease, dryRun',
    ],
    [
      'an unknown option of fail',
      l => l.fail(1, options({ autoAdd: true })),
      TypeError,
      'options: autoAdd is none of retryIn, lease, dryRun',
    ],
    [
      'an unknown option of stats',
      l => l.stats(options({ thresholds: [] })),
      TypeError,
      'options: thresholds is none of delayThresholds',
    ],
    [
      'an unknown option of next',
      l => l.next(options({ lockFor: 1 })),
      TypeError,
      'options: lockFor is none of minLoopTime',
    ],
    [
      'an option named as something that every object has',
      l => l.next(options({ constructor: 1 })),
      TypeError,
      'options: constructor is none of minLoopTime',
    ],
  ];
  for (const [title, call, kind, message] of WRONG) {
    test(`${title}`, async () => {
      const { sent, target } = heard(connection);
      await assert.rejects(call(new DoLoop(target, table)), { name: kind.name, message });
      assert.deepEqual(sent, []);
    });
  }

  test('what is no pool and no connection', () => {
    for (const target of [undefined, null, {}, 'mysql://root@localhost/app']) {
      assert.throws(() => new DoLoop(target as unknown as Pool, 'user_loop'), TypeError);
    }
  });
  test('what is no name of a table', () => {
    assert.throws(() => new DoLoop(connection, 7 as unknown as string), TypeError);
    for (const name of ['', 'a.b.c', 'x'.repeat(58), 'a\0b']) {
      assert.throws(() => new DoLoop(connection, name), { name: 'RangeError', message: /^table: / });
    }
  });
});

suite('the client and the procedures draw the same line, in the same words', () => {
  const snake = (text: string) => text.replace(/^\w+/, name => name.replaceAll(/[A-Z]/g, c => `_${c.toLowerCase()}`));
  const MAX = 2147483647;
  const LIMITS: [string, low: number, high: number, client: (l: DoLoop, n: number) => Promise<unknown>, sql: string][] =
    [
      ['max_ids of get', 0, Number.POSITIVE_INFINITY, (l, n) => l.get(n), 'get(?, NULL, NULL)'],
      ['lock_for of get', 1, MAX, (l, n) => l.get(1, { lockFor: n }), 'get(1, ?, NULL)'],
      ['min_loop_time of get', 0, MAX, (l, n) => l.get(1, { minLoopTime: n }), 'get(1, NULL, ?)'],
      ['lock_for of bump', -MAX, MAX, (l, n) => l.bump(1, { lockFor: n }), 'bump(1, ?, NULL)'],
      ['lock_for of extend', 1, MAX, (l, n) => l.extend(1, { lockFor: n }), 'extend(1, ?, NULL)'],
      ['retry_in of fail', 0, MAX, (l, n) => l.fail(1, { retryIn: n }), 'fail(1, ?, NULL)'],
      ['delay_thresholds of stats', 0, MAX, (l, n) => l.stats({ delayThresholds: [n] }), "stats('[?]')"],
      ['min_loop_time of next', 0, MAX, (l, n) => l.next({ minLoopTime: n }), 'next(?)'],
    ];
  for (const [title, low, high, client, sql] of LIMITS) {
    test(`${title}`, async () => {
      await put(connection, table, []);
      const call = (n: number) => connection.query(`CALL ${table}_${sql.replace('?', String(n))}`);
      for (const good of [low, high].filter(Number.isFinite)) {
        await client(loop, good);
        await call(good);
      }
      for (const bad of [low - 1, high + 1].filter(Number.isFinite)) {
        const { message } = await rejection(client(loop, bad));
        await assert.rejects(call(bad), { errno: 1644, message: snake(message) });
      }
    });
  }
});

suite('ids that outgrow a packet', () => {
  const PACKET = 40_000;
  /** A server that takes no more than PACKET bytes at once. */
  function narrow<T extends Connection | Pool>(target: T): { sent: string[]; target: T } {
    const sent: string[] = [];
    const hear = (sql: string) => {
      assert.ok(Buffer.byteLength(sql) < PACKET, `a statement of ${Buffer.byteLength(sql)} bytes`);
      sent.push(sql);
      return sql.includes('@@max_allowed_packet') ? [{ bytes: PACKET }] : undefined;
    };
    return { sent, target: standIn(target, hear) };
  }
  const calls = (sent: string[]) => sent.filter(sql => sql.startsWith('CALL')).length;
  /** Some calls' worth of ids, those that stand far apart twice. */
  const MANY = Array.from({ length: 9000 }, (_, i) => 10_000 + i);
  const TWICE = [...MANY, ...MANY.slice(0, 10)];
  const pool = makePool({ connectionLimit: 1 });
  const own = makePool({ connectionLimit: 1 });

  async function count(by: Connection | Pool, where = 'TRUE'): Promise<number> {
    return Number((await rows(by, `SELECT COUNT(*) AS n FROM ${table} WHERE ${where}`))[0]!.n);
  }

  test('are one call all the same: its answers add up', async () => {
    await put(connection, table, []);
    const { sent, target } = narrow(pool);
    const many = new DoLoop(target, table);
    assert.equal(await many.add(TWICE.slice(5)), 9000);
    assert.ok(calls(sent) > 1);
    assert.equal(await count(observer), 9000);
    assert.equal(await many.add([1, ...TWICE]), 1);
    assert.equal(await many.bump(TWICE, { lockFor: 900 }), 9000);
    assert.equal(await many.unlock(TWICE), 9000);
    assert.equal(await many.did(TWICE), 9000);
    assert.equal(await many.fail(TWICE), 9000);
    assert.equal(await count(observer, 'failures = 1 AND last_updated IS NOT NULL'), 9000);
    assert.equal((await many.get(9001)).length, 1);
    assert.equal(await many.remove(TWICE), 9000);
    assert.equal(await count(observer), 1);
  });

  test('ask for max_allowed_packet once', async () => {
    const { sent, target } = narrow(pool);
    const many = new DoLoop(target, table);
    await many.add(MANY);
    await many.remove(MANY);
    assert.equal(sent.filter(sql => sql.includes('@@max_allowed_packet')).length, 1);
  });

  test('are checked by id, each once', async () => {
    await put(connection, table, []);
    const { sent, target } = narrow(pool);
    const many = new DoLoop(target, table);
    await many.add(MANY);
    const before = calls(sent);
    const statuses = await many.check(TWICE.toReversed());
    assert.ok(calls(sent) - before > 1);
    assert.deepEqual(
      statuses.map(({ id }) => id),
      MANY,
    );
  });

  const BAD = [...MANY, 2 ** 31];
  const SOMEWHERE: [string, () => Promise<Connection | Pool>, (target: Connection) => Promise<unknown>][] = [
    ['a pool', async () => pool, async () => {}],
    ['a connection', connect, async () => {}],
    ['a connection with autocommit off', connect, target => target.query('SET autocommit = 0')],
    ['a connection with a transaction open', connect, target => target.query('BEGIN')],
  ];
  for (const [where, target, prepare] of SOMEWHERE) {
    test(`are all refused for a bad one in the last packet, on ${where}`, async () => {
      await put(connection, table, []);
      const real = await target();
      await prepare(real as Connection);
      const { sent, target: stood } = narrow(real);
      await assert.rejects(new DoLoop(stood, table).add(BAD), { code: 'REFUSED', message: /^ids: 2147483648 is not / });
      assert.ok(calls(sent) > 1);
      await real.query('COMMIT');
      assert.equal(await count(observer), 0);
    });
    test(`are added or not as one, on ${where}`, async () => {
      await put(connection, table, []);
      const real = await target();
      await prepare(real as Connection);
      await new DoLoop(narrow(real).target, table).add(MANY);
      assert.equal(await count(observer), where.includes(' with ') ? 0 : 9000);
      await real.query('COMMIT');
      assert.equal(await count(observer), 9000);
    });
    test(`answer a dry run as if, and change nothing, on ${where}`, async () => {
      await put(connection, table, []);
      const real = await target();
      await prepare(real as Connection);
      assert.equal(await new DoLoop(narrow(real).target, table).add(MANY, { dryRun: true }), 9000);
      await real.query('COMMIT');
      assert.equal(await count(observer), 0);
    });
  }

  test('leave what the caller of a transaction wrote before, when they are refused', async () => {
    await put(connection, table, []);
    const real = await connect();
    await real.beginTransaction();
    const many = new DoLoop(narrow(real).target, table);
    await many.add(1);
    await assert.rejects(many.add(BAD), { code: 'REFUSED' });
    await many.add(2);
    await real.commit();
    assert.deepEqual(
      (await contents(observer, table)).map(({ id }) => id),
      [1, 2],
    );
  });

  test('can not be extended, for an extension has one lease', async () => {
    await put(connection, table, [row(10_000, { until: 600 })]);
    const { sent, target } = narrow(connection);
    await assert.rejects(new DoLoop(target, table).extend(MANY), RangeError);
    assert.equal(calls(sent), 0);
    assert.deepEqual(await contents(connection, table), [row(10_000, { until: 600 })]);
  });

  test('may be text of which every byte takes two', async () => {
    const { loop: texts, table: textTable } = await makeLoop<string>(own, {
      idType: 'VARCHAR(500) CHARACTER SET utf8mb4',
    });
    const ids = Array.from({ length: 40 }, (_, i) => `${i}${'\u{1f600}'.repeat(400)}`);
    const { sent, target } = narrow(own);
    assert.equal(await new DoLoop<string>(target, textTable).add(ids), 40);
    assert.ok(calls(sent) > 1);
    assert.deepEqual((await texts.check(ids)).map(({ id }) => id).sort(), ids.toSorted());
  });

  test('one that alone is longer than a packet is refused', async () => {
    const { sent, target } = narrow(own);
    await assert.rejects(new DoLoop<string>(target, table).add('x'.repeat(50_000)), {
      name: 'RangeError',
      message: /^ids: "xxx.* is longer than the server's max_allowed_packet$/,
    });
    assert.equal(calls(sent), 0);
  });
});

suite('errors', () => {
  test('a loop that is not there: the message has the command that makes it', async () => {
    for (const name of ['no_loop', `${database}.no_loop`]) {
      const missing = new DoLoop(connection, name);
      for (const call of [...Object.values(WRITES), ...Object.values(READS)]) {
        await assert.rejects(
          call(missing, {}),
          (error: DoLoopError) =>
            error instanceof DoLoopError &&
            error.code === 'NO_LOOP' &&
            error.message.includes(`npx doloop create ${name}`) &&
            (error.cause as MySqlError).errno === 1305,
        );
      }
    }
  });

  test('a table that was dropped is a loop that is not there', async () => {
    const { table: gone, loop: left } = await makeLoop(connection);
    await connection.query(`DROP TABLE ${gone}`);
    await assert.rejects(left.add(1), { code: 'NO_LOOP' });
  });

  test('an account without EXECUTE: the message has the command that allows it', async () => {
    const user = `doloop_${process.pid}`;
    await connection.query(`CREATE USER ${user}@'%' IDENTIFIED BY 'Secret-1'`);
    try {
      await connection.query(`GRANT SELECT, INSERT ON ${database}.* TO ${user}@'%'`);
      const target = await connect({ user, password: 'Secret-1' });
      await assert.rejects(new DoLoop(target, table).get(1), {
        name: 'DoLoopError',
        code: 'NOT_ALLOWED',
        message: `this account may not use ${table}; \`npx doloop create ${table} --grant ACCOUNT\` allows it`,
      });
    } finally {
      await connection.query(`DROP USER ${user}@'%'`);
    }
  });

  test("what the loop refuses: the server's words, and its error as the cause", async () => {
    for (const target of [connection, makePool()]) {
      const { sent, target: listened } = heard(target);
      const error = await rejection(new DoLoop(listened, table).did([1, 2 ** 31]));
      assert.ok(error instanceof DoLoopError);
      assert.equal(error.code, 'REFUSED');
      assert.equal(error.message, 'ids: 2147483648 is not a whole number from -2147483648 to 2147483647');
      assert.equal((error.cause as MySqlError).sqlState, '45000');
      assert.equal(sent.filter(sql => sql.startsWith('CALL')).length, 1); // never repeated
    }
  });

  test("an error's stack, and its cause's, lead to the caller; how long stacks are stays as it was", async () => {
    const limit = Error.stackTraceLimit;
    for (const target of [connection, makePool()]) {
      const caller = async () => {
        await new DoLoop(target, table).did(2 ** 31);
      };
      const error = await rejection(caller());
      assert.match(error.stack!, /^DoLoopError: ids: 2147483648 is not .* at async caller /s);
      assert.match((error.cause as Error).stack!, /^Error: ids: 2147483648 is not .* at async caller /s);
    }
    assert.equal(Error.stackTraceLimit, limit);
  });

  test("any other error is mysql2's own", async () => {
    const waiting = await connect();
    await waiting.query('SET innodb_lock_wait_timeout = 1');
    await put(connection, table, KINDS);
    await connection.beginTransaction();
    await loop.did(1);
    await assert.rejects(new DoLoop(waiting, table).did(1), { errno: 1205, code: 'ER_LOCK_WAIT_TIMEOUT' });
    await connection.rollback();
  });
});
