/** Cycles of `get` and `did`, ids a second, against the same written by hand, the original's way, and the limit. */
import { setImmediate as othersTurn } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { CONTENDERS, type Contender, type ContenderName } from './contenders.js';
import { ratios, type Spread, spread, takeTurns } from './measure.js';
import { untilPurged } from './purge.js';
import { type Bench, count, digits, marked, type Section, short, withSpread } from './section.js';
import { dropLoop, makeLoop } from './table.js';

const TABLE = 'cell_loop';
/** The limit is told where it means something: one connection, and many ids. */
const LIMIT_FROM = 1_000;
/** Between turns: enough for what one turn left to be purged. */
const QUIET_MS = 50;

const NAMES: ContenderName[] = ['doloop', 'byHand', 'original', 'limit'];
export type Rival = Exclude<ContenderName, 'doloop'>;
export const RIVALS: Rival[] = ['byHand', 'original', 'limit'];

/** What is to be measured. */
export interface Size {
  /** How many ids the loop has. */
  ids: number;
  /** How many are got and reported at once. */
  n: number;
  connections: number;
}

export interface Cell extends Size {
  /** Ids a second. */
  rates: Partial<Record<ContenderName, Spread>>;
  /** Ours through theirs. */
  ratios: Partial<Record<Rival, Spread>>;
}

/** What is asked of the ratios. */
export function goal(over: Rival, { n, connections }: Size): number {
  if (over === 'byHand') return n <= 100 ? 1.2 : 1;
  if (over === 'original') return n <= 10 && connections >= 16 ? 3 : 1;
  return 0.85;
}

/** Who holds which id, as those who hold them see it: from the answer of `get` until `did` is called. */
export class Holders {
  readonly #held: Uint8Array;

  /** @param size the ids are those from 1 to this. */
  constructor(size: number) {
    this.#held = new Uint8Array(size + 1);
  }

  /** @throws Error if one of them is held, or is none of the loop's. */
  take(ids: readonly number[]): void {
    for (const id of ids) {
      if (this.#held[id] !== 0) {
        throw new Error(
          this.#held[id] ? `id ${id} was handed to two at once` : `id ${id} was handed out, and is not in the loop`,
        );
      }
      this.#held[id] = 1;
    }
  }

  give(ids: readonly number[]): void {
    for (const id of ids) this.#held[id] = 0;
  }
}

/** All of these go round until the time is over, each at least once; how many ids they did. */
export async function goRound(workers: Contender[], n: number, ms: number, holders: Holders): Promise<number> {
  const end = performance.now() + ms;
  const work = async (worker: Contender) => {
    let done = 0;
    do {
      const ids = await worker.get(n);
      if (ids.length === 0) continue;
      holders.take(ids);
      done += ids.length;
      await othersTurn(); // whoever was answered the same ids at the same time, says so now
      holders.give(ids);
      await worker.did(ids);
    } while (performance.now() < end);
    return done;
  };
  const done = await Promise.all(workers.map(work));
  return done.reduce((sum, one) => sum + one, 0);
}

/** @throws Error if an id was lost, or is locked still. */
async function assertWhole(connection: Connection, table: string, size: number): Promise<void> {
  const [[row]] = await connection.query<RowDataPacket[]>(
    `SELECT COUNT(*) AS ids, COUNT(lock_until) AS locked FROM ${table}`,
  );
  if (row!.ids !== size || row!.locked !== 0) {
    throw new Error(`of ${size} ids ${row!.ids} are left, and ${row!.locked} of them locked, which nobody holds`);
  }
}

/**
 * One cell: all contenders take turns on the same loop.
 *
 * @param open gives a new connection to the loop's database.
 * @throws Error if an id was handed to two at once, or lost.
 */
