/** A network that fails in the middle of calls: what the caller sees, and what the table holds. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTo, type Socket } from 'node:net';
import { after, suite, test } from 'node:test';
import { setImmediate as othersTurn, setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Pool, PoolOptions } from 'mysql2/promise';
import { DoLoop, type WorkEvent, type WorkOptions, type WorkSummary } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import type { Procedure } from '../src/render.js';
import {
  connect,
  contents,
  database,
  makeLoop,
  makePool,
  NOW,
  put,
  type Row,
  row,
  rows,
  setClock,
  standIn,
} from './harness.js';
import { quickOrLong } from './long.js';
import { type Cut, type Network, openNetwork, type Part } from './network.js';
import { beginDoloop, ended } from './run-doloop.js';
import { until } from './until.js';

const connection = await connect();
await setClock(connection);

const networks: Network[] = [];
async function makeNetwork(): Promise<Network> {
  const network = await openNetwork();
  networks.push(network);
  return network;
}
after(() => {
  for (const network of networks) network.close();
});

/** A pool of so many connections by way of the network, on which time stands still. */
function poolBy({ url }: Network, options: PoolOptions = {}): Pool {
  const pool = makePool({ uri: url, connectionLimit: 2, waitForConnections: false, ...options });
  pool.on('connection', one => one.query(`SET timestamp = ${NOW}`));
  return pool;
}

/** The pool has none of its connections missing, and the network none too many. */
async function assertWhole(pool: Pool, network: Network): Promise<void> {
  const all = await Promise.all([pool.getConnection(), pool.getConnection()]);
  for (const one of all) await one.query('DO 0');
  assert.equal(network.open, all.length);
  for (const one of all) one.release();
}

/** What a connection that was lost in the middle of a call says, by the moment. */
const LOST = new Set(['PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE']);

async function rejection(call: Promise<unknown>): Promise<MySqlError> {
  return call.then(
    () => assert.fail('it was not thrown'),
    (error: MySqlError) => error,
  );
}

const middle = ({ from, to }: Part) => (from + to) >> 1;
const find = (parts: readonly Part[], what: Part['is']) => parts.find(({ is }) => is === what)!;

/** Places in an answer, by how many bytes of it come through. */
const IN_ANSWER: Record<string, (parts: readonly Part[]) => number> = {
  'before the answer': () => 0,
  'in its first header': () => 3,
  'behind its first header': () => 4,
  'in a column': parts => middle(find(parts, 'column')),
  'behind the columns': parts => find(parts, 'end of columns').to,
  'in the header of a row': parts => (find(parts, 'row') ?? find(parts, 'end of rows')).from + 2,
  'in a row': parts => middle(find(parts, 'row') ?? find(parts, 'end of rows')),
  'before the end of the rows': parts => find(parts, 'end of rows').from,
  'between the rows and the OK': parts => find(parts, 'end of rows').to,
  'in the header of the OK': parts => find(parts, 'end').from + 2,
  'a byte before the end': parts => find(parts, 'end').to - 1,
};

const LEASE = NOW + 100;
const BEFORE = [row(1), row(2, { until: 100 }), row(3, { until: 100, failures: 1 }), row(4)];
/** These rows, some of them changed. */
const but = (...changed: Row[]) => BEFORE.map(one => changed.find(({ id }) => id === one.id) ?? one);

interface Case {
  what: string;
  call: (loop: DoLoop) => Promise<unknown>;
  /** What it answers, and what a second call behind it. */
  answers: [once: unknown, again: unknown];
  /** The table after one call, and after two. */
  leaves: [once: Row[], twice: Row[]];
}

