/** What all workers of the soak have in common: ids by what is done with them, ways to call, and who holds what. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { Connection, Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import type { DoLoop } from '../../src/index.js';
import type { MySqlError } from '../../src/mysql.js';
import type { Procedure } from '../../src/render.js';
import type { Evidence } from './evidence.js';

export type Argument = number | string | boolean | null | readonly number[];
export interface Answer {
  /** What it says of how many ids. */
  count: number;
  ids: number[];
  lease: number | null;
}
/** Makes a call of a procedure, arguments by position. */
export type Invoke = (procedure: Procedure, ...args: Argument[]) => Promise<Answer>;

export const [DEADLOCK, KILLED, NO_SUCH_THREAD] = [1213, 1317, 1094];
/**
 * Whether a KILL ended a call: by its own error, or by one that the procedure would have handled (there is no savepoint;
 * a transaction is open), since the server runs no handler for who was killed.
 */
export const wasKilled = (error: unknown) =>
  [KILLED, 1568].includes(errnoOf(error)) || (errnoOf(error) === 1305 && /SAVEPOINT/.test((error as Error).message));
export const errnoOf = (error: unknown) => (error as MySqlError).errno ?? 0;

/** A whole number, from 0. */
export const random = (below: number) => Math.floor(Math.random() * below);

/**
 * Ids by what is done with them. `work`: only who got them does anything with them, so each has one holder at a time.
 * `shared`: anyone does anything with them but remove them. `tossed`: anyone adds and removes them, too. `churned`: they
 * are added and removed only by who is never killed, so that it is known how many there are. `fresh`: they come in by
 * being done, unlocked or bumped. `own`: one part for each connection, that alone adds and removes them.
 */
export const FIRST = {
  shared: 100_000_000,
  tossed: 200_000_000,
  churned: 300_000_000,
  fresh: 400_000_000,
  own: 500_000_000,
};
export const SIZE = { shared: 200, tossed: 200, churned: 200, fresh: 2_000, own: 1_000 };
export type Range = keyof typeof FIRST;
export const isWork = (id: number) => id < FIRST.shared;

/**
 * Seconds from one `lock_for` to the next: each claim has its own, so that a lock_until tells which claim it is of, even
 * if the answer was lost. No call takes so long.
 */
const STEP = 200;
const FIRST_LOCK_FOR = 1_000_000;

/** How long calls took, ms. */
export interface Latency {
  p50: number;
  p99: number;
  max: number;
}

/** How long calls took, by procedure, in the same room however many they are. */
export class Times {
  readonly #histograms = new Map<Procedure, RecordableHistogram>();

  add(procedure: Procedure, ms: number): void {
    const histogram = this.#histograms.get(procedure) ?? createHistogram();
    this.#histograms.set(procedure, histogram);
    histogram.record(Math.max(1, Math.round(ms * 1000)));
  }

  get procedures(): Procedure[] {
    return [...this.#histograms.keys()];
  }

  /** How many calls there were of a procedure, or of all. */
  count(procedure?: Procedure): number {
    if (procedure) return this.#histograms.get(procedure)?.count ?? 0;
    return this.procedures.reduce((sum, one) => sum + this.count(one), 0);
  }

  /** All 0, where there was no call. */
  latency(procedure: Procedure): Latency {
    const histogram = this.#histograms.get(procedure);
    if (!histogram) return { p50: 0, p99: 0, max: 0 };
    const [p50, p99, max] = [histogram.percentile(50), histogram.percentile(99), histogram.max];
    return { p50: p50 / 1000, p99: p99 / 1000, max: max / 1000 };
  }
}

/** Counts all that happens; and what may never happen. */
export class Tally {
  /** Given by `get`. */
  ids = 0;
  /** How often one was held after a kill, which may do no harm. */
  namedLocks = 0;
  /** Of the calls that were answered, outside of transactions of the caller's. */
  readonly times = new Times();
  /** The same since the latest point. */
  recent = new Times();
  readonly killed: Partial<Record<Procedure, number>> = {};
  readonly transactions = { committed: 0, rolledBack: 0 };
  readonly deadlocks = { inTransactions: 0, byClient: 0, reached: 0 };
  readonly #violations = new Map<string, { times: number; example: string }>();

  done(procedure: Procedure, ms: number): void {
    this.times.add(procedure, ms);
    this.recent.add(procedure, ms);
  }

  violation(what: string, example = ''): void {
    const found = this.#violations.get(what);
    if (found) found.times += 1;
    else this.#violations.set(what, { times: 1, example });
  }

  get violations(): { what: string; times: number; example: string }[] {
    return [...this.#violations].map(([what, { times, example }]) => ({ what, times, example }));
  }
}

interface Claim {
  holder: string;
  /** When it was heard of, by the server's clock, s: it was made before. */
  told: number;
  until: number;
}

/** Who holds which ids of `work`, and until when by the server's clock. */
export class Holders {
  readonly #holders = new Map<number, Claim>();
  readonly #taken = new Map<number, { claim: Claim; since: number }>();
  #claims = 0;

