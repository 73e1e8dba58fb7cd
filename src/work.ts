import { setImmediate as othersTurn } from 'node:timers/promises';
import type { Batch } from './batch.js';
import { type BatchesOptions, milliseconds, OF_BATCHES, Run } from './batches.js';
import { Claim, type Claimant, type Outcome } from './claim.js';
import { type LoopId, shown } from './ids.js';
import type { DoLoop } from './loop.js';
import { type Check, isFlag, isSeconds, isSome } from './options.js';

export interface WorkOptions<Id> extends BatchesOptions<Id> {
  /** Call the handler with each batch, rather than with each id: {@link BatchWorkOptions}. @default false */
  batch?: false;
  /** How many calls of the handler may run at once. @default 1 */
  concurrency?: number;
  /**
   * What becomes of ids whose handler threw: marked as failed, to be tried again after a pause; unlocked, so that they
   * may come again at once; or left locked until their time. @default 'fail'
   */
  onFailure?: 'fail' | 'unlock' | 'leave';
  /**
   * With 'fail': in how many seconds to try again.
   * @default 60 for the first failure, doubled with each in a row, at most a day
   */
  retryIn?: number;
  /** How many seconds handlers that run have left once the signal was given. @default 30 */
  gracePeriod?: number;
}

const isOnFailure: Check = (name, value) => {
  if (value !== 'fail' && value !== 'unlock' && value !== 'leave') {
    throw new TypeError(`${name}: ${shown(value)} is none of fail, unlock, leave`);
  }
};

export const OF_WORK: Record<keyof WorkOptions<unknown>, Check> = {
  ...OF_BATCHES,
  batch: isFlag,
  concurrency: isSome,
  onFailure: isOnFailure,
  retryIn: isSeconds,
  gracePeriod: isSeconds,
};

/** The same, for a handler of batches. */
export interface BatchWorkOptions<Id> extends Omit<WorkOptions<Id>, 'batch'> {
  batch: true;
}

/** What a handler is given beside its id or batch. */
export interface WorkContext {
  /** Given when the work is to end: by the caller's signal, with its reason, or by an error. */
  signal: AbortSignal;
}

/** Updates what it is given. If it throws, that has failed. What it returns is not looked at. */
export type Handler<Given> = (given: Given, context: WorkContext) => unknown;

/** What became of the ids that were got: how many of them. */
export interface WorkSummary {
  /** Marked as updated. */
  did: number;
  /** Marked as failed. */
  failed: number;
  /** Given back. */
  unlocked: number;
  /** Left locked: by `onFailure`, or because the handler or the server outlived `gracePeriod`. */
  left: number;
  /**
   * Bumped or removed meanwhile, or their lock ran out, so that another worker may have had them, too. Those that were
   * begun before that was known were marked as updated all the same, and are counted there as well.
   */
  lost: number;
}

/** After `gracePeriod`, the last calls have so many seconds to come to their end. */
const LAST_CALLS = 2;
/** Handlers that don't wait for anything let others have their turn after so long: timers, signals, the network. */
const TURN_MS = 10;
/** So many claims may be about to be marked before more is got. */
const MAX_HANDLED = 2;

/** See {@link DoLoop.work}. The handler is called with a batch, which has one id unless `batch` is set. */
export function work<Id extends LoopId>(
  loop: DoLoop<Id>,
  handler: Handler<Batch<Id>>,
  options: WorkOptions<Id> | BatchWorkOptions<Id>,
): Promise<WorkSummary> {
  return new Worker(loop, handler, options).work();
}

class Worker<Id extends LoopId> implements Claimant<Id> {
  readonly run: Run<Id>;
  readonly retryIn: number | undefined;
  readonly summary = { did: 0, failed: 0, unlocked: 0, left: 0, lost: 0 };
  readonly #handler: Handler<Batch<Id>>;
  readonly #idsAtOnce: number;
  readonly #concurrency: number;
  readonly #onFailure: Outcome;
  readonly #gracePeriod: number;
  readonly #over = new AbortController();
  /** All that are not marked as a whole. */
  readonly #claims = new Set<Claim<Id>>();
  /** Those with ids that are not begun. */
  readonly #queue: Claim<Id>[] = [];
  #running = 0;
  #turnEnds = 0;
  #timers: NodeJS.Timeout[] = [];
  /** Has {@link #until} look again. */
  #changed = () => {};

