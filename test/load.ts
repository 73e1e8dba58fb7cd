/**
 * Sixteen workers on a server that is in trouble, and a record of all that they are told: who holds which ids, and what
 * must stand in the tables, whatever becomes of the calls that are not answered.
 */
import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, Pool } from 'mysql2/promise';
import { random } from '../scripts/bench/soak-common.js';
import { type Batch, create, DoLoop, type WorkEvent, type WorkSummary } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import { contents, type Row } from './harness.js';

/** The loop that all share: its ids have one holder at a time. */
export const SHARED = 'shared_loop';
/** The loop of the keepers: each id is one keeper's, who alone changes it. */
export const OWN = 'own_loop';
/** How many ids there are to share: few enough to come round again and again. */
const IDS = 2_000;
const MAX_IDS = 10;
const WORKERS = 6;
const CALLERS = 6;
const KEEPERS = 4;
/** So many connections. */
export const LOAD = WORKERS + CALLERS + KEEPERS;

/** An error as it is told: the server's number, or the code of the driver or the network. */
export function codeOf(error: unknown): string {
  const { errno = 0, code, message } = error as MySqlError;
  return String(errno > 0 ? errno : (code ?? message)); // numbers of the network are negative
}

/** Makes both loops, in the connection's database. */
export async function makeLoops(connection: Connection): Promise<void> {
  for (const table of [SHARED, OWN]) await create(connection, table);
  await new DoLoop(connection, SHARED).add(Array.from({ length: IDS }, (_, i) => i + 1));
}

/** Who has which ids, as they were told, and until when by the clock that they were told. */
export class Claims {
  readonly #live = new Map<number, { holder: string; at: number; until: number }>();
  /** Claims of an id that was another's at that time. */
  readonly conflicts: string[] = [];

  /** Right after the answer. Of two claims either may be told first, if the earlier one has run out. */
  take(holder: string, ids: readonly number[], at: number, until: number): void {
    for (const id of ids) {
      const other = this.#live.get(id);
      const [mine, its] = [`${holder} from ${at} to ${until}`, `${other?.holder} from ${other?.at} to ${other?.until}`];
      if (other && other.at < until && at < other.until) this.conflicts.push(`${id}: ${mine}, and ${its}`);
      if (!other || other.at <= at) this.#live.set(id, { holder, at, until });
    }
  }

  /** Before the call is sent that opens their locks: from then on anyone may get them. */
  release(ids: readonly number[]): void {
    for (const id of ids) this.#live.delete(id);
  }
}

/** Both ends are possible. Times by the server's clock, which has to be this machine's, s. */
type Span = readonly [from: number, to: number];
/** What is known of an id of a keeper; undefined: it is not in the loop. */
type Known = { updated: Span | null; until: Span | null; failures: Span } | undefined;

const FRESH: Known = { updated: null, until: null, failures: [0, 0] };
/** The client may make a call so often, if its answers are lost. */
const ATTEMPTS = 8;
const seconds = () => Math.floor(Date.now() / 1000);
const plus = ([from, to]: Span, by: number): Span => [from + by, to + by];
const earlier = (a: Span | null, b: Span): Span => (a ? [Math.min(a[0], b[0]), Math.min(a[1], b[1])] : b);

/** What a keeper does with some of its ids, and what comes of it: for one that was known so, if it is done `when`. */
type Deed = { call: (ids: number[]) => Promise<unknown>; makes: (known: Known, when: Span) => Known };

function deeds(loop: DoLoop): Deed[] {
  const lockFor = 10_000 + random(1_000) * 1_000;
  return [
    { call: ids => loop.add(ids), makes: known => known ?? FRESH },
    { call: ids => loop.remove(ids), makes: () => undefined },
    { call: ids => loop.did(ids), makes: (_, when) => ({ updated: when, until: null, failures: [0, 0] }) },
    { call: ids => loop.unlock(ids), makes: known => ({ ...(known ?? FRESH!), until: null }) },
    {
      call: ids => loop.bump(ids, { lockFor }),
      makes: (known = FRESH!, when) => ({ ...known!, until: earlier(known!.until, plus(when, lockFor)) }),
    },
    {
      call: ids => loop.fail(ids, { retryIn: lockFor }),
      makes: (known, when) =>
        known && {
          ...known,
          until: plus(when, lockFor),
          failures: [known.failures[0] + 1, known.failures[1] + ATTEMPTS],
        },
    },
  ];
}