export async function measureCell(
  open: () => Promise<Connection>,
  table: string,
  size: Size,
  { turns, ms, progress = () => {} }: { turns: number; ms: number; progress?: () => void },
): Promise<Cell> {
  const names = NAMES.filter(name => name !== 'limit' || (size.connections === 1 && size.n >= LIMIT_FROM));
  const holders = new Holders(size.ids);
  const other = await open();
  const connections = [other];
  const prepare = async (name: ContenderName) => {
    const workers: Contender[] = [];
    for (let i = 0; i < size.connections; i += 1) {
      const connection = await open();
      connections.push(connection);
      workers.push(CONTENDERS[name](connection, table));
    }
    return async (warmUp: boolean) => {
      for (const worker of workers) await worker.begin();
      await untilPurged(other, QUIET_MS);
      const begun = performance.now();
      const done = await goRound(workers, size.n, warmUp ? ms / 3 : ms, holders);
      const rate = (done * 1000) / (performance.now() - begun);
      progress();
      return rate;
    };
  };
  const contenders = {} as Record<ContenderName, (warmUp: boolean) => Promise<number>>;
  for (const name of names) contenders[name] = await prepare(name);
  const rates = await takeTurns(turns, contenders);
  await assertWhole(other, table, size.ids);
  for (const connection of connections) connection.destroy();
  const cell: Cell = { ...size, rates: {}, ratios: {} };
  for (const name of names) {
    cell.rates[name] = spread(rates[name]);
    if (name !== 'doloop') cell.ratios[name] = ratios(rates.doloop, rates[name]);
  }
  return cell;
}

const FULL = { ids: [100_000, 2_000_000], n: [1, 10, 100, 1_000, 10_000], connections: [1, 4, 16], turns: 5, ms: 600 };
const QUICK = { ids: [100_000], n: [1, 100, 1_000], connections: [1, 16], turns: 3, ms: 600 };

async function measure(bench: Bench, done: (cell: Cell) => void): Promise<void> {
  const { ids, n, connections, turns, ms } = bench.quick ? QUICK : FULL;
  const sizes = ids.flatMap(ids => connections.flatMap(connections => n.map(n => ({ ids, n, connections }))));
  let cells = 0;
  for (const stretch of ids) {
    const connection = await bench.open();
    const note = `putting ${count(stretch)} ids in`;
    await makeLoop(connection, TABLE, stretch, () => bench.progress(cells / sizes.length, note));
    for (const size of sizes.filter(size => size.ids === stretch)) {
      const note = `N = ${count(size.n)}, ${size.connections} at once, ${count(size.ids)} ids`;
      const progress = () => bench.progress(cells / sizes.length, note);
      done(await measureCell(bench.open, TABLE, size, { turns, ms, progress }));
      cells += 1;
    }
    await dropLoop(connection, TABLE);
    connection.destroy();
  }
}

function ratio(cell: Cell, over: Rival): string {
  const its = cell.ratios[over];
  if (!its) return '';
  // Without the limit's spread, for which a terminal has no room.
  return marked(over === 'limit' ? digits(its.median) : withSpread(its), its.median >= goal(over, cell));
}

export const cells: Section<Cell> = {
  title: 'get and did, again and again',
  about:
    'Ids a second of get(N) and did of these, on so many connections (×) at once; then ours through theirs: the median ' +
    'of the turns, the least and the most.',
  columns: [
    { title: 'ids', width: 4 },
    { title: 'N', width: 3 },
    { title: '×', width: 2 },
    { title: 'doloop', width: 6 },
    { title: 'by hand', width: 7 },
    { title: 'original', width: 8 },
    { title: 'limit', width: 5 },
    { title: '/ by hand', width: 15 },
    { title: '/ original', width: 15 },
    { title: '/ limit', width: 6 },
  ],
  measure,
  values: cell => [
    ...[cell.ids, cell.n, cell.connections].map(short),
    ...NAMES.map(name => (cell.rates[name] ? digits(cell.rates[name].median) : '')),
    ...RIVALS.map(rival => ratio(cell, rival)),
  ],
};