  constructor(loop: DoLoop<Id>, handler: Handler<Batch<Id>>, options: WorkOptions<Id> | BatchWorkOptions<Id>) {
    const { batch = false, concurrency = 1, onFailure = 'fail', gracePeriod = 30 } = options;
    this.run = new Run(loop, options);
    this.retryIn = options.retryIn;
    this.#handler = handler;
    this.#idsAtOnce = batch ? Number.POSITIVE_INFINITY : 1;
    this.#concurrency = concurrency;
    this.#onFailure = onFailure;
    this.#gracePeriod = gracePeriod;
  }

  get over(): AbortSignal {
    return this.#over.signal;
  }

  closed(claim: Claim<Id>): void {
    this.#claims.delete(claim);
    this.#changed();
  }

  async work(): Promise<WorkSummary> {
    this.run.signal.addEventListener('abort', () => this.#stop());
    const over = new Promise(resolve => this.#over.signal.addEventListener('abort', resolve));
    try {
      await Promise.race([this.#goRound(), over]);
    } finally {
      this.#over.abort();
      for (const claim of this.#claims) claim.end();
      for (const timer of this.#timers) clearTimeout(timer);
      this.run.release();
    }
    return { ...this.summary };
  }

  async #goRound(): Promise<void> {
    let claims: number;
    do {
      claims = 0;
      for await (const { batch, since } of this.run.supply()) {
        claims += 1;
        const claim = new Claim(this, batch, since);
        this.#claims.add(claim);
        if (this.run.signal.aborted) claim.giveBack();
        else this.#queue.push(claim);
        this.#begin();
        await this.#until(() => this.run.signal.aborted || this.#wantsMore());
      }
      await this.#until(() => this.#claims.size === 0);
      // With `once`, what was done since may be due again, or was bumped.
    } while (claims > 0);
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>(resolve => {
        this.#changed = resolve;
      });
    }
  }

  /** Before handlers run dry, but never more than a batch ahead; and not if what was done can't be marked as fast. */
  #wantsMore(): boolean {
    const waiting = this.#queue.reduce((sum, claim) => sum + claim.waiting, 0);
    if (waiting > this.#concurrency || !this.#queue.every(claim => claim.isBegun)) return false;
    return [...this.#claims].filter(claim => claim.isHandled).length < MAX_HANDLED;
  }

  /** Calls the handler as often as may be. */
  #begin(): void {
    while (this.#running < this.#concurrency && this.#queue.length > 0) {
      const [claim] = this.#queue as [Claim<Id>];
      const batch = claim.begin(this.#idsAtOnce);
      if (claim.waiting === 0) this.#queue.shift();
      if (batch.length > 0) this.#handle(claim, batch);
    }
    this.#changed();
  }

  async #handle(claim: Claim<Id>, batch: Batch<Id>): Promise<void> {
    this.#running += 1;
    const ids = [...batch]; // the batch is the handler's
    const { signal } = this.run;
    let outcome: Outcome = 'did';
    try {
      await this.#handler(batch, { signal });
    } catch (error) {
      const gaveUp = signal.aborted && (error === signal.reason || (error as Error | null)?.name === 'AbortError');
      outcome = gaveUp ? 'unlock' : this.#onFailure;
      if (!gaveUp) this.run.tell({ type: 'failed', ids, error });
    }
    claim.settle(ids, outcome);
    if (performance.now() > this.#turnEnds) {
      await othersTurn();
      this.#turnEnds = performance.now() + TURN_MS;
    }
    this.#running -= 1;
    this.#begin();
  }

  /** Begins nothing more, and sets those that run a time. */
  #stop(): void {
    const leave = () => {
      for (const claim of this.#claims) claim.leaveRunning();
    };
    this.#timers = [
      setTimeout(leave, milliseconds(this.#gracePeriod)),
      setTimeout(() => this.#over.abort(), milliseconds(this.#gracePeriod + LAST_CALLS)),
    ];
    for (const claim of this.#queue.splice(0)) claim.giveBack();
    this.#changed();
  }
}