function isAsKnown(row: Row | undefined, known: Known): boolean {
  if (!row || !known) return !row && !known;
  const within = (value: number | null, span: Span | null) =>
    span === null || value === null ? span === value : value >= span[0] && value <= span[1];
  return (
    within(row.last_updated, known.updated) &&
    within(row.lock_until, known.until) &&
    within(row.failures, known.failures)
  );
}

export interface LoadOptions {
  /** For how many seconds ids are locked. @default 3600: longer than any test */
  lockFor?: number;
}

/**
 * Sixteen on one pool: `loop.work()`; who calls get, and then did, fail or unlock; and keepers, who make all calls that
 * change ids, on ids of their own. An error of a plain call is counted, and the call made again until it goes through.
 */
export class Load {
  readonly #claims = new Claims();
  readonly #wrong: string[] = [];
  readonly #pool: Pool;
  readonly #shared: DoLoop;
  readonly #own: DoLoop;
  readonly #lockFor: number;
  readonly #stop = new AbortController();
  /** When the ids were last marked at the earliest, of those calls that were answered. */
  readonly #marked = new Map<number, number>();
  readonly #keepers: Map<number, Known>[] = [];
  readonly #working: Promise<WorkSummary>[];
  readonly #calling: Promise<void>[];
  /** Plain calls that were answered, and ids that `loop.work()` has marked. */
  readonly answered = { plain: 0, work: 0 };
  /** Those `loop.work()` that have marked none yet. */
  readonly idle = new Set<string>();
  /** How often which error came: of plain calls to their caller, and of `loop.work()` to its log. */
  readonly errors = { plain: new Map<string, number>(), work: new Map<string, number>() };