  constructor(
    private readonly tally: Tally,
    /** The server's time, s; rather later. */
    private readonly time: () => number,
    private readonly note: (event: string, details: object) => void,
  ) {}

  /** A moment, for {@link take}. */
  get now(): number {
    return this.#claims;
  }

  /**
   * They were claimed, and not been given to others since this moment. Of two claims either may be told first, if the
   * earlier one was for a short time. A get may take its time between looking at the clock and claiming: so it is known
   * of a claim that it was made before it was told, and no more.
   */
  take(holder: string, ids: readonly number[], until: number, since = this.#claims): void {
    const claim = { holder, told: this.time(), until };
    this.note('take', { ...claim, since, ids });
    this.#claims += 1;
    const overlaps = (other: Claim) => other.told < until && claim.told < other.until;
    for (const id of ids) {
      const taken = this.#taken.get(id);
      const other = this.#holders.get(id) ?? (taken && taken.since > since ? taken.claim : undefined);
      if (other && overlaps(other)) {
        this.note('two holders', { id, holder, other });
        this.tally.violation('an id has two holders', `${id}: ${holder}, and ${other.holder}`);
      }
      if (!other || other.until <= until) this.#holders.set(id, claim);
      this.#taken.set(id, { claim, since: this.#claims });
    }
  }

  /** Before the call is sent that opens their locks: from then on anyone may get them. */
  release(ids: readonly number[]): void {
    this.note('release', { ids });
    for (const id of ids) this.#holders.delete(id);
  }
}

/** How many arguments each takes. */
const TAKES: Record<Procedure, number> = {
  ...{ add: 2, remove: 1, get: 3, did: 3, unlock: 3, bump: 3, extend: 3, fail: 3, check: 1, stats: 1, next: 1 },
};

/** By plain CALLs. */
export function plainly(connection: Connection, table: string, look: (status: number) => void = () => {}): Invoke {
  return async (procedure, ...args) => {
    const values = Array.from({ length: TAKES[procedure] }, (_, i) => args[i] ?? null);
    const [sets] = await connection.query<[RowDataPacket[], ResultSetHeader]>(
      `CALL ${table}_${procedure}(${values.map(() => '?').join()})`,
      values.map(value => (Array.isArray(value) ? JSON.stringify(value) : value)),
    );
    const [rows, { serverStatus }] = sets;
    look(serverStatus);
    const ids = procedure === 'get' || procedure === 'check' ? rows.map(row => row.id as number) : [];
    const count = ids.length || Number(Object.values(rows[0] ?? { none: 0 })[0]);
    return { count, ids, lease: rows[0]?.lock_until ?? null };
  };
}

/** By the typed client. */
export function byClient(loop: DoLoop): Invoke {
  return async (procedure, ...args) => {
    const [first, second, third] = args as unknown as [never, never, never];
    const given = (options: Record<string, unknown>): object =>
      Object.fromEntries(Object.entries(options).filter(([, value]) => (value ?? null) !== null));
    const counted = async (count: Promise<number>) => ({ count: await count, ids: [], lease: null });
    switch (procedure) {
      case 'get': {
        const batch = await loop.get(first, given({ lockFor: second, minLoopTime: third }));
        return { count: batch.length, ids: [...batch], lease: batch.lease };
      }
      case 'check': {
        const ids = (await loop.check(first)).map(({ id }) => id);
        return { count: ids.length, ids, lease: null };
      }
      case 'extend': {
        const { extended, lease } = await loop.extend(first, given({ lockFor: second, lease: third }));
        return { count: extended, ids: [], lease };
      }
      case 'add':
        return counted(loop.add(first, given({ updated: second })));
      case 'remove':
        return counted(loop.remove(first));
      case 'did':
      case 'unlock':
        return counted(loop[procedure](first, given({ autoAdd: second, lease: third })));
      case 'bump':
        return counted(loop.bump(first, given({ lockFor: second, autoAdd: third })));
      case 'fail':
        return counted(loop.fail(first, given({ retryIn: second, lease: third })));
      case 'stats':
        return counted(
          loop
            .stats(given({ delayThresholds: first === null ? null : JSON.parse(first) }))
            .then(({ locked }) => locked),
        );
      case 'next':
        return counted(loop.next(given({ minLoopTime: first })).then(dueIn => dueIn ?? 0));
    }
  };
}

/** Repeats a statement that a late kill was meant for another. */
export async function surely<T extends RowDataPacket[] | ResultSetHeader>(
  connection: Connection,
  sql: string,
): Promise<T> {
  for (;;) {
    try {
      return (await connection.query<T>(sql))[0];
    } catch (error) {
      if (errnoOf(error) !== KILLED) throw error;
    }
  }
}

/** What all connections have in common. */
export class Soak {
  readonly tally = new Tally();
  readonly holders = new Holders(
    this.tally,
    () => this.serverTime,
    (event, details) => this.note(event, details),
  );
  /** Ids of `churned` put in, less those taken out. */
  churned = 0;
  /** Ids of `fresh` that are in for sure, and those that may be. */
  readonly fresh = { sure: new Set<number>(), possible: new Set<number>() };
  /** Connections to be killed, and whether one is in the middle of a call. */
  readonly targets = new Set<number>();
  /** When each of them was killed the last time, by performance.now(). */
  readonly killedAt = new Map<number, number>();
  ended = false;
  #lockFor = FIRST_LOCK_FOR;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    readonly table: string,
    /** Never killed, and never in a transaction. */
    readonly observer: Connection,
    /** The same, for {@link timeGet} alone. */
    private readonly stranger: Connection,
    /** The server's clock less ours, s; rather too much than too little. */
    readonly clock: number,
    readonly evidence: Evidence,
  ) {}