const DRY = 'a dry run';
const CASES: Case[] = [
  {
    what: 'add',
    call: loop => loop.add([4, 5]),
    answers: [1, 0],
    leaves: [
      [...BEFORE, row(5)],
      [...BEFORE, row(5)],
    ],
  },
  {
    what: 'remove',
    call: loop => loop.remove([1, 9]),
    answers: [1, 0],
    leaves: [BEFORE.slice(1), BEFORE.slice(1)],
  },
  {
    what: 'get: the ids of a lost answer stay locked until their time, and the call made again answers others',
    call: async loop => [...(await loop.get(1))],
    answers: [[1], [4]],
    leaves: [but(row(1, { until: 3600 })), but(row(1, { until: 3600 }), row(4, { until: 3600 }))],
  },
  {
    what: 'did',
    call: loop => loop.did([2, 3], { lease: LEASE }),
    answers: [2, 2],
    leaves: [but(row(2, { updated: 0 }), row(3, { updated: 0 })), but(row(2, { updated: 0 }), row(3, { updated: 0 }))],
  },
  {
    what: 'unlock',
    call: loop => loop.unlock([2, 3], { lease: LEASE }),
    answers: [2, 0],
    leaves: [but(row(2), row(3, { failures: 1 })), but(row(2), row(3, { failures: 1 }))],
  },
  {
    what: 'bump',
    call: loop => loop.bump([1, 2]),
    answers: [2, 0],
    leaves: [but(row(1, { until: 0 }), row(2, { until: 0 })), but(row(1, { until: 0 }), row(2, { until: 0 }))],
  },
  {
    what: 'extend under a lease: made again it finds its own new lease in the place of the old one',
    call: loop => loop.extend(2, { lockFor: 500, lease: LEASE }),
    answers: [
      { extended: 1, lease: NOW + 500 },
      { extended: 0, lease: null },
    ],
    leaves: [but(row(2, { until: 500 })), but(row(2, { until: 500 }))],
  },
  {
    what: 'extend without a lease',
    call: loop => loop.extend(2, { lockFor: 500 }),
    answers: [
      { extended: 1, lease: NOW + 500 },
      { extended: 1, lease: NOW + 500 },
    ],
    leaves: [but(row(2, { until: 500 })), but(row(2, { until: 500 }))],
  },
  {
    what: 'fail under a lease counts one failure',
    call: loop => loop.fail(3, { lease: LEASE }),
    answers: [1, 0],
    leaves: [but(row(3, { until: 120, failures: 2 })), but(row(3, { until: 120, failures: 2 }))],
  },
  {
    what: 'fail without a lease counts one failure for each time that it was made',
    call: loop => loop.fail(3),
    answers: [1, 1],
    leaves: [but(row(3, { until: 120, failures: 2 })), but(row(3, { until: 240, failures: 3 }))],
  },
  {
    what: 'check',
    call: async loop => (await loop.check([2, 9])).map(({ id, lockedFor }) => [id, lockedFor]),
    answers: [[[2, 100]], [[2, 100]]],
    leaves: [BEFORE, BEFORE],
  },
  {
    what: 'stats',
    call: async loop => (await loop.stats({ delayThresholds: [1] })).total,
    answers: [4, 4],
    leaves: [BEFORE, BEFORE],
  },
  { what: 'next', call: loop => loop.next(), answers: [0, 0], leaves: [BEFORE, BEFORE] },
  {
    what: DRY,
    call: loop => loop.remove([1, 2], { dryRun: true }),
    answers: [2, 2],
    leaves: [BEFORE, BEFORE],
  },
];

/** Has the first CALL cut so, and no other. */
function cutOnce(network: Network, cut: Cut, what = 'CALL'): void {
  let isCut = false;
  network.cut = sql => {
    if (isCut || !sql.includes(what)) return undefined;
    isCut = true;
    return cut;
  };
}

/** Each place, by one way to hang up or the other; in the long form by both, and each byte of the answer. */
async function eachCut(tryCut: (at: string, cut: Cut) => Promise<void>): Promise<void> {
  const places = ['before', 'sent', ...Object.keys(IN_ANSWER)];
  for (const [i, place] of places.entries()) {
    const where = IN_ANSWER[place] ?? (place as 'before' | 'sent');
    for (const [way, how] of (['end', 'reset'] as const).entries()) {
      if (i % 2 === way || quickOrLong(0, 1) === 1) await tryCut(`${place}, ${how}`, { where, how });
    }
  }
  let bytes = quickOrLong(0, 1);
  for (let k = 0; k < bytes; k += 1) {
    const where = (parts: readonly Part[]) => {
      bytes = parts.at(-1)!.to;
      return k;
    };
    await tryCut(`behind byte ${k}`, { where, how: k % 2 === 0 ? 'end' : 'reset' });
  }
}

