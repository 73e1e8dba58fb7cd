/** How much longer calls take on a large loop than on a small one. */
import { DoLoop } from '../../src/index.js';
import { ratios, type Spread, spread, takeTurnsByCall, time } from './measure.js';
import { type Bench, digits, marked, type Section, short, withSpread } from './section.js';
import { largeLoop, makeLoop } from './table.js';

const SMALL = { table: 'small_loop', size: 100_000 };
const IDS = 100;
const GOAL = 1.3;

export interface SizeRow {
  call: string;
  /** How many ids the loops have. */
  sizes: [small: number, large: number];
  /** ms. */
  small: Spread;
  large: Spread;
  ratio: Spread;
}

async function measure(bench: Bench, done: (row: SizeRow) => void): Promise<void> {
  const large = await largeLoop(bench);
  const connection = await bench.open();
  await makeLoop(connection, SMALL.table, SMALL.size);
  const cycle = (table: string, get: string, did: string) => {
    const loop = new DoLoop(connection, table);
    return async () => {
      let batch: number[] = [];
      const getting = await time(async () => {
        batch = await loop.get(IDS);
      });
      if (batch.length !== IDS) throw new Error(`get answered ${batch.length} ids, not ${IDS}`);
      return { [get]: getting, [did]: await time(() => loop.did(batch)) };
    };
  };
  const calls = bench.quick ? { turns: 3, calls: 30 } : { turns: 5, calls: 100 };
  bench.progress(0.9, `get(${IDS}) and did, ${short(large.size)} and ${short(SMALL.size)} ids in turn`);
  const times = await takeTurnsByCall<string>(calls, [
    cycle(SMALL.table, 'small get', 'small did'),
    cycle(large.table, 'large get', 'large did'),
  ]);
  for (const call of ['get', 'did']) {
    const [inSmall, inLarge] = [times[`small ${call}`]!, times[`large ${call}`]!];
    done({
      call: `${call}(${IDS})`,
      sizes: [SMALL.size, large.size],
      small: spread(inSmall),
      large: spread(inLarge),
      ratio: ratios(inLarge, inSmall),
    });
  }
}

export const size: Section<SizeRow> = {
  title: 'Size',
  about: 'The time of a call, ms, on a small loop and on a large one, taking turns call by call.',
  columns: [
    { title: 'call', width: 12, align: 'left' },
    { title: 'ids', width: 12 },
    { title: 'small', width: 15 },
    { title: 'large', width: 15 },
    { title: `large / small`, width: 16 },
    { title: 'goal', width: 5 },
  ],
  measure,
  values: ({ call, sizes, small, large, ratio }) => [
    call,
    sizes.map(short).join(', '),
    withSpread(small),
    withSpread(large),
    marked(withSpread(ratio), ratio.median <= GOAL),
    `≤ ${digits(GOAL)}`,
  ],
};