  note(event: string, details: object): void {
    this.evidence.note(this.serverTime, event, details);
  }

  /** A time to lock ids for that no other claim has. */
  nextLockFor(): number {
    this.#lockFor += STEP;
    return this.#lockFor;
  }

  get serverTime(): number {
    return Date.now() / 1000 + this.clock;
  }

  /** What a call without an answer claimed, if it did, is ours alone; and unlocked. */
  async recover(holder: string, lockFor: number, sent: number): Promise<void> {
    const [rows] = await this.observer.query<RowDataPacket[]>(
      `SELECT id, lock_until FROM ${this.table} WHERE lock_until BETWEEN ? AND ?`,
      [Math.floor(sent + lockFor) - 5, Math.ceil(this.serverTime + lockFor) + 5],
    );
    this.note('recover', { holder, lockFor, sent, rows: rows.length });
    for (const lease of new Set(rows.map(row => row.lock_until as number))) {
      const ids = rows.filter(row => row.lock_until === lease).map(row => row.id as number);
      const own = ids.filter(isWork);
      this.holders.take(`${holder}, recovered`, own, lease);
      this.holders.release(own);
      await this.unlock(ids, lease);
    }
  }

  /** How long a get takes, ms, of somebody who does nothing with what it gives; one at a time. */
  timeGet(holder: string, max: number): Promise<number> {
    const taken = this.#turn.then(() => this.#getAndUnlock(holder, max));
    this.#turn = taken.catch(() => {});
    return taken;
  }

  async #getAndUnlock(holder: string, max: number): Promise<number> {
    const lockFor = this.nextLockFor();
    const start = performance.now();
    const { ids, lease } = await plainly(this.stranger, this.table)('get', max, lockFor, 0);
    const took = performance.now() - start;
    const work = ids.filter(isWork);
    this.holders.take(`${holder}, looking`, work, lease!);
    this.holders.release(work);
    await this.unlock(ids, lease);
    return took;
  }

  /** Opens locks that are still this lease. */
  async unlock(ids: readonly number[], lease: number | null): Promise<void> {
    const invoke = plainly(this.observer, this.table);
    for (;;) {
      try {
        await invoke('unlock', ids, false, lease);
        return;
      } catch (error) {
        if (errnoOf(error) !== DEADLOCK) throw error;
        this.tally.deadlocks.reached += 1;
        this.tally.violation('unlock deadlocks (1213)', (error as Error).message);
      }
    }
  }

  /** Whether the latest deadlock was one of this session. */
  async hadDeadlock(threadId: number): Promise<boolean> {
    const [[status]] = await this.observer.query<RowDataPacket[]>('SHOW ENGINE INNODB STATUS');
    const [, deadlock = ''] = /LATEST DETECTED DEADLOCK\n(.*?)\nTRANSACTIONS\n/s.exec(status!.Status) ?? [];
    return new RegExp(`thread id ${threadId},`).test(deadlock);
  }

  /** What is in of a range. */
  async idsIn(first: number, size: number): Promise<number[]> {
    const [rows] = await this.observer.query<RowDataPacket[]>(
      `SELECT id FROM ${this.table} WHERE id > ? AND id <= ? ORDER BY id`,
      [first, first + size],
    );
    return rows.map(row => row.id as number);
  }
}

/** Whether the client made a call again is seen in what its connections answer. */
export function countingDeadlocks(pool: Pool, tally: Tally): Pool {
  const proxy = <T extends object>(target: T, own: Record<string, unknown>): T =>
    new Proxy(target, {
      get(real, key) {
        if (typeof key === 'string' && Object.hasOwn(own, key)) return own[key];
        const value: unknown = Reflect.get(real, key);
        return typeof value === 'function' ? value.bind(real) : value;
      },
    });
  return proxy(pool, {
    getConnection: async () => {
      const connection = await pool.getConnection();
      return proxy(connection, {
        query: async (...args: Parameters<Connection['query']>) => {
          try {
            return await connection.query(...args);
          } catch (error) {
            if (errnoOf(error) === DEADLOCK) tally.deadlocks.byClient += 1;
            throw error;
          }
        },
      });
    },
  });
}
