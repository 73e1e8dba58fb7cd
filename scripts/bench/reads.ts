/** What only reads, on a large loop of which some ids are locked. */
import { DoLoop } from '../../src/index.js';
import { ratios, type Spread, spread, takeTurns, takeTurnsByCall, time } from './measure.js';
import { type Bench, digits, marked, type Section, short, withSpread } from './section.js';
import { largeLoop } from './table.js';

const LOCKED = 10_000;
const CHECKED = 1_000;
const THRESHOLDS = [86_400, 604_800];

export interface ReadsRow {
  call: string;
  size: number;
  /** ms. */
  times: Spread;
  /** What the same takes by a plain query, ms; and ours through that. */
  plain?: Spread;
  ratio?: Spread;
  /** At most so many ms; or, with a plain query, so many times that. */
  goal?: number;
}

async function measure(bench: Bench, done: (row: ReadsRow) => void): Promise<void> {
  const { table, size } = await largeLoop(bench);
  const connection = await bench.open();
  const loop = new DoLoop(connection, table);
  const batch = await loop.get(LOCKED);
  const { locked } = await loop.stats();
  if (locked !== LOCKED) throw new Error(`${locked} ids are locked, not ${LOCKED}`);

  const stride = Math.floor(size / CHECKED);
  const some = Array.from({ length: CHECKED }, (_, i) => 1 + i * stride);
  const byKey = `SELECT id, last_updated, lock_until, failures FROM ${table} WHERE id IN (${some.join()})`;
  bench.progress(0, 'stats, next and check');
  const turns = bench.quick ? 3 : 5;
  const calls = await takeTurnsByCall<'stats' | 'next' | 'check' | 'byKey'>({ turns, calls: bench.quick ? 10 : 30 }, [
    async () => ({ stats: await time(() => loop.stats()) }),
    async () => ({ next: await time(() => loop.next()) }),
    async () => ({ check: await time(() => loop.check(some)) }),
    async () => ({ byKey: await time(() => connection.query(byKey)) }),
  ]);
  done({ call: 'stats', size, times: spread(calls.stats), goal: 5 });
  done({ call: 'next', size, times: spread(calls.next), goal: 2 });
  done({
    call: `check of ${short(CHECKED)} ids`,
    size,
    times: spread(calls.check),
    plain: spread(calls.byKey),
    ratio: ratios(calls.check, calls.byKey),
  });

  let turn = 0;
  const timed = (work: () => Promise<unknown>) => async () => {
    const took = await time(work);
    turn += 1;
    bench.progress(turn / (turns + 1) / 2, `stats({ delayThresholds: [${THRESHOLDS}] })`);
    return took;
  };
  const long = await takeTurns(turns, {
    stats: timed(() => loop.stats({ delayThresholds: THRESHOLDS })),
    count: timed(() => connection.query(`SELECT COUNT(*) FROM ${table} FORCE INDEX (lock_until)`)),
  });
  done({
    call: 'stats, thresholds',
    size,
    times: spread(long.stats),
    plain: spread(long.count),
    ratio: ratios(long.stats, long.count),
    goal: 1.2,
  });
  await loop.unlock(batch);
}

function isReached({ times, ratio, goal }: ReadsRow): boolean {
  return goal === undefined || (ratio ?? times).median <= goal;
}

export const reads: Section<ReadsRow> = {
  title: 'Reading',
  about:
    `The time of a call, ms, with ${LOCKED.toLocaleString('en')} ids locked; for stats with thresholds beside one ` +
    'count over the index, for check beside a SELECT by the same keys.',
  columns: [
    { title: 'call', width: 17, align: 'left' },
    { title: 'ids', width: 4 },
    { title: 'ms', width: 17 },
    { title: 'plain query', width: 17 },
    { title: 'ratio', width: 15 },
    { title: 'goal', width: 5 },
  ],
  measure,
  values: row => {
    const { call, size, times, plain, ratio, goal } = row;
    const reached = isReached(row);
    return [
      call,
      short(size),
      ratio ? withSpread(times) : marked(withSpread(times), reached),
      plain ? withSpread(plain) : '',
      ratio ? marked(withSpread(ratio), reached) : '',
      goal === undefined ? '' : `${ratio ? '≤' : '<'} ${digits(goal)}`,
    ];
  },
};
