/** What the client costs over the same CALL written by hand. */
import type { Connection, Pool, RowDataPacket } from 'mysql2/promise';
import { DoLoop } from '../../src/index.js';
import { type Spread, spread, takeTurnsByCall, time } from './measure.js';
import { type Bench, marked, type Section, withSpread } from './section.js';
import { dropLoop, makeLoop } from './table.js';

const TABLE = 'client_loop';
const SIZE = 100_000;
/** Percent. */
const GOAL = 5;

export interface ClientRow {
  call: string;
  on: 'connection' | 'pool';
  /** ms. */
  client: Spread;
  byHand: Spread;
  /** Of the client over the call by hand, percent: the median of the pairs. */
  overhead: Spread;
}

type Parts = Record<'get' | 'did', number>;

async function measure(bench: Bench, done: (row: ClientRow) => void): Promise<void> {
  const connection = await bench.open();
  await makeLoop(connection, TABLE, SIZE);
  const targets: [ClientRow['on'], Connection | Pool][] = [
    ['connection', connection],
    ['pool', bench.openPool(1)],
  ];
  for (const [on, target] of targets) {
    for (const n of [1, 100]) {
      bench.progress(on === 'pool' ? 0.5 : 0, `N = ${n}, on a ${on}`);
      const calls = bench.quick ? { turns: 3, calls: 150 } : { turns: 5, calls: 300 };
      const times = await takeTurnsByCall(calls, [inPairs(byClient(target, n), byHand(target, n))]);
      for (const call of ['get', 'did'] as const) {
        done({
          call: `${call}(${n})`,
          on,
          client: spread(times[`${call} by client`]!),
          byHand: spread(times[`${call} by hand`]!),
          overhead: spread(times[`${call} overhead`]!),
        });
      }
    }
  }
  await dropLoop(connection, TABLE);
}

/** Both after each other, now this one first and now that; and what the client costs, percent, in this pair. */
function inPairs(client: () => Promise<Parts>, hand: () => Promise<Parts>) {
  let clientFirst = false;
  return async () => {
    clientFirst = !clientFirst;
    const first = await (clientFirst ? client : hand)();
    const second = await (clientFirst ? hand : client)();
    const [c, h] = clientFirst ? [first, second] : [second, first];
    return {
      ...{ 'get by client': c.get, 'get by hand': h.get, 'get overhead': (c.get / h.get - 1) * 100 },
      ...{ 'did by client': c.did, 'did by hand': h.did, 'did overhead': (c.did / h.did - 1) * 100 },
    };
  };
}

function byClient(target: Connection | Pool, n: number) {
  const loop = new DoLoop(target, TABLE);
  return async () => {
    let batch: number[] = [];
    const get = await time(async () => {
      batch = await loop.get(n, { minLoopTime: 0 });
    });
    return { get, did: await time(() => loop.did(batch)) };
  };
}

function byHand(target: Connection | Pool, n: number) {
  return async () => {
    let ids: number[] = [];
    let lease: number;
    const get = await time(async () => {
      const [[rows]] = await target.query<[RowDataPacket[]]>(`CALL \`${TABLE}_get\`(${n}, NULL, 0)`);
      ids = rows.map(row => row.id);
      lease = rows[0]!.lock_until;
    });
    const did = await time(async () => {
      const call = `CALL \`${TABLE}_did\`('${JSON.stringify(ids)}', NULL, ${lease})`;
      const [[[row]]] = await target.query<[RowDataPacket[]]>(call);
      return row!.updated;
    });
    return { get, did };
  };
}

export const client: Section<ClientRow> = {
  title: 'The client',
  about: 'The time of a call, ms, by the client and as the same CALL with mysql2 alone, taking turns call by call.',
  columns: [
    { title: 'call', width: 8, align: 'left' },
    { title: 'on a', width: 10, align: 'left' },
    { title: 'client', width: 15 },
    { title: 'by hand', width: 15 },
    { title: 'overhead, %', width: 20 },
    { title: 'goal', width: 4 },
  ],
  measure,
  values: ({ call, on, client, byHand, overhead }) => [
    call,
    on,
    withSpread(client),
    withSpread(byHand),
    marked(
      `${overhead.median.toFixed(1)} (${overhead.min.toFixed(1)} to ${overhead.max.toFixed(1)})`,
      overhead.median < GOAL,
    ),
    `< ${GOAL}`,
  ],
};