  /** Begins. The pool's account may call the procedures, and read the tables; {@link makeLoops} has made them. */
  constructor(pool: Pool, { lockFor = 3600 }: LoadOptions = {}) {
    this.#pool = pool;
    this.#shared = new DoLoop(pool, SHARED);
    this.#own = new DoLoop(pool, OWN);
    this.#lockFor = lockFor;
    setMaxListeners(0, this.#stop.signal);
    const times = <T>(count: number, begin: (number: number) => T) => Array.from({ length: count }, (_, i) => begin(i));
    this.#working = times(WORKERS, number => this.#work(`worker ${number}`));
    this.#calling = [
      ...times(CALLERS, number => this.#call(`caller ${number}`)),
      ...times(KEEPERS, i => this.#keep(i)),
    ];
    for (const one of [...this.#working, ...this.#calling]) one.catch(() => {}); // awaited in `end`
  }

  /** How much was done. */
  get progress(): number {
    return this.answered.plain + this.answered.work;
  }

  /** Ends it, and throws what has ended any of them before. */
  async end(): Promise<WorkSummary[]> {
    this.#stop.abort();
    await Promise.all(this.#calling);
    return Promise.all(this.#working);
  }

  #count(of: 'plain' | 'work', error: unknown): void {
    const counts = this.errors[of];
    counts.set(codeOf(error), (counts.get(codeOf(error)) ?? 0) + 1);
  }

  #take(name: string, ids: readonly number[], lease: number): void {
    if (!this.#stop.signal.aborted) this.#claims.take(name, ids, lease - this.#lockFor, lease);
  }

  #mark(ids: readonly number[], since: number): void {
    for (const id of ids) this.#marked.set(id, Math.max(since, this.#marked.get(id) ?? 0));
  }

  #work(name: string): Promise<WorkSummary> {
    const begun = new Map<number, number>();
    this.idle.add(name);
    const onEvent = (event: WorkEvent<number>) => {
      if (event.type === 'got') this.#take(name, event.ids, event.lease);
      if (event.type === 'lost') this.#claims.release(event.ids);
      if (event.type === 'retry') this.#count('work', event.error);
      if (event.type !== 'did') return;
      this.answered.work += event.ids.length;
      this.idle.delete(name);
      for (const id of event.ids) this.#mark([id], begun.get(id)!);
    };
    const handler = async (id: number) => {
      await sleep(5);
      begun.set(id, seconds());
      this.#claims.release([id]);
      if (random(10) === 0) throw new Error('as ordered');
    };
    const options = { maxIds: MAX_IDS, lockFor: this.#lockFor, minLoopTime: 0, concurrency: 4, retryIn: 0 };
    const signal = this.#stop.signal;
    return this.#shared.work(handler, { ...options, pollInterval: 1, gracePeriod: 60, signal, onEvent });
  }

  /** A plain call; undefined if it was refused. */
  async #attempt<T>(call: () => Promise<T>): Promise<T | undefined> {
    try {
      const answer = await call();
      this.answered.plain += 1;
      return answer;
    } catch (error) {
      this.#count('plain', error);
      await sleep(50);
      return undefined;
    }
  }

  async #call(name: string): Promise<void> {
    const finish: ((batch: Batch<number>) => Promise<unknown>)[] = [
      batch => this.#shared.did(batch),
      batch => this.#shared.fail(batch, { retryIn: 0 }),
      batch => this.#shared.unlock(batch),
    ];
    while (!this.#stop.signal.aborted) {
      const options = { lockFor: this.#lockFor, minLoopTime: 0 };
      const batch = await this.#attempt(() => this.#shared.get(1 + random(MAX_IDS), options));
      if (!batch) continue;
      this.#take(name, batch, batch.lease!);
      await sleep(random(20));
      this.#claims.release(batch);
      const [since, which] = [seconds(), random(5)];
      const call = finish[which] ?? finish[0]!;
      let answer: unknown;
      do answer = await this.#attempt(() => call(batch));
      while (answer === undefined && !this.#stop.signal.aborted);
      if (answer !== undefined && call === finish[0]) this.#mark(batch, since);
    }
  }

  async #keep(number: number): Promise<void> {
    const ids = Array.from({ length: 40 }, (_, i) => number * 1_000 + i + 1);
    const known = new Map<number, Known>(ids.map(id => [id, undefined]));
    this.#keepers[number] = known;
    while (!this.#stop.signal.aborted) {
      const some = ids.filter(() => random(2) === 0);
      const all = deeds(this.#own);
      const { call, makes } = all[random(all.length)]!;
      const since = seconds();
      const answer = await this.#attempt(() => call(some));
      const after = new Map(some.map(id => [id, makes(known.get(id), [since, seconds()])]));
      if (answer === undefined) await this.#look(known, after);
      else for (const [id, one] of after) known.set(id, one);
    }
  }

  /** A call was not answered: it is done, or it is not. From then on it is known again. */
  async #look(known: Map<number, Known>, after: Map<number, Known>): Promise<void> {
    let rows: Map<number, Row> | undefined;
    while (!rows) {
      if (this.#stop.signal.aborted) return;
      rows = await this.#rows(known).catch(() => sleep(50, undefined));
    }
    const isEach = (those: Map<number, Known>) => [...those].every(([id, one]) => isAsKnown(rows.get(id), one));
    const before = new Map([...after.keys()].map(id => [id, known.get(id)]));
    if (!isEach(before) && !isEach(after)) this.#wrong.push('half of a call is done, or what was acknowledged is not');
    const others = new Map([...known].filter(([id]) => !after.has(id)));
    if (!isEach(others)) this.#wrong.push('after an error, what was acknowledged is not in the table');
    for (const id of known.keys()) {
      const row = rows.get(id);
      const exactly = (value: number | null): Span | null => (value === null ? null : [value, value]);
      known.set(
        id,
        row && {
          updated: exactly(row.last_updated),
          until: exactly(row.lock_until),
          failures: [row.failures, row.failures],
        },
      );
    }
  }

  async #rows(known: Map<number, Known>): Promise<Map<number, Row>> {
    const all = await contents(this.#pool, OWN);
    return new Map(all.filter(({ id }) => known.has(id as number)).map(row => [row.id as number, row]));
  }

  /**
   * Compares the record with the tables, once it has ended.
   *
   * @param unanswered how many calls of get may have been made without an answer: their ids stay locked, until their time.
   */
  async assertKept(unanswered: number): Promise<void> {
    for (const known of this.#keepers) {
      const rows = await this.#rows(known);
      for (const [id, one] of known) {
        if (isAsKnown(rows.get(id), one)) continue;
        const example = JSON.stringify({ id, row: rows.get(id), known: one });
        this.#wrong.push(`what was acknowledged is not in the table: ${example}`);
      }
    }
    const rows = await contents(this.#pool, SHARED);
    if (rows.length !== IDS) this.#wrong.push(`of ${IDS} ids there are ${rows.length}`);
    for (const row of rows) {
      const since = this.#marked.get(row.id as number);
      if (since === undefined || (row.last_updated ?? 0) >= since) continue;
      this.#wrong.push(`an id is not marked as it was acknowledged: ${JSON.stringify({ ...row, since })}`);
    }
    const now = seconds();
    const locked = rows.filter(({ lock_until }) => (lock_until ?? 0) > now).length;
    if (locked > unanswered * MAX_IDS) this.#wrong.push(`${locked} ids are left locked`);
    assert.deepEqual([...this.#claims.conflicts, ...this.#wrong], []);
  }
}
