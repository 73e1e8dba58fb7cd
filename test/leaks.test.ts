/** What a worker calls for weeks leaves nothing behind: not in the process, and not on the server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { spread } from '../scripts/bench/measure.js';
import { DoLoop } from '../src/index.js';
import { connect, makeLoop, makePool, rows } from './harness.js';
import { quickOrLong } from './long.js';

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

/** In each round. */
const CALLS = quickOrLong(300, 4_000);
const ROUNDS = 5;
/** What a round may leave behind, bytes: compiled code and caches come and go, and no call leaves anything of its size. */
const NOISE = 100_000 + CALLS * 20;

/** Bytes in use, with all garbage collected. */
async function heap(): Promise<number> {
  for (let times = 0; times < 4; times += 1) {
    await new Promise(setImmediate); // lets go of what waits to be finalized
    collect();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Does the work some rounds: what the heap has grown by in each, the median of those that come after the first. */
async function growth(work: () => Promise<unknown>): Promise<number> {
  await work();
  let before = await heap();
  const grew: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    await work();
    const now = await heap();
    grew.push(now - before);
    before = now;
  }
  return spread(grew).median;
}

test('calls leave nothing in memory: on a pool and on a connection, answered and refused', async t => {
  const pool = makePool({ connectionLimit: 4 });
  const { table, loop: pooled } = await makeLoop(pool);
  await pooled.add(Array.from({ length: 100 }, (_, i) => i + 1));
  const own = new DoLoop(await connect(), table);
  const kinds: ((loop: DoLoop) => Promise<unknown>)[] = [
    async loop => loop.unlock(await loop.get(2, { minLoopTime: 0 })),
    loop => loop.next(),
    loop => loop.check([1, 2, 3]),
    loop => loop.bump(7, { lockFor: 100, dryRun: true }),
    loop => assert.rejects(loop.remove('seven' as never), { code: 'REFUSED' }),
    loop => assert.rejects(loop.get(-1), RangeError),
  ];
  const grew = await growth(async () => {
    for (let done = 0; done < CALLS; done += 4) {
      const kind = kinds[(done / 4) % kinds.length]!;
      await Promise.all([pooled, pooled, pooled, own].map(kind));
    }
  });
  t.diagnostic(`${CALLS} calls: ${grew} bytes`);
  assert.ok(grew < NOISE, `the heap grows by ${grew} bytes in ${CALLS} calls`);
});

test('a worker leaves nothing in memory, nor on its signal, nor a session on the server', async t => {
  const pool = makePool({ connectionLimit: 4 });
  const { loop } = await makeLoop(pool);
  await loop.add(Array.from({ length: 20 }, (_, i) => i + 1));
  const root = await connect();
  const sessions = async () =>
    (await rows(root, 'SELECT COUNT(*) AS n FROM information_schema.processlist WHERE db = DATABASE()'))[0]!.n;
  const stop = new AbortController();
  let handled = 0;
  const workUntil = async (times: number) => {
    const end = new AbortController();
    const signal = AbortSignal.any([stop.signal, end.signal]);
    const until = handled + times;
    const summary = await loop.work(
      id => {
        handled += 1;
        if (handled >= until) end.abort();
        if (id % 7 === 0) throw new Error('no answer');
      },
      { maxIds: 2, minLoopTime: 0, concurrency: 2, retryIn: 0, signal },
    );
    assert.equal(summary.lost, 0);
  };
  await workUntil(4);
  const before = await sessions();
  const grew = await growth(() => workUntil(CALLS));
  t.diagnostic(`${CALLS} ids: ${grew} bytes`);
  assert.ok(grew < NOISE, `the heap grows by ${grew} bytes in ${CALLS} ids`);
  assert.ok((await sessions()) <= before + 4, 'sessions stay');
});
