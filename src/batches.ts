import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Batch } from './batch.js';
import { DoLoopError } from './errors.js';
import type { LoopId } from './ids.js';
import type { DoLoop } from './loop.js';
import type { MySqlError } from './mysql.js';
import { type Check, isDuration, isFlag, isFunction, isSeconds, isSignal, isSome } from './options.js';
import type { Procedure } from './render.js';

export interface BatchesOptions<Id> {
  /** How many ids to get at once, at most. @default 100 */
  maxIds?: number;
  /** For how many seconds to lock the ids. @default 3600 */
  lockFor?: number;
  /** Only unlocked ids that were last updated at least so many seconds ago. @default 3600 */
  minLoopTime?: number;
  /** Where nothing is due: look again after so many seconds at the latest. @default 10 */
  pollInterval?: number;
  /** End when nothing is due. @default false */
  once?: boolean;
  /** Ends it. */
  signal?: AbortSignal;
  /** Told what happens, for logs and metrics. If it throws, that ends it, and is the error. */
  onEvent?: (event: WorkEvent<Id>) => void;
}

export const OF_BATCHES: Record<keyof BatchesOptions<unknown>, Check> = {
  maxIds: isSome,
  lockFor: isDuration,
  minLoopTime: isSeconds,
  pollInterval: isDuration,
  once: isFlag,
  signal: isSignal,
  onEvent: isFunction,
};

/** What happens, by its `type`. */
export type WorkEvent<Id> =
  /** Ids were got; their lease. */
  | { type: 'got'; ids: readonly Id[]; lease: number }
  /** Ids were marked as updated. */
  | { type: 'did'; ids: readonly Id[] }
  /** The handler threw this; what becomes of the ids says `onFailure`. */
  | { type: 'failed'; ids: readonly Id[]; error: unknown }
  /** Ids were given back, not updated. */
  | { type: 'unlocked'; ids: readonly Id[] }
  /** Ids stay locked until their time: by `onFailure`, or because time ran out. */
  | { type: 'left'; ids: readonly Id[] }
  /** Ids were bumped or removed meanwhile, or their lock ran out: another worker may have them, too. */
  | { type: 'lost'; ids: readonly Id[] }
  /** Ids are locked longer; their new lease. */
  | { type: 'extended'; ids: readonly Id[]; lease: number }
  /** Nothing is due, for so many seconds nobody looks. */
  | { type: 'idle'; seconds: number }
  /** A call failed so many times in a row, and is made again in so many seconds. */
  | { type: 'retry'; call: Procedure; error: unknown; attempt: number; seconds: number };

/** The pause after a call that failed, s: doubled each time, less a random part of up to a half. */
const FIRST_PAUSE = 0.1;
const LONGEST_PAUSE = 30;
/** Once it is to end there is no time for long pauses. */
const LONGEST_PAUSE_WHEN_ENDING = 1;
/** With `once`: for how long a call may fail. */
const PATIENCE_MS = 60_000;
/** Where get should have found something (others may have been faster): the shortest pause, s. */
const SHORTEST_IDLE = 0.05;

/** Nothing mends these by itself: no right to connect, no such database, no right to what is called. */
const DENIED = new Set([1044, 1045, 1049, 1142, 1227]);

/** Milliseconds, as long as a timer can be set. */
export function milliseconds(seconds: number): number {
  return Math.min(seconds * 1000, 2_147_483_647);
}

/**
 * What getting and working have in common: they go on through trouble, tell what happens, and end by the caller's signal
 * or by an error. No listener stays on the caller's signal after `release`.
 */
export class Run<Id extends LoopId> {
  readonly loop: DoLoop<Id>;
  /** For how many seconds ids are locked. */
  readonly lockFor: number;
  readonly #options: BatchesOptions<Id>;
  readonly #stop = new AbortController();
  readonly #stopByCaller = () => this.#stop.abort(this.#options.signal!.reason);
  #failure: { error: unknown } | undefined;
  #isReleased = false;
  /** A call has succeeded: where a later one does not, that may pass. */
  #works = false;

