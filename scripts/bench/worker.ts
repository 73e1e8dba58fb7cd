/** What `work` costs over `get` and `did` again and again. */
import type { Pool } from 'mysql2/promise';
import { DoLoop } from '../../src/index.js';
import { ratios, type Spread, spread, takeTurns } from './measure.js';
import { untilPurged } from './purge.js';
import { type Bench, digits, marked, type Section, short, withSpread } from './section.js';
import { dropLoop, makeLoop } from './table.js';

const TABLE = 'worker_loop';
/** Nothing is updated twice in a turn, and each of them goes through all ids. */
const MIN_LOOP_TIME = 3_600;
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
  const { turns, ids } = bench.quick ? { turns: 3, ids: 10_000 } : { turns: 7, ids: 50_000 };
  await makeLoop(connection, TABLE, ids);
  const pools = { work: bench.openPool(CONNECTIONS), bare: bench.openPool(CONNECTIONS) };
  const sizes = [100, 1_000].flatMap(n => (['id', 'batch'] as const).map(handler => ({ n, handler })));
  for (const [i, { n, handler }] of sizes.entries()) {
    bench.progress(i / sizes.length, `N = ${n}, by ${handler}`);
    const rate = (goRound: () => Promise<number>) => async () => {
      await connection.query(`UPDATE ${TABLE} SET last_updated = UNIX_TIMESTAMP() - ? * 10 + id`, [ids]);
      await untilPurged(connection, QUIET_MS);
      const begun = performance.now();
      const did = await goRound();
      if (did !== ids) throw new Error(`of ${ids} ids ${did} were done`);
      return (did * 1000) / (performance.now() - begun);
    };
    const rates = await takeTurns(turns, {
      work: rate(() => work(pools.work, n, handler)),
      bare: rate(() => bare(pools.bare, n)),
    });
    const ratio = ratios(rates.work, rates.bare);
    done({ n, handler, work: spread(rates.work), bare: spread(rates.bare), ratio });
  }
  await dropLoop(connection, TABLE);
}

/** How many ids were done, by a handler that does nothing. */
async function work(pool: Pool, n: number, handler: WorkerRow['handler']): Promise<number> {
  const loop = new DoLoop(pool, TABLE);
  const options = { maxIds: n, minLoopTime: MIN_LOOP_TIME, once: true };
  const { did } = await (handler === 'id'
    ? loop.work(() => {}, options)
    : loop.work(() => {}, { ...options, batch: true }));
  return did;
}

async function bare(pool: Pool, n: number): Promise<number> {
  const loop = new DoLoop(pool, TABLE);
  for (let done = 0; ; ) {
    const batch = await loop.get(n, { minLoopTime: MIN_LOOP_TIME });
    if (batch.length === 0) return done;
    done += await loop.did(batch);
  }
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
