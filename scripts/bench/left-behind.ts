/**
 * What updates leave behind in the index while another session's transaction keeps it from being purged: the old failure
 * of tables that are queues.
 */
import { DoLoop } from '../../src/index.js';
import { ratios, type Spread, spread, takeTurnsByCall, time } from './measure.js';
import { untilPurged } from './purge.js';
import { type Bench, count, digits, marked, type Section, short, withSpread } from './section.js';
import { dropLoop, makeLoop } from './table.js';

const TABLE = 'littered_loop';
const BATCH = 10_000;
/** Long enough that nothing is due. */
const NEVER = 2_000_000_000;
const GOAL = 3;
const QUIET_MS = 1_000;

export interface LeftBehindRow {
  held: string;
  /** How many entries were left behind in each of the ranges that get reads. */
  entries: number;
  call: string;
  /** ms. */
  before: Spread;
  after: Spread;
  ratio: Spread;
}

/** What holds the purge back, from another session. */
const HOLDERS: { held: string; statements: string[] }[] = [
  { held: 'a snapshot', statements: ['START TRANSACTION WITH CONSISTENT SNAPSHOT'] },
  {
    held: 'an older write',
    statements: ['START TRANSACTION WITH CONSISTENT SNAPSHOT', 'INSERT INTO elsewhere VALUES (1)'],
  },
];

type Calls = 'get' | 'idle' | 'next';

async function measure(bench: Bench, done: (row: LeftBehindRow) => void): Promise<void> {
  const size = bench.quick ? 200_000 : 1_000_000;
  const entries = bench.quick ? 50_000 : 300_000;
  const calls = bench.quick ? { turns: 3, calls: 10 } : { turns: 5, calls: 30 };
  const connection = await bench.open();
  await connection.query('CREATE TABLE elsewhere (n INT)');
  const loop = new DoLoop(connection, TABLE);
  const callTimes = () =>
    takeTurnsByCall<Calls>(calls, [
      async () => {
        let batch: number[] = [];
        const get = await time(async () => {
          batch = await loop.get(10);
        });
        if (batch.length !== 10) throw new Error(`get answered ${batch.length} ids, not 10`);
        await loop.did(batch);
        return { get };
      },
      async () => ({ idle: await time(() => loop.get(10, { minLoopTime: NEVER })) }),
      async () => ({ next: await time(() => loop.next()) }),
    ]);

  for (const [i, { held, statements }] of HOLDERS.entries()) {
    const progress = (part: number, note: string) => bench.progress((i + part) / HOLDERS.length, `${held}: ${note}`);
    await makeLoop(connection, TABLE, size, () => progress(0, 'putting ids in'));
    await untilPurged(connection, QUIET_MS);
    progress(0.2, 'before');
    const before = await callTimes();
    const holder = await bench.open();
    for (const statement of statements) await holder.query(statement);
    await leaveBehind(loop, entries, left =>
      progress(0.2 + (0.6 * left) / entries, `${count(left)} entries left behind`),
    );
    progress(0.8, 'after');
    const after = await callTimes();
    for (const [part, call] of [
      ['get', 'get(10)'],
      ['idle', 'nothing due'],
      ['next', 'next'],
    ] as const) {
      done({
        held,
        entries,
        call,
        before: spread(before[part]),
        after: spread(after[part]),
        ratio: ratios(after[part], before[part]),
      });
    }
    await holder.query('ROLLBACK');
    holder.destroy();
    await dropLoop(connection, TABLE);
  }
}

/** Bumps, gets and reports the stalest ids, by which each leaves an entry at the head of the due and of the stale range. */
async function leaveBehind(loop: DoLoop, entries: number, progress: (left: number) => void): Promise<void> {
  for (let left = 0; left < entries; left += BATCH) {
    const stalest = await loop.get(BATCH);
    await loop.bump(stalest, { lockFor: 0 });
    const batch = await loop.get(BATCH);
    await loop.did(batch);
    progress(left + BATCH);
  }
}

export const leftBehind: Section<LeftBehindRow> = {
  title: 'Left behind',
  about:
    'The time of a call, ms, before another session held a transaction open and after, when so many entries of the ' +
    'index have been left behind that could not be purged.',
  columns: [
    { title: 'held', width: 14, align: 'left' },
    { title: 'left', width: 4 },
    { title: 'call', width: 11, align: 'left' },
    { title: 'before', width: 14 },
    { title: 'after', width: 14 },
    { title: 'after / before', width: 15 },
    { title: 'goal', width: 4 },
  ],
  measure,
  values: ({ held, entries, call, before, after, ratio }) => [
    held,
    short(entries),
    call,
    withSpread(before),
    withSpread(after),
    marked(withSpread(ratio), call === 'next' || ratio.median <= GOAL),
    call === 'next' ? '' : `≤ ${digits(GOAL)}`,
  ],
};
