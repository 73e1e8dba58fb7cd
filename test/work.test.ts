import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { afterEach, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import {
  Batch,
  create,
  DoLoop,
  type DoLoopError,
  type LoopId,
  type WorkEvent,
  type WorkOptions,
} from '../src/index.js';
import {
  connect,
  contents,
  database,
  fill,
  makeAccount,
  makeLoop,
  makePool,
  type Row,
  type RowValues,
  rows,
  server,
} from './harness.js';
import { until } from './until.js';

const connection = await connect();
const pool = makePool();
const FAST = { pollInterval: 1, gracePeriod: 5 };

/** A loop that has these ids, never updated. */
async function loopOf<Id extends LoopId = number>(ids: Iterable<Id>, idType = 'INT') {
  const made = await makeLoop<Id>(pool, { idType });
  await made.loop.add(ids);
  return made;
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

/** Keeps the events. */
function recorder<Id = number>() {
  const events: WorkEvent<Id>[] = [];
  return {
    onEvent: (event: WorkEvent<Id>) => void events.push(event),
    of: <Type extends WorkEvent<Id>['type']>(type: Type) =>
      events.filter((event): event is Extract<WorkEvent<Id>, { type: Type }> => event.type === type),
    ids: (type: 'did' | 'failed' | 'unlocked' | 'left' | 'lost') =>
      events.flatMap(event => (event.type === type ? [...event.ids] : [])).sort((a, b) => (a < b ? -1 : 1)),
  };
}

/** A failed test leaves nothing running. */
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A handler's way to wait until the test lets it go on. */
function gate() {
  let open = () => {};
  const passed = new Promise<void>(resolve => {
    open = resolve;
  });
  ends.push(open);
  return { passed, open };
}

function stopper(): AbortController {
  const stop = new AbortController();
  ends.push(() => stop.abort());
  return stop;
}

async function rejection(call: Promise<unknown>): Promise<Error> {
  return call.then(
    () => assert.fail('it did not reject'),
    (error: Error) => error,
  );
}

const isDone = (row: Row) => row.last_updated !== null && row.lock_until === null && row.failures === 0;
const isUntouched = (row: Row) => row.last_updated === null && row.lock_until === null && row.failures === 0;
const isLocked = (row: Row) => row.lock_until !== null;
const idsWhere = async (table: string, holds: (row: Row) => boolean) =>
  (await contents(connection, table)).filter(holds).map(({ id }) => id);
const NONE = { did: 0, failed: 0, unlocked: 0, left: 0, lost: 0 };

suite('work', () => {
  test('calls the handler with each id, once, by priority, and marks them as updated, a batch with one call', async () => {
    const { table, loop } = await loopOf(upTo(25));
    await loop.bump(20);
    const seen: number[] = [];
    const { onEvent, of } = recorder();
    const handler = async (id: number) => void seen.push(id);
    const { signal } = stopper();
    const summary = await loop.work(handler, { maxIds: 10, once: true, onEvent, signal });
    assert.deepEqual(getEventListeners(signal, 'abort'), []);
    assert.deepEqual(summary, { ...NONE, did: 25 });
    assert.deepEqual(seen, [20, ...upTo(25).filter(id => id !== 20)]);
    assert.equal((await idsWhere(table, isDone)).length, 25);
    assert.deepEqual(
      of('got').map(({ ids }) => ids.length),
      [10, 10, 5],
    );
    assert.deepEqual(
      of('did')
        .map(({ ids }) => ids.length)
        .sort(),
      [10, 10, 5],
    );
  });

  test('with batch: true, calls it with each batch, which carries its lease', async () => {
    const { table, loop } = await loopOf(upTo(5));
    const seen: Batch<number>[] = [];
    const summary = await loop.work(
      async batch => {
        assert.ok(batch instanceof Batch);
        for (const { lockedFor } of await loop.check(batch)) assert.ok(lockedFor! > 3_500);
        seen.push(batch.slice());
        batch.length = 0; // it is the handler's
      },
      { batch: true, maxIds: 3, once: true },
    );
    assert.deepEqual(
      seen.map(batch => [...batch]),
      [
        [1, 2, 3],
        [4, 5],
      ],
    );
    assert.deepEqual(summary, { ...NONE, did: 5 });
    assert.equal((await idsWhere(table, isDone)).length, 5);
  });

  for (const [maxIds, concurrency] of [
    [100, 7],
    [3, 7],
    [1, 1],
    [10, 1],
  ] as const) {
    test(`runs as many handlers at once as it may, and no more: ${maxIds} ids, concurrency ${concurrency}`, async () => {
      const { loop } = await loopOf(upTo(40));
      let [running, most] = [0, 0];
      const work = async () => {
        running += 1;
        most = Math.max(most, running);
        await until('the others', () => most === concurrency);
        await sleep(5);
        running -= 1;
      };
      assert.deepEqual(await loop.work(work, { maxIds, concurrency, once: true }), { ...NONE, did: 40 });
      assert.equal(most, concurrency);
    });
  }

  for (const [maxIds, concurrency, locked] of [
    [4, 2, 8], // two wait, and one batch is ahead
    [1, 3, 4],
    [2, 3, 6],
  ] as const) {
    test(`gets more before the handlers run dry, and never more than a batch ahead: ${maxIds} ids, concurrency ${concurrency}`, async () => {
      const { table, loop } = await loopOf(upTo(50));
      const { passed, open } = gate();
      const working = loop.work(() => passed, { maxIds, concurrency, once: true });
      await until('it has got all', async () => (await idsWhere(table, isLocked)).length === locked);
      await sleep(150);
      assert.equal((await idsWhere(table, isLocked)).length, locked);
      open();
      assert.equal((await working).did, 50);
    });
  }

  test('gets no more while many handlers’ worth is waiting', async () => {
    const { table, loop } = await loopOf(upTo(100));
    const { passed, open } = gate();
    const working = loop.work(() => passed, { maxIds: 10, concurrency: 2, once: true });
    await until('the first batch', async () => (await idsWhere(table, isLocked)).length > 0);
    await sleep(150);
    assert.equal((await idsWhere(table, isLocked)).length, 10);
    open();
    assert.equal((await working).did, 100);
  });

  test('has one batch running and one ahead with batch: true', async () => {
    const { table, loop } = await loopOf(upTo(20));
    const { passed, open } = gate();
    const { onEvent, of } = recorder();
    const working = loop.work(() => passed, { batch: true, maxIds: 3, once: true, onEvent });
    await until('the next batch', () => of('got').length === 2);
    await sleep(150);
    assert.equal((await idsWhere(table, isLocked)).length, 6);
    open();
    assert.equal((await working).did, 20);
  });

  test('marks what is done about a second later, though others of the batch take longer', async () => {
    const { table, loop } = await loopOf(upTo(4));
    const { passed, open } = gate();
    const { onEvent, of } = recorder();
    const working = loop.work(id => (id === 4 ? passed : undefined), { once: true, onEvent });
    await until('the others are marked', async () => (await idsWhere(table, isDone)).length === 3);
    assert.deepEqual(
      of('did').map(({ ids }) => [...ids]),
      [[1, 2, 3]],
    );
    open();
    assert.deepEqual(await working, { ...NONE, did: 4 });
  });

  test('gets no more while what was done can’t be marked', async () => {
    const { table, loop } = await loopOf(upTo(100));
    const { onEvent, of } = recorder();
    let begun = 0;
    const stop = stopper();
    const working = loop.work(
      async () => {
        begun += 1;
        if (begun === 1) await pool.query(`DROP PROCEDURE ${table}_did`);
      },
      { maxIds: 5, onEvent, signal: stop.signal, ...FAST },
    );
    await until('some retries', () => of('retry').length >= 6);
    assert.ok(begun <= 20, `${begun} ids`);
    await create(connection, table);
    await until('all are marked', async () => (await idsWhere(table, isDone)).length === 100);
    stop.abort();
    assert.deepEqual(await working, { ...NONE, did: 100 });
  });

  test('an id that was taken out of the loop meanwhile does not come back', async () => {
    const { table, loop } = await loopOf<number>([1, 2]);
    await loop.work(async id => id === 1 && loop.remove(1), { once: true });
    assert.deepEqual(await idsWhere(table, () => true), [2]);
  });

  test('a bump that comes during the update is not lost', async () => {
    const { table, loop } = await loopOf<number>([1]);
    let times = 0;
    const handler = async (id: number) => {
      times += 1;
      if (times === 1) await loop.bump(id);
    };
    assert.equal((await loop.work(handler, { once: true })).did, 2);
    assert.equal(times, 2);
    assert.deepEqual(await idsWhere(table, isDone), [1]);
  });

  test('handlers that never wait let others have their turn', async () => {
    const { loop } = await loopOf(upTo(200));
    const busy = () => {
      for (const end = performance.now() + 5; performance.now() < end; );
    };
    const { did, unlocked } = await loop.work(busy, { maxIds: 200, signal: AbortSignal.timeout(100) });
    assert.ok(did < 150 && did + unlocked === 200, `${did} did, ${unlocked} unlocked`);
  });

  test('any number of handlers may listen to their signal', async t => {
    const warnings: Error[] = [];
    const warn = (warning: Error) => warnings.push(warning);
    process.on('warning', warn);
    t.after(() => process.off('warning', warn));
    const { loop } = await loopOf(upTo(40));
    await loop.work((_, { signal }) => signal.addEventListener('abort', () => {}), { concurrency: 40, once: true });
    await sleep(10);
    assert.deepEqual(warnings, []);
  });
});

suite('what fails', () => {
  const mishap = new Error('as ordered');
  /** Odd ids fail. */
  const handler = async (id: number) => {
    if (id % 2 === 1) throw mishap;
  };
  const CASES: [string, WorkOptions<number>, Partial<typeof NONE>, failures: number, lockedFor: number | null][] = [
    ['is marked as failed, for the contract’s pause', {}, { failed: 2 }, 1, 60],
    ['is tried again in retryIn seconds', { onFailure: 'fail', retryIn: 7 }, { failed: 2 }, 1, 7],
    ['is left locked', { onFailure: 'leave', lockFor: 100 }, { left: 2 }, 0, 100],
  ];
  for (const [what, options, counts, failures, lockedFor] of CASES) {
    test(`${what}: ${JSON.stringify(options)}`, async () => {
      const { table, loop } = await loopOf<number>([1, 2, 3, 4]);
      const { onEvent, of } = recorder();
      assert.deepEqual(await loop.work(handler, { once: true, onEvent, ...options }), { ...NONE, did: 2, ...counts });
      assert.deepEqual(
        of('failed').map(({ ids, error }) => [...ids, error]),
        [
          [1, mishap],
          [3, mishap],
        ],
      );
      assert.deepEqual(await idsWhere(table, isDone), [2, 4]);
      for (const status of await loop.check([1, 3])) {
        assert.equal(status.failures, failures);
        assert.equal(status.sinceUpdated, null);
        assert.ok(Math.abs(status.lockedFor! - lockedFor!) <= 3, `${status.lockedFor}`);
      }
    });
  }

  test('is unlocked, with onFailure: unlock, and comes again', async () => {
    const { table, loop } = await loopOf<number>([1, 2]);
    let times = 0;
    const onceMore = () => {
      times += 1;
      if (times <= 2) throw mishap;
    };
    assert.deepEqual(await loop.work(onceMore, { maxIds: 2, onFailure: 'unlock', once: true }), {
      ...NONE,
      did: 2,
      unlocked: 2,
    });
    assert.deepEqual(await idsWhere(table, isDone), [1, 2]);
  });

  test('with batch: true is the whole batch', async () => {
    const { loop } = await loopOf<number>([1, 2, 3]);
    const { onEvent, of } = recorder();
    const fails = async (batch: Batch<number>) => {
      if (batch.includes(2)) throw mishap;
    };
    const summary = await loop.work(fails, { batch: true, maxIds: 2, once: true, onEvent });
    assert.deepEqual(summary, { ...NONE, did: 1, failed: 2 });
    assert.deepEqual(
      of('failed').map(({ ids }) => [...ids]),
      [[1, 2]],
    );
  });

  test('may throw anything, also at once', async () => {
    const { loop } = await loopOf<number>([1]);
    const { onEvent, of } = recorder();
    const fails = () => {
      throw undefined;
    };
    assert.equal((await loop.work(fails, { once: true, onEvent })).failed, 1);
    assert.equal(of('failed')[0]!.error, undefined);
  });
});

suite('leases', () => {
  test('are extended for as long as the work takes, those of ids that wait, too; nobody else gets them', async () => {
    const { table, loop } = await loopOf<number>([1, 2]);
    const { onEvent, of } = recorder();
    const takesLong = async (batch: Batch<number>) => {
      const { lease } = batch;
      for (let i = 0; i < 22; i += 1) {
        await sleep(100);
        assert.equal((await loop.get(1)).length, 0);
      }
      assert.ok(batch.lease! > lease!, 'the batch has its new lease');
    };
    const summary = await loop.work(takesLong, { batch: true, maxIds: 1, lockFor: 2, once: true, onEvent });
    assert.deepEqual(summary, { ...NONE, did: 2 });
    assert.ok(of('extended').length >= 4);
    assert.deepEqual(await idsWhere(table, isDone), [1, 2]);
  });

  test('that are lost are reported; what is not begun is dropped, what runs is marked, and no other lock is opened', async () => {
    const { table, loop } = await loopOf(upTo(8));
    const { passed, open } = gate();
    const { onEvent, of, ids } = recorder();
    const seen: number[] = [];
    const handler = async (id: number) => {
      seen.push(id);
      if (id === 2) throw new Error('fails at once, and is marked as such when 3 takes long');
      if (id >= 3) await passed;
      if (id === 4) throw new Error('fails, and another has it');
    };
    const working = loop.work(handler, { lockFor: 3, concurrency: 2, once: true, onEvent });
    await until('3 and 4 run', () => seen.length === 4);
    // Another worker has two, one that runs and one that waits, as if their lock had run out; one was bumped, one removed.
    await connection.query(`UPDATE ${table} SET lock_until = UNIX_TIMESTAMP() + 1000 WHERE id IN (4, 6)`);
    await loop.bump(7);
    await loop.remove(8);
    await until('it is seen', () => of('lost').length > 0);
    assert.deepEqual(ids('lost'), [4, 6, 7, 8]);
    open();
    assert.deepEqual(await working, { did: 4, failed: 1, unlocked: 0, left: 0, lost: 4 });
    assert.deepEqual(seen.sort(), [1, 2, 3, 4, 5, 7]); // that was bumped, and came again
    assert.deepEqual(ids('did'), [1, 3, 5, 7]);
    assert.deepEqual(await idsWhere(table, isDone), [1, 3, 5, 7]);
    assert.deepEqual(
      (await loop.check([4, 6])).map(({ lockedFor, failures }) => [lockedFor! > 900, failures]),
      [
        [true, 0],
        [true, 0],
      ],
    );
  });

  test('that are lost when an update failed are reported, with default pauses and others', async () => {
    for (const retryIn of [undefined, 0, 500]) {
      const { table, loop } = await loopOf<number>([1, 2, 3]);
      await connection.query(`UPDATE ${table} SET failures = 4`);
      const { onEvent, ids } = recorder();
      const handler = async (id: number) => {
        if (id === 3) await connection.query(`UPDATE ${table} SET lock_until = UNIX_TIMESTAMP() + 900 WHERE id = 2`);
        throw new Error('as ordered');
      };
      const options = { ...(retryIn !== undefined && { retryIn }), onEvent, signal: AbortSignal.timeout(300) };
      const summary = await loop.work(handler, { ...options, maxIds: 3, concurrency: 3 });
      assert.equal(summary.lost, 1, `${retryIn}`);
      assert.deepEqual(ids('lost'), [2]);
      assert.ok(summary.failed >= 2);
      assert.equal((await loop.check(2))[0]!.failures, 4);
    }
  });

  test('that ran out while nobody had a turn are reported, and what is not begun is not begun', async () => {
    const { table, loop } = await loopOf<number>([1, 2, 3]);
    const { onEvent, of, ids } = recorder();
    const seen: number[] = [];
    const blocks = (id: number) => {
      seen.push(id);
      for (const end = performance.now() + 1_200; seen.length === 1 && performance.now() < end; );
    };
    const summary = await loop.work(blocks, { maxIds: 3, lockFor: 1, once: true, onEvent });
    assert.equal(summary.lost, 3);
    assert.deepEqual(ids('lost'), [1, 2, 3]);
    assert.equal(of('got')[0]!.ids.length, 3);
    assert.ok(of('got').length > 1, 'they came again');
    assert.deepEqual([...new Set(seen)].sort(), [1, 2, 3]);
    assert.equal(summary.did, seen.length);
    assert.deepEqual(await idsWhere(table, isDone), [1, 2, 3]);
  });

  for (const [idType, ids] of [
    ['BINARY(2)', ['0001', 'ff00', 'ff01'].map(hex => Buffer.from(hex, 'hex'))],
    ['VARCHAR(20) CHARSET utf8mb4 COLLATE utf8mb4_general_ci', ['É', 'b', "c'\\"]],
    ['BIGINT UNSIGNED', [1, 2n ** 63n, 2n ** 64n - 1n]],
    ['DECIMAL(30,2)', ['1.50', '12345678901234567890.25', '2.00']],
  ] as [string, LoopId[]][]) {
    test(`that are lost are found among ids of ${idType}`, async () => {
      const { table, loop } = await loopOf<LoopId>(ids, idType);
      const { passed, open } = gate();
      const { onEvent, of } = recorder<LoopId>();
      const working = loop.work(() => passed, { batch: true, lockFor: 2, once: true, onEvent });
      await until('all are got', () => of('got').length > 0);
      const [mine, others] = [of('got')[0]!.ids[0]!, of('got')[0]!.ids.slice(1)];
      await loop.bump(mine, { lockFor: -5 });
      await until('it is seen', () => of('lost').length > 0 && of('extended').length > 0);
      open();
      assert.deepEqual(of('lost')[0]!.ids, [mine]);
      assert.deepEqual(of('extended')[0]!.ids, others);
      await working;
      assert.equal((await idsWhere(table, isDone)).length, 3);
    });
  }
});

suite('the signal', () => {
  /** Works until `begun` of the handlers run, then gives the signal, with a reason. */
  async function stopped(
    loop: DoLoop,
    handler: (id: number, signal: AbortSignal) => unknown,
    { begun, ...options }: WorkOptions<number> & { begun: number },
  ) {
    const stop = stopper();
    let count = 0;
    const working = loop.work(
      async (id, { signal }) => {
        count += 1;
        await handler(id, signal);
      },
      { ...FAST, ...options, signal: stop.signal },
    );
    working.catch(() => {});
    await until('they run', () => count >= begun);
    stop.abort(new Error('enough'));
    return { working, stop, count: () => count };
  }

  test('begins nothing more, lets those that run end, unlocks the rest, and leaves no listener', async () => {
    const { table, loop } = await loopOf(upTo(10));
    const { passed, open } = gate();
    const { onEvent, ids } = recorder();
    const { working, stop, count } = await stopped(loop, () => passed, {
      begun: 2,
      maxIds: 3,
      concurrency: 2,
      onEvent,
    });
    await until('the rest is unlocked', async () => (await idsWhere(table, isLocked)).length === 2);
    open();
    assert.deepEqual(await working, { ...NONE, did: 2, unlocked: 4 });
    assert.equal(count(), 2);
    assert.deepEqual(await idsWhere(table, isDone), [1, 2]);
    assert.equal((await idsWhere(table, isUntouched)).length, 8);
    assert.deepEqual(ids('unlocked'), [3, 4, 5, 6]);
    assert.deepEqual(getEventListeners(stop.signal, 'abort'), []);
  });

  test('reaches the handlers, with its reason; what ends by it has not failed, and is unlocked', async () => {
    const { table, loop } = await loopOf(upTo(4));
    const { onEvent, of } = recorder();
    const reasons: unknown[] = [];
    const handler = async (id: number, signal: AbortSignal) => {
      if (id === 1) await sleep(60_000, undefined, { signal }); // an AbortError
      await once(signal, 'abort');
      reasons.push((signal.reason as Error).message);
      if (id === 2) signal.throwIfAborted();
      if (id === 3) throw new Error('another');
    };
    const { working } = await stopped(loop, handler, { begun: 4, concurrency: 4, onEvent });
    assert.deepEqual(await working, { ...NONE, did: 1, failed: 1, unlocked: 2 });
    assert.deepEqual(reasons, ['enough', 'enough', 'enough']);
    assert.deepEqual(await idsWhere(table, isUntouched), [1, 2]);
    assert.deepEqual(await idsWhere(table, isDone), [4]);
    assert.deepEqual(
      of('failed').map(({ ids }) => [...ids]),
      [[3]],
    );
  });

  test('gives handlers gracePeriod; those that take longer are left, and what comes of them changes nothing', async () => {
    const { table, loop } = await loopOf(upTo(4));
    const { passed, open } = gate();
    const { onEvent, ids } = recorder();
    const handler = async (id: number) => {
      await passed;
      if (id === 2) throw new Error('too late');
    };
    const { working, stop } = await stopped(loop, handler, {
      ...{ begun: 2, concurrency: 2, maxIds: 4, gracePeriod: 1, lockFor: 1000, onEvent },
    });
    const begun = performance.now();
    assert.deepEqual(await working, { ...NONE, left: 2, unlocked: 2 });
    assert.ok(performance.now() - begun > 900);
    assert.deepEqual(ids('left'), [1, 2]);
    open();
    await sleep(50);
    assert.deepEqual(await idsWhere(table, isUntouched), [3, 4]);
    assert.deepEqual(
      (await loop.check([1, 2])).map(({ lockedFor }) => lockedFor! > 900),
      [true, true],
    );
    assert.deepEqual(getEventListeners(stop.signal, 'abort'), []);
  });

  test('with gracePeriod 0 what was not begun is unlocked all the same', async () => {
    const { loop } = await loopOf(upTo(4));
    const { working } = await stopped(loop, () => new Promise(() => {}), { begun: 1, gracePeriod: 0 });
    assert.deepEqual(await working, { ...NONE, left: 1, unlocked: 3 });
  });

  test('given beforehand: nothing is got', async () => {
    const { table, loop } = await loopOf<number>([1]);
    const signal = AbortSignal.abort();
    assert.deepEqual(await loop.work(() => assert.fail(), { signal }), NONE);
    for await (const _ of loop.batches({ signal })) assert.fail();
    assert.deepEqual(await idsWhere(table, isUntouched), [1]);
    assert.deepEqual(getEventListeners(signal, 'abort'), []);
  });

  for (const way of ['work', 'batches'] as const) {
    test(`given while ${way} waits for a get: what it brings is unlocked`, async () => {
      const { table, loop } = await loopOf<number>([1, 2]);
      const holder = await connect();
      await holder.query(`LOCK TABLES ${table} WRITE`);
      const stop = stopper();
      const { onEvent, ids } = recorder();
      const options = { signal: stop.signal, onEvent, ...FAST };
      const working = (async () => {
        if (way === 'work') return loop.work(() => assert.fail(), options);
        const { gracePeriod, ...others } = options;
        for await (const _ of loop.batches(others)) assert.fail();
        return undefined;
      })();
      await until('it waits', async () =>
        (await rows(connection, 'SHOW PROCESSLIST')).some(
          ({ Info, State }) => String(Info).includes(`${table}_get`) || /metadata lock/.test(State),
        ),
      );
      stop.abort();
      await sleep(50);
      await holder.query('UNLOCK TABLES');
      const summary = await working;
      if (summary) assert.deepEqual(summary, { ...NONE, unlocked: 2 });
      assert.deepEqual(ids('unlocked'), [1, 2]);
      assert.deepEqual(await idsWhere(table, isUntouched), [1, 2]);
      assert.deepEqual(getEventListeners(stop.signal, 'abort'), []);
    });
  }

  test('ends the sleep where nothing is due, at once', async () => {
    const { loop } = await loopOf<number>([]);
    const stop = stopper();
    const { onEvent, of } = recorder();
    const working = loop.work(() => assert.fail(), { signal: stop.signal, onEvent });
    await until('it sleeps', () => of('idle').length > 0);
    const begun = performance.now();
    stop.abort();
    assert.deepEqual(await working, NONE);
    assert.ok(performance.now() - begun < 1_000);
    assert.ok(of('idle')[0]!.seconds >= 5 && of('idle')[0]!.seconds <= 10);
  });
});

test('where nothing is due it sleeps as long as next tells, and looks again', async () => {
  const { table, loop } = await loopOf<number>([1, 2]);
  await fill(connection, table, [[1, Math.floor(Date.now() / 1000), null]] as RowValues[]);
  await loop.bump(2, { lockFor: 1 });
  await connection.query(`UPDATE ${table} SET lock_until = UNIX_TIMESTAMP() + 2 WHERE id = 2`);
  const { onEvent, of } = recorder();
  const stop = stopper();
  const summary = await loop.work(() => stop.abort(), { signal: stop.signal, onEvent });
  assert.deepEqual(summary, { ...NONE, did: 1 });
  for (const { seconds } of of('idle')) assert.ok(seconds >= 0.05 && seconds < 3, `${seconds}`);
  assert.deepEqual(
    of('got').map(({ ids }) => [...ids]),
    [[2]],
  );
});

suite('trouble', () => {
  /** Works on a loop one of whose procedures is gone from the first id on, until the test ends. */
  async function troubled(procedure: string, options: WorkOptions<number> = {}) {
    const { table, loop } = await loopOf(upTo(6));
    const recorded = recorder();
    const stop = stopper();
    let dropped = false;
    const handler = async () => {
      if (!dropped) await pool.query(`DROP PROCEDURE ${table}_${procedure}`);
      dropped = true;
    };
    const all = { ...FAST, maxIds: 2, signal: stop.signal, onEvent: recorded.onEvent, ...options };
    return { table, loop, stop, working: loop.work(handler, all), ...recorded };
  }

  for (const procedure of ['get', 'did']) {
    test(`once it works: a missing ${procedure} is tried again, with growing pauses, until it is back`, async () => {
      const { table, stop, working, of } = await troubled(procedure);
      await until('some retries', () => of('retry').some(({ attempt }) => attempt === 5));
      for (const { call, error, attempt, seconds } of of('retry')) {
        assert.equal(call, procedure);
        assert.equal((error as DoLoopError).code, 'NO_LOOP');
        assert.ok(seconds >= 0.05 * 2 ** (attempt - 1) && seconds <= 0.1 * 2 ** (attempt - 1), `${seconds}`);
      }
      await create(connection, table);
      await until('all are done', async () => (await idsWhere(table, isDone)).length === 6);
      stop.abort();
      assert.deepEqual(await working, { ...NONE, did: 6 });
    });
  }

  test('what can’t be marked until time is over is left', async () => {
    const { stop, working, of, ids } = await troubled('did', { gracePeriod: 1, maxIds: 6 });
    await until('a retry', () => of('retry').length >= 1);
    stop.abort();
    assert.deepEqual(await working, { ...NONE, left: 6 });
    assert.deepEqual(ids('left'), upTo(6));
    assert.ok(of('retry').at(-1)!.attempt > 2, 'it was tried again until then');
  });

  test('with once, trouble of more than a minute rejects', async t => {
    const { working, of } = await troubled('get', { once: true });
    await until('a retry', () => of('retry').length >= 1);
    const { now } = performance;
    t.mock.method(performance, 'now', () => now.call(performance) + 61_000);
    assert.equal(((await rejection(working)) as DoLoopError).code, 'NO_LOOP');
  });

  test('before anything worked, what won’t mend by itself rejects at once', async () => {
    const none = new DoLoop(pool, 'no_such_loop');
    assert.equal(((await rejection(none.work(() => {}))) as DoLoopError).code, 'NO_LOOP');
    const { who } = await makeAccount();
    const denied = [makePool({ database: 'no_such_database' }), makePool({ ...who, password: 'wrong' })];
    for (const pool of denied) {
      const loop = new DoLoop(pool, 'user_loop');
      assert.ok([1044, 1045, 1049].includes(((await rejection(loop.work(() => {}))) as { errno?: number }).errno!));
      const all = (async () => {
        for await (const _ of loop.batches()) assert.fail();
      })();
      assert.match((await rejection(all)).message, /denied|Unknown database/);
    }
  });

  test('a server that is not there yet is waited for', async () => {
    const away = makePool({ host: '127.0.0.1', port: 1 });
    const { onEvent, of } = recorder();
    const stop = stopper();
    const working = new DoLoop(away, 'user_loop').work(() => {}, { signal: stop.signal, onEvent });
    await until('a retry', () => of('retry').length > 0);
    stop.abort();
    assert.deepEqual(await working, NONE);
  });

  test('a pool that was ended ends it', async () => {
    const { table } = await loopOf<number>([1, 2]);
    const own = mysql.createPool({ uri: server.url, database });
    const working = new DoLoop(own, table).work(() => own.end(), { gracePeriod: 1 });
    assert.match((await rejection(working)).message, /closed/i);
  });

  for (const [what, fails] of [
    ['throws', () => assert.fail('as ordered')],
    ['rejects', () => Promise.reject(new Error('as ordered'))],
  ] as const) {
    test(`an onEvent that ${what} ends it, and is the error; nothing stays locked`, async () => {
      const { table, loop } = await loopOf(upTo(5));
      const stop = stopper();
      const onEvent = (event: WorkEvent<number>) => (event.type === 'got' ? fails() : undefined);
      const working = loop.work(() => {}, { onEvent, signal: stop.signal, maxIds: 3 });
      assert.match((await rejection(working)).message, /as ordered/);
      assert.deepEqual(await idsWhere(table, isLocked), []);
      assert.deepEqual(getEventListeners(stop.signal, 'abort'), []);
    });
  }
});

suite('batches', () => {
  test('come one after another, locked, until nothing is due; nothing is marked', async () => {
    const { table, loop } = await loopOf(upTo(5));
    const seen: number[][] = [];
    const { onEvent, of } = recorder();
    for await (const batch of loop.batches({ maxIds: 2, lockFor: 50, once: true, onEvent })) {
      assert.ok(batch instanceof Batch && batch.lease !== null);
      assert.deepEqual(await idsWhere(table, isLocked), [...seen.flat(), ...batch]);
      seen.push([...batch]);
    }
    assert.equal(of('got').length, 3);
    assert.deepEqual(seen, [[1, 2], [3, 4], [5]]);
    assert.deepEqual(await idsWhere(table, isLocked), upTo(5));
  });

  test('get no more than what is asked for', async () => {
    const { table, loop } = await loopOf(upTo(5));
    for await (const batch of loop.batches({ maxIds: 2, once: true })) {
      await sleep(20);
      assert.deepEqual(await idsWhere(table, isLocked), [...batch]);
      await loop.did(batch);
    }
    assert.deepEqual(await idsWhere(table, isDone), upTo(5));
  });

  test('end by break, by an error, and by the signal; no listener stays', async () => {
    const { table, loop } = await loopOf(upTo(9));
    const stop = stopper();
    const { signal } = stop;
    for await (const _ of loop.batches({ maxIds: 2, signal })) break;
    const error = new Error('as ordered');
    const thrown = await rejection(
      (async () => {
        for await (const _ of loop.batches({ maxIds: 2, signal })) throw error;
      })(),
    );
    assert.equal(thrown, error);
    assert.deepEqual(getEventListeners(signal, 'abort'), []);
    for await (const _ of loop.batches({ maxIds: 2, signal })) stop.abort();
    assert.equal((await idsWhere(table, isLocked)).length, 6);
    assert.deepEqual(getEventListeners(signal, 'abort'), []);
  });

  test('an onEvent that throws is the error', async () => {
    const { loop } = await loopOf<number>([1]);
    const all = (async () => {
      for await (const _ of loop.batches({ once: true, onEvent: () => assert.fail('as ordered') }));
    })();
    assert.match((await rejection(all)).message, /as ordered/);
  });
});

suite('wrong arguments', () => {
  const loop = new DoLoop(makePool({ port: 1 }), 'user_loop');
  const WRONG: [unknown, RegExp][] = [
    [{ maxIds: 0 }, /^RangeError: maxIds: 0 is not a whole number from 1 up$/],
    [{ maxIds: '1' }, /^TypeError: maxIds: "1" is not a number$/],
    [{ lockFor: 0 }, /^RangeError: lockFor: 0 is not a number of seconds from 1/],
    [{ minLoopTime: -1 }, /^RangeError: minLoopTime: -1/],
    [{ pollInterval: 0.5 }, /^RangeError: pollInterval: 0.5/],
    [{ once: 1 }, /^TypeError: once: 1 is not true or false$/],
    [{ signal: new AbortController() }, /^TypeError: signal: an object is not an AbortSignal$/],
    [{ onEvent: 'log' }, /^TypeError: onEvent: "log" is not a function$/],
    [{ max: 1 }, /^TypeError: options: max is none of maxIds, /],
    [5, /^TypeError: options: 5 is not an object$/],
  ];
  const WRONG_FOR_WORK: [unknown, RegExp][] = [
    [{ batch: 1 }, /^TypeError: batch: 1/],
    [{ concurrency: 0 }, /^RangeError: concurrency: 0/],
    [{ onFailure: 'retry' }, /^TypeError: onFailure: "retry" is none of fail, unlock, leave$/],
    [{ retryIn: -1 }, /^RangeError: retryIn: -1/],
    [{ gracePeriod: -1 }, /^RangeError: gracePeriod: -1/],
  ];
  for (const [options, message] of [...WRONG, ...WRONG_FOR_WORK]) {
    test(`${JSON.stringify(options)}`, async () => {
      assert.match(String(await rejection(loop.work(() => {}, options as object))), message);
      if (WRONG.some(([one]) => one === options))
        assert.throws(
          () => loop.batches(options as object),
          e => message.test(String(e)),
        );
    });
  }

  test('a handler that is none', async () => {
    const work = loop.work.bind(loop) as (handler: unknown) => Promise<unknown>;
    assert.match(String(await rejection(work(null))), /^TypeError: handler: null is not a function$/);
  });

  test('a connection rather than a pool', async () => {
    const { table } = await loopOf<number>([1]);
    const loop = new DoLoop(connection, table);
    assert.match(String(await rejection(loop.work(() => {}))), /^TypeError: work: needs a pool/);
    assert.throws(() => loop.batches(), /^TypeError: batches: needs a pool/);
    assert.deepEqual(await idsWhere(table, isUntouched), [1]);
  });

  test('null and undefined are the default', async () => {
    const { loop } = await loopOf<number>([1]);
    const options = { once: true, maxIds: null, lockFor: undefined, concurrency: null, retryIn: null };
    assert.equal((await loop.work(() => {}, options as object)).did, 1);
  });
});
