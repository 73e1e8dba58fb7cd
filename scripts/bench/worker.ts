/** What `work` costs over `get` and `did` again and again. */
import type { Pool } from 'mysql2/promise';
import { DoLoop } from '../../src/index.js';
import { ratios, type Spread, spread, takeTurns } from './measure.js';
import { untilPurged } from './purge.js';
import { type Bench, digits, marked, type Section, short, withSpread } from './section.js';
import { dropLoop, makeLoop } from './table.js';

const TABLE = 'worker_loop';
const SIZE = 100_000;
/** Each way has a pool of so many connections; bare calls need one at a time. */
const CONNECTIONS = 4;
/** Between turns: enough for what one turn left to be purged. */
const QUIET_MS = 50;
const GOAL = 0.9;

export interface WorkerRow {
  /** How many ids are got at once. */
  n: number;
  /** Whether the handler is called with each id, or with each batch. */
  handler: 'id' | 'batch';
  /** Ids a second. */
  work: Spread;
  bare: Spread;
  /** Of work through bare. */
  ratio: Spread;
}

async function measure(bench: Bench, done: (row: WorkerRow) => void): Promise<void> {
  const connection = await bench.open();
  await makeLoop(connection, TABLE, SIZE);
  const pools = { work: bench.openPool(CONNECTIONS), bare: bench.openPool(CONNECTIONS) };
  const { turns, ms } = bench.quick ? { turns: 3, ms: 400 } : { turns: 7, ms: 1_000 };
  const sizes = [100, 1_000].flatMap(n => (['id', 'batch'] as const).map(handler => ({ n, handler })));
  for (const [i, { n, handler }] of sizes.entries()) {
    bench.progress(i / sizes.length, `N = ${n}, by ${handler}`);
    const rate = (way: (ms: number) => Promise<number>) => async (warmUp: boolean) => {
      await untilPurged(connection, QUIET_MS);
      const begun = performance.now();
      const did = await way(warmUp ? ms / 3 : ms);
      return (did * 1000) / (performance.now() - begun);
    };
    const rates = await takeTurns(turns, {
      work: rate(ms => work(pools.work, n, handler, ms)),
      bare: rate(ms => bare(pools.bare, n, ms)),
    });
    const ratio = ratios(rates.work, rates.bare);
    done({ n, handler, work: spread(rates.work), bare: spread(rates.bare), ratio });
  }
  await dropLoop(connection, TABLE);
}

/** With a handler that has nothing to do; how many ids were done when all has come to its end. */
async function work(pool: Pool, n: number, handler: WorkerRow['handler'], ms: number): Promise<number> {
  const loop = new DoLoop(pool, TABLE);
  const options = { maxIds: n, minLoopTime: 0, signal: AbortSignal.timeout(ms) };
  const summary = await (handler === 'id'
    ? loop.work(() => {}, options)
    : loop.work(() => {}, { ...options, batch: true }));
  return summary.did;
}

async function bare(pool: Pool, n: number, ms: number): Promise<number> {
  const loop = new DoLoop(pool, TABLE);
  let done = 0;
  for (const end = performance.now() + ms; performance.now() < end; ) {
    done += await loop.did(await loop.get(n, { minLoopTime: 0 }));
  }
  return done;
}

export const worker: Section<WorkerRow> = {
  title: 'A worker',
  about:
    'Ids a second of work() with a handler that does nothing, and of get(N) and did of these by the client, one call ' +
    'after the other, each on a pool; and the one through the other.',
  columns: [
    { title: 'N', width: 4 },
    { title: 'handler of', width: 10, align: 'left' },
    { title: 'work', width: 16 },
    { title: 'get and did', width: 16 },
    { title: 'ratio', width: 15 },
    { title: 'goal', width: 6 },
  ],
  measure,
  values: ({ n, handler, work, bare, ratio }) => [
    short(n),
    handler,
    withSpread(work),
    withSpread(bare),
    marked(withSpread(ratio), ratio.median >= GOAL),
    `≥ ${digits(GOAL)}`,
  ],
};