suite('a connection that is lost in the middle of a call', { concurrency: 8 }, () => {
  for (const { what, call, answers, leaves } of CASES) {
    const changes = what !== DRY;

    test(`on a pool it is made again, on another connection: ${what}`, async () => {
      const { table } = await makeLoop(connection);
      const network = await makeNetwork();
      const pool = poolBy(network);
      const loop = new DoLoop(pool, table);
      await eachCut(async (at, cut) => {
        await put(connection, table, BEFORE);
        cutOnce(network, cut);
        const answer = await call(loop);
        await network.settled();
        // What was sent, and not waited for, may come before or after its repetition.
        const expected = cut.where === 'sent' ? answers : [answers[cut.where === 'before' ? 0 : 1]];
        assert.ok(
          expected.some(one => isDeepStrictEqual(answer, one)),
          `${at}: ${JSON.stringify(answer)}`,
        );
        assert.deepEqual(await contents(connection, table), leaves[cut.where === 'before' || !changes ? 0 : 1], at);
        await assertWhole(pool, network);
      });
    });

    test(`on a connection it is thrown, and nothing is made again: ${what}`, async () => {
      const { table } = await makeLoop(connection);
      const network = await makeNetwork();
      await eachCut(async (at, cut) => {
        await put(connection, table, BEFORE);
        cutOnce(network, cut);
        const own = await connect({ uri: network.url });
        own.on('error', () => {}); // as for any connection of mysql2's
        await setClock(own);
        const error = await rejection(call(new DoLoop(own, table)));
        await network.settled();
        assert.ok(LOST.has(error.code!), `${at}: ${error.message}`);
        assert.deepEqual(
          await contents(connection, table),
          cut.where === 'before' || !changes ? BEFORE : leaves[0],
          at,
        );
      });
    });
  }

  const IDS = Array.from({ length: 4000 }, (_, i) => 10_000 + i);
  const STATEMENTS: [what: string, sql: string, nth: number, isDone: boolean][] = [
    ['the first statement', 'DO 0', 1, false],
    ['the beginning of its transaction', 'START TRANSACTION', 1, false],
    ['its first piece', 'CALL', 1, false],
    ['its second piece', 'CALL', 2, false],
    ['its end', 'COMMIT', 1, true],
  ];
  for (const where of ['pool', 'connection']) {
    test(`a call in pieces on a ${where} is done as a whole or not at all, and made again from the first`, async () => {
      const { table } = await makeLoop(connection);
      const network = await makeNetwork();
      const pool = poolBy(network);
      for (const [what, text, nth, isDone] of STATEMENTS) {
        for (const answered of [false, true]) {
          await put(connection, table, []);
          let times = 0;
          network.cut = sql => {
            if (!sql.includes(text) || ++times !== nth) return undefined;
            return { where: answered ? () => 0 : 'before', how: 'end' };
          };
          const hear = (sql: string) => (sql.includes('@@max_allowed_packet') ? [{ bytes: 20_000 }] : undefined);
          const at = `${what}, ${answered ? 'done' : 'not done'}`;
          const done = isDone && answered;
          if (where === 'pool') {
            assert.equal(await new DoLoop(standIn(pool, hear), table).add(IDS), done ? 0 : IDS.length, at);
            await assertWhole(pool, network);
          } else {
            const own = await connect({ uri: network.url });
            own.on('error', () => {});
            const error = await rejection(new DoLoop(standIn(own, hear), table).add(IDS));
            assert.ok(LOST.has(error.code!), `${at}: ${error.message}`);
          }
          await network.settled();
          assert.equal((await contents(connection, table)).length, done || where === 'pool' ? IDS.length : 0, at);
        }
      }
    });
  }

  test('connections of the pool that are lost while nobody uses them are no error of the next call', async () => {
    const { table } = await makeLoop(connection);
    const network = await makeNetwork();
    const pool = poolBy(network);
    const loop = new DoLoop(pool, table);
    for (let i = 0; i < quickOrLong(20, 200); i += 1) {
      await assertWhole(pool, network);
      network.drop(i % 2 === 0 ? 'end' : 'reset');
      for (let turns = i % 5; turns > 0; turns -= 1) await othersTurn(); // it may have noticed, or not
      await loop.add(i); // 0 where the answer was lost, and the call was made again
      assert.equal((await contents(connection, table)).length, i + 1);
    }
  });
});