  constructor(loop: DoLoop<Id>, options: BatchesOptions<Id>) {
    this.loop = loop;
    this.lockFor = options.lockFor ?? 3600;
    this.#options = options;
    setMaxListeners(0, this.signal); // each handler may listen to it
    options.signal?.addEventListener('abort', this.#stopByCaller, { once: true });
    if (options.signal?.aborted) this.#stopByCaller();
  }

  /** Given when nothing more is to be begun. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Ends it, with this error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stop.abort(error);
  }

  /** It is over, and tells nothing more. Throws what has ended it, if that was an error. */
  release(): void {
    this.#isReleased = true;
    this.#options.signal?.removeEventListener('abort', this.#stopByCaller);
    if (this.#failure) throw this.#failure.error;
  }

  tell(event: WorkEvent<Id>): void {
    const { onEvent } = this.#options;
    if (!onEvent || this.#isReleased) return;
    try {
      // It may be an async function, whatever its type says.
      Promise.resolve(onEvent(event)).catch(error => this.fail(error));
    } catch (error) {
      this.fail(error);
    }
  }

  /**
   * Makes a call until it succeeds. Resolves to undefined if it did not until this signal was given, or if its error
   * ends the run.
   */
  async persist<T>(call: Procedure, make: () => Promise<T>, until = this.signal): Promise<T | undefined> {
    const begun = performance.now();
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await make();
        this.#works = true;
        return answer;
      } catch (error) {
        if (until.aborted) return undefined;
        if (this.#isFinal(error) || (this.#options.once && performance.now() - begun > PATIENCE_MS)) {
          this.fail(error);
          return undefined;
        }
        const ending = this.signal.aborted;
        const longest = ending ? LONGEST_PAUSE_WHEN_ENDING : LONGEST_PAUSE;
        const seconds = Math.min(FIRST_PAUSE * 2 ** (attempt - 1), longest) * (1 - Math.random() / 2);
        this.tell({ type: 'retry', call, error, attempt, seconds });
        await pause(seconds, ending ? until : this.signal);
        if (until.aborted) return undefined;
      }
    }
  }

  #isFinal(error: unknown): boolean {
    const { errno = 0, message } = error as MySqlError;
    if (message === 'Pool is closed.') return true; // mysql2 has no other sign of it
    if (this.#works) return false; // a loop is being upgraded, an account's rights are being changed
    return (
      error instanceof DoLoopError || error instanceof TypeError || error instanceof RangeError || DENIED.has(errno)
    );
  }

  /**
   * Gets batches, one after another, each with the time before it was asked for (ms, of `performance.now()`). One that
   * comes after the signal was given is the last, and it is for whoever hears of it to give it back.
   */
  async *supply(): AsyncGenerator<{ batch: Batch<Id>; since: number }, void, undefined> {
    const { maxIds = 100, minLoopTime = 3600, pollInterval = 10, once = false } = this.#options;
    while (!this.signal.aborted) {
      let since = 0;
      const batch = await this.persist('get', () => {
        since = performance.now();
        return this.loop.get(maxIds, { lockFor: this.lockFor, minLoopTime });
      });
      if (!batch) return;
      if (batch.length > 0) {
        this.tell({ type: 'got', ids: [...batch], lease: batch.lease! });
        yield { batch, since };
        continue;
      }
      if (once) return;
      const dueIn = await this.persist('next', () => this.loop.next({ minLoopTime }));
      if (dueIn === undefined) return;
      // All random, so that workers don't march together.
      const due = dueIn === null ? pollInterval : Math.max(dueIn + Math.random(), SHORTEST_IDLE);
      const seconds = Math.min(due, pollInterval * (1 - Math.random() / 2));
      this.tell({ type: 'idle', seconds });
      await pause(seconds, this.signal);
    }
  }
}

async function pause(seconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds(seconds), undefined, { signal }).catch(() => {});
}

/** See {@link DoLoop.batches}. */
export async function* batches<Id extends LoopId>(
  loop: DoLoop<Id>,
  options: BatchesOptions<Id>,
): AsyncGenerator<Batch<Id>, void, undefined> {
  const run = new Run(loop, options);
  try {
    for await (const { batch } of run.supply()) {
      if (!run.signal.aborted) {
        yield batch;
      } else {
        const unlocked = await run.persist('unlock', () => loop.unlock(batch, { autoAdd: false }));
        run.tell({ type: unlocked === undefined ? 'left' : 'unlocked', ids: batch });
      }
    }
  } finally {
    run.release();
  }
}
