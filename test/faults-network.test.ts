/** A network that fails in the middle of calls: what the caller sees, and what the table holds. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Pool, PoolOptions } from 'mysql2/promise';
import { DoLoop } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import { connect, contents, makeLoop, makePool, NOW, put, type Row, row, setClock, standIn } from './harness.js';
import { quickOrLong } from './long.js';
import { type Cut, type Network, openNetwork, type Part } from './network.js';

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
  rows: [once: Row[], twice: Row[]];
}

const DRY = 'a dry run';
const CASES: Case[] = [
  {
    what: 'add',
    call: loop => loop.add([4, 5]),
    answers: [1, 0],
    rows: [
      [...BEFORE, row(5)],
      [...BEFORE, row(5)],
    ],
  },
  {
    what: 'remove',
    call: loop => loop.remove([1, 9]),
    answers: [1, 0],
    rows: [BEFORE.slice(1), BEFORE.slice(1)],
  },
  {
    what: 'get: the ids of a lost answer stay locked until their time, and the call made again answers others',
    call: async loop => [...(await loop.get(1))],
    answers: [[1], [4]],
    rows: [but(row(1, { until: 3600 })), but(row(1, { until: 3600 }), row(4, { until: 3600 }))],
  },
  {
    what: 'did',
    call: loop => loop.did([2, 3], { lease: LEASE }),
    answers: [2, 2],
    rows: [but(row(2, { updated: 0 }), row(3, { updated: 0 })), but(row(2, { updated: 0 }), row(3, { updated: 0 }))],
  },
  {
    what: 'unlock',
    call: loop => loop.unlock([2, 3], { lease: LEASE }),
    answers: [2, 0],
    rows: [but(row(2), row(3, { failures: 1 })), but(row(2), row(3, { failures: 1 }))],
  },
  {
    what: 'bump',
    call: loop => loop.bump([1, 2]),
    answers: [2, 0],
    rows: [but(row(1, { until: 0 }), row(2, { until: 0 })), but(row(1, { until: 0 }), row(2, { until: 0 }))],
  },
  {
    what: 'extend under a lease: made again it finds its own new lease in the place of the old one',
    call: loop => loop.extend(2, { lockFor: 500, lease: LEASE }),
    answers: [
      { extended: 1, lease: NOW + 500 },
      { extended: 0, lease: null },
    ],
    rows: [but(row(2, { until: 500 })), but(row(2, { until: 500 }))],
  },
  {
    what: 'extend without a lease',
    call: loop => loop.extend(2, { lockFor: 500 }),
    answers: [
      { extended: 1, lease: NOW + 500 },
      { extended: 1, lease: NOW + 500 },
    ],
    rows: [but(row(2, { until: 500 })), but(row(2, { until: 500 }))],
  },
  {
    what: 'fail under a lease counts one failure',
    call: loop => loop.fail(3, { lease: LEASE }),
    answers: [1, 0],
    rows: [but(row(3, { until: 120, failures: 2 })), but(row(3, { until: 120, failures: 2 }))],
  },
  {
    what: 'fail without a lease counts one failure for each time that it was made',
    call: loop => loop.fail(3),
    answers: [1, 1],
    rows: [but(row(3, { until: 120, failures: 2 })), but(row(3, { until: 240, failures: 3 }))],
  },
  {
    what: 'check',
    call: async loop => (await loop.check([2, 9])).map(({ id, lockedFor }) => [id, lockedFor]),
    answers: [[[2, 100]], [[2, 100]]],
    rows: [BEFORE, BEFORE],
  },
  {
    what: 'stats',
    call: async loop => (await loop.stats({ delayThresholds: [1] })).total,
    answers: [4, 4],
    rows: [BEFORE, BEFORE],
  },
  { what: 'next', call: loop => loop.next(), answers: [0, 0], rows: [BEFORE, BEFORE] },
  {
    what: DRY,
    call: loop => loop.remove([1, 2], { dryRun: true }),
    answers: [2, 2],
    rows: [BEFORE, BEFORE],
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
  for (const { what, call, answers, rows } of CASES) {
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
        assert.deepEqual(await contents(connection, table), rows[cut.where === 'before' || !changes ? 0 : 1], at);
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
        assert.deepEqual(await contents(connection, table), cut.where === 'before' || !changes ? BEFORE : rows[0], at);
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