/** A pool by way of the network, with the real time, and as many connections as mysql2 makes by default. */
const workersPool = ({ url }: Network, options: PoolOptions = {}) => makePool({ uri: url, ...options });

const byId = (a: number, b: number) => a - b;

suite('work() where an answer is lost', () => {
  /** Four ids, of which work() has the answer of this call cut off. */
  async function worked(
    procedure: Procedure,
    handler: (id: number, events: WorkEvent<number>[]) => unknown,
    options: WorkOptions<number>,
  ): Promise<{ table: string; handled: number[]; events: WorkEvent<number>[]; summary: WorkSummary; pool: Pool }> {
    const { table, loop } = await makeLoop(connection);
    await loop.add([1, 2, 3, 4]);
    const network = await makeNetwork();
    const pool = workersPool(network);
    cutOnce(network, { where: () => 0, how: 'reset' }, `_${procedure}\``);
    const handled: number[] = [];
    const events: WorkEvent<number>[] = [];
    const summary = await new DoLoop(pool, table).work(
      id => {
        handled.push(id);
        return handler(id, events);
      },
      { once: true, ...options, onEvent: event => void events.push(event) },
    );
    assert.deepEqual(
      events.filter(({ type }) => type === 'retry'),
      [],
      'it was made again as a part of the call',
    );
    return { table, handled, events, summary, pool };
  }

  test('of get: its ids stay locked until their time, and then come first', async () => {
    const { table, handled, summary, pool } = await worked('get', () => {}, { maxIds: 2 });
    assert.deepEqual(handled, [3, 4]);
    assert.equal(summary.did, 2);
    const locked = (await contents(connection, table)).filter(row => row.lock_until !== null);
    assert.deepEqual(
      locked.map(({ id, last_updated }) => [id, last_updated]),
      [
        [1, null],
        [2, null],
      ],
    );
    await connection.query(`UPDATE ${table} SET lock_until = 1 WHERE lock_until IS NOT NULL`); // an hour passes
    const [first] = await new DoLoop(pool, table).get(1);
    assert.equal(first, 1);
  });

  test('of did: all are marked and unlocked, none is updated twice', async () => {
    const { table, handled, summary } = await worked('did', () => {}, {});
    assert.deepEqual(handled, [1, 2, 3, 4]);
    assert.deepEqual(summary, { did: 4, failed: 0, unlocked: 0, left: 0, lost: 0 });
    const all = await contents(connection, table);
    assert.ok(all.every(row => row.last_updated !== null && row.lock_until === null));
  });

  test('of fail: one failure is counted, and the ids are told of as lost', async () => {
    const fails = () => assert.fail('as ordered');
    const { table, events, summary } = await worked('fail', fails, { maxIds: 4 });
    assert.deepEqual(summary, { did: 0, failed: 0, unlocked: 0, left: 0, lost: 4 });
    assert.deepEqual(
      events.filter(({ type }) => type === 'lost').flatMap(event => ('ids' in event ? event.ids : [])),
      [1, 2, 3, 4],
    );
    const all = await contents(connection, table);
    assert.ok(all.every(row => row.failures === 1 && row.lock_until !== null && row.last_updated === null));
  });

  test('of unlock: the ids are unlocked, and come again', async () => {
    const failed = new Set<number>();
    const failsFirst = (id: number) => {
      if (!failed.has(id)) assert.fail(String(failed.add(id)));
    };
    const { table, handled, summary } = await worked('unlock', failsFirst, { onFailure: 'unlock' });
    assert.deepEqual(handled.sort(byId), [1, 1, 2, 2, 3, 3, 4, 4]);
    assert.deepEqual(summary, { did: 4, failed: 0, unlocked: 4, left: 0, lost: 0 });
    assert.ok((await contents(connection, table)).every(row => row.lock_until === null && row.failures === 0));
  });

  test('of extend: the ids are told of as lost; what runs is marked, the rest is not begun, and all stay locked', async () => {
    const waits = (_: number, events: WorkEvent<number>[]) =>
      until('it is lost', () => events.some(({ type }) => type === 'lost'));
    const { table, handled, summary } = await worked('extend', waits, { lockFor: 6 });
    assert.deepEqual(handled, [1]);
    assert.deepEqual(summary, { did: 1, failed: 0, unlocked: 0, left: 0, lost: 4 });
    const all = await contents(connection, table);
    assert.deepEqual(
      all.map(row => row.last_updated !== null),
      [true, false, false, false],
    );
    assert.equal(new Set(all.map(row => row.lock_until)).size, 1);
    assert.notEqual(all[0]!.lock_until, null);
  });
});

test('work() of two workers through a network that fails at every place of every call: each id is updated once', async () => {
  const isToFail = (id: number) => id % 7 === 0;
  const ids = Array.from({ length: quickOrLong(1_200, 20_000) }, (_, i) => i + 1);
  const { table, loop } = await makeLoop(connection);
  await loop.add(ids);
  const network = await makeNetwork();
  const pools = [workersPool(network), workersPool(network)];

  const cuts: [procedure: Procedure, cut: Cut][] = [];
  for (const procedure of ['get', 'did', 'fail', 'unlock'] as const) {
    await eachCut(async (_, cut) => void cuts.push([procedure, cut]));
  }
  let lostGets = 0;
  const calls = new Map<string, number>();
  network.cut = sql => {
    const [called = ''] = /_[a-z]+`\(/.exec(sql) ?? [];
    calls.set(called, (calls.get(called) ?? 0) + 1);
    const i = cuts.findIndex(([procedure]) => called === `_${procedure}\`(`);
    // Every other one goes through, so that none fails for good.
    if (i < 0 || calls.get(called)! % 2 > 0) return undefined;
    const [[procedure, one]] = cuts.splice(i, 1) as [[Procedure, Cut]];
    if (procedure === 'get' && one.where !== 'before') lostGets += 1;
    return one;
  };

  const begun = ids.map(() => 0);
  const marked = ids.map(() => 0);
  const summaries = await Promise.all(
    pools.map((pool, i) =>
      new DoLoop(pool, table).work(
        async id => {
          begun[id - 1]! += 1;
          await sleep(1);
          if (isToFail(id) && begun[id - 1] === 1) throw new Error('as ordered');
        },
        {
          ...{ once: true, maxIds: 10, concurrency: 4, lockFor: 3600 + 3600 * i },
          onFailure: i === 0 ? 'fail' : 'unlock',
          onEvent: event => {
            if (event.type === 'did') for (const id of event.ids) marked[id - 1]! += 1;
          },
        },
      ),
    ),
  );
  await network.settled();

  assert.deepEqual(cuts, [], 'all places had their turn');
  const all = (await contents(connection, table)).map(row => ({ ...row, i: Number(row.id) - 1 }));
  const updated = all.filter(row => row.last_updated !== null);
  const failed = all.filter(row => row.failures > 0);
  const others = all.filter(row => row.last_updated === null && row.failures === 0);
  assert.equal(all.length, ids.length);
  assert.ok(updated.every(row => row.lock_until === null && row.failures === 0 && marked[row.i]! > 0));
  assert.ok(failed.every(row => row.lock_until !== null && row.failures === 1 && marked[row.i] === 0));
  // Got with an answer that was lost.
  assert.ok(others.every(row => row.lock_until !== null && marked[row.i] === 0));
  assert.ok(others.length <= lostGets * 10, `${others.length} ids of ${lostGets} lost answers`);
  // Those that were given back are begun again; an unlock that is made again may find them with another one of its lease.
  for (const { i, id } of all)
    if (!isToFail(Number(id))) assert.ok(begun[i]! <= 1 && begun[i] === marked[i], `id ${id}`);
  const sum = (what: keyof WorkSummary) => summaries.reduce((total, summary) => total + summary[what], 0);
  assert.equal(sum('failed') + sum('lost'), failed.length);
  assert.equal(sum('left'), 0);
});

suite('a network that swallows everything', () => {
  /** An id to be bumped by way of a network. */
  async function frozen(options: PoolOptions = {}): Promise<{ network: Network; pool: Pool; loop: DoLoop }> {
    const { table, loop } = await makeLoop(connection);
    await loop.add(1);
    const network = await makeNetwork();
    const pool = workersPool(network, options);
    return { network, pool, loop: new DoLoop(pool, table) };
  }

  test('a call waits, and goes on when the network is back', async () => {
    const { network, loop } = await frozen();
    await loop.check(1);
    network.freeze();
    let isOver = false;
    const call = loop.did(1).finally(() => {
      isOver = true;
    });
    await sleep(100);
    assert.equal(isOver, false);
    network.thaw();
    assert.equal(await call, 1);
  });

  for (const [code, syscall] of [
    ['ETIMEDOUT', 'read'],
    ['EHOSTUNREACH', 'write'],
  ] as const) {
    test(`a connection that the system gives up on (${code}) is lost: the call is made again`, async () => {
      const sockets: Socket[] = [];
      const { network, loop } = await frozen({
        stream: () => {
          const { hostname, port } = new URL(network.url);
          sockets.push(connectTo(Number(port), hostname));
          return sockets.at(-1)!;
        },
      });
      await loop.check(1);
      network.freeze();
      const call = loop.did(1);
      await othersTurn();
      assert.equal(sockets.length, 1);
      sockets[0]!.destroy(Object.assign(new Error(`${syscall} ${code}`), { code, syscall }));
      network.thaw();
      assert.equal(await call, 1);
      assert.equal(sockets.length, 2);
    });
  }

  test('whoever connects is refused after connectTimeout, at once', async () => {
    const { network, loop } = await frozen({ connectTimeout: 300 });
    network.freeze();
    const error = await rejection(loop.did(1));
    assert.equal(error.code, 'ETIMEDOUT');
    assert.equal(network.made, 1);
    network.thaw();
    assert.equal(await new DoLoop(workersPool(network), loop.table).did(1), 1);
  });

  test('work() waits, tells of those it cannot reach, and goes on when the network is back', async () => {
    const { network, loop } = await frozen({ connectTimeout: 300 });
    network.freeze();
    const stop = new AbortController();
    let retries = 0;
    const working = loop.work(() => stop.abort(), {
      signal: stop.signal,
      onEvent: ({ type }) => {
        if (type === 'retry' && ++retries === 3) network.thaw();
      },
    });
    assert.equal((await working).did, 1);
  });

  test('work() ends by its signal all the same; what it could not mark is left', { timeout: 60_000 }, async () => {
    const { network, pool, loop } = await frozen();
    const stop = new AbortController();
    const summary = await loop.work(
      () => {
        network.freeze();
        setTimeout(() => stop.abort(), 100);
      },
      { signal: stop.signal, gracePeriod: 0 },
    );
    assert.deepEqual(summary, { did: 0, failed: 0, unlocked: 0, left: 1, lost: 0 });
    network.thaw();
    assert.ok(await rows(pool, 'DO 0'));
  });

  test('doloop work ends by its signal all the same', { timeout: 60_000 }, async t => {
    const { network, loop } = await frozen();
    const url = new URL(network.url);
    url.pathname = `/${database}`;
    const worker = beginDoloop(['work', loop.table, '--grace', '1', '--', 'sh', '-c', 'echo begun; exec sleep 1'], {
      MYSQL_URL: url.href,
    });
    t.after(() => worker.kill('SIGKILL'));
    const end = ended(worker);
    await once(worker.stdout!, 'data');
    network.freeze();
    worker.kill('SIGTERM');
    const { signal, stderr } = await end;
    assert.equal(signal, 'SIGTERM');
    assert.match(stderr, /1 left locked/);
  });
});
