import { type Batch, toBatch } from './batch.js';
import { milliseconds, type Run } from './batches.js';
import { idsToJson, type LoopId } from './ids.js';
import type { Status } from './loop.js';

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
  /** Bumped or removed meanwhile, or their lock ran out. Those that were marked as updated all the same are in `did`, too. */
  lost: number;
}

/** What becomes of an id: a call of that name, or none. */
export type Outcome = 'did' | 'fail' | 'unlock' | 'leave';

/** What a claim has from its worker. */
export interface Keeper<Id extends LoopId> {
  run: Run<Id>;
  retryIn: number | undefined;
  summary: WorkSummary;
  /** Given when no call is to be made again. */
  over: AbortSignal;
  /** Told when something has changed that others may wait for. */
  changed: () => void;
}

/** Results wait so long for more of them. */
const GATHER_MS = 1_000;

/**
 * Ids that were got together, until each of them is marked: holds their lease for as long as it takes. Its calls are made
 * one after the other, since each needs the lease that the one before has left.
 */
export class Claim<Id extends LoopId> {
  readonly #keeper: Keeper<Id>;
  readonly #size: number;
  /** What the handler was given, if that was all at once. */
  #batch: Batch<Id>;
  #lease: number | null;
  /** When the locks have run out by our clock, ms. */
  #until = 0;
  /** Not begun, the first of them last. */
  #waiting: Id[];
  readonly #running = new Set<Id>();
  #results: Record<Outcome, Id[]> = noResults();
  /** All that are not marked. */
  readonly #open: Set<Id>;
  readonly #lost = new Set<Id>();
  #calls: Promise<void> = Promise.resolve();
  #markTimer: NodeJS.Timeout | undefined;
  #extendTimer: NodeJS.Timeout | undefined;

  /** @param since before the ids were asked for, ms. */
  constructor(keeper: Keeper<Id>, batch: Batch<Id>, since: number) {
    this.#keeper = keeper;
    this.#size = batch.length;
    this.#batch = batch;
    this.#lease = batch.lease;
    this.#waiting = [...batch].reverse();
    this.#open = new Set(batch);
    this.#hold(since);
  }

  /** How many ids are not begun. */
  get waiting(): number {
    return this.#waiting.length;
  }

  get isBegun(): boolean {
    return this.#waiting.length < this.#size;
  }

  /** No handler has anything more to do with it. */
  get isHandled(): boolean {
    return this.#waiting.length === 0 && this.#running.size === 0;
  }

  /** Nothing more is to be done. */
  get isClosed(): boolean {
    return this.#open.size === 0;
  }

  /** Begins the next id; undefined if there is none. */
  beginOne(): Id | undefined {
    this.#loseIfLate(this.#waiting);
    const id = this.#waiting.pop();
    if (id !== undefined) this.#running.add(id);
    return id;
  }

  /** Begins all ids that are not begun; an empty batch if there are none. */
  beginAll(): Batch<Id> {
    this.#loseIfLate(this.#waiting);
    this.#batch = toBatch(this.#waiting.splice(0).reverse(), this.#lease);
    for (const id of this.#batch) this.#running.add(id);
    return this.#batch;
  }

  /** Takes down what is to become of ids that are running; of others it is known already. */
  settle(ids: readonly Id[], outcome: Outcome): void {
    for (const id of ids) if (this.#running.delete(id)) this.#results[outcome].push(id);
    if (this.isHandled) this.#enqueue(() => this.#mark());
    else this.#markTimer ??= setTimeout(() => this.#enqueue(() => this.#mark()), GATHER_MS);
  }

  /** Gives back what is not begun. */
  giveBack(): void {
    for (const id of this.#waiting.splice(0)) this.#results.unlock.push(id);
    this.#enqueue(() => this.#mark());
  }

  /** Leaves to themselves those whose handlers still run. */
  leaveRunning(): void {
    this.settle([...this.#running], 'leave');
  }

  /** Ends all that is under way: what is not marked by now is left. */
  end(): void {
    this.#close('left', [...this.#open]);
  }

  #enqueue(step: () => Promise<void>): void {
    this.#calls = this.#calls.then(step);
  }

  /** Marks all results there are. */
  async #mark(): Promise<void> {
    clearTimeout(this.#markTimer);
    this.#markTimer = undefined;
    const { did, fail, unlock, leave } = this.#results;
    this.#results = noResults();
    const { run, over, retryIn } = this.#keeper;
    const { loop } = run;
    // An id that was taken out of the loop meanwhile is not to come back.
    const guarded = { autoAdd: false, lease: this.#lease };
    this.#close('left', leave);
    if (did.length > 0) {
      this.#loseIfLate(did);
      const marked = await run.persist('did', () => loop.did(did, guarded), over);
      this.#close(marked === undefined ? 'left' : 'did', did);
    }
    if (fail.length > 0) {
      const ours = this.#notLost(fail);
      const options = { lease: this.#lease, ...(retryIn !== undefined && { retryIn }) };
      const failed = await run.persist('fail', () => loop.fail(ours, options), over);
      if (failed !== undefined) {
        await this.#loseAllBut(failed, ours, ({ failures }) => retryIn ?? pauseAfter(failures));
      }
      this.#close(failed === undefined ? 'left' : 'failed', this.#notLost(ours));
      this.#close('lost', fail);
    }
    if (unlock.length > 0) {
      const opened = await run.persist('unlock', () => loop.unlock(unlock, guarded), over);
      this.#close(opened === undefined ? 'left' : 'unlocked', unlock);
    }
  }

  async #extend(): Promise<void> {
    const { run, over } = this.#keeper;
    const { lockFor } = run;
    const ids = this.#notLost([...this.#open]);
    if (ids.length === 0) return;
    let since = 0;
    const make = () => {
      since = performance.now();
      return run.loop.extend(ids, { lockFor, lease: this.#lease });
    };
    const extension = await run.persist('extend', make, over);
    if (!extension || this.isClosed) return;
    const { extended, lease } = extension;
    if (lease !== null) {
      this.#lease = lease;
      this.#batch.lease = lease;
      this.#hold(since);
    }
    await this.#loseAllBut(extended, ids, () => lockFor);
    if (lease !== null) run.tell({ type: 'extended', ids: this.#notLost(ids), lease });
  }

  /** Notes that the ids are locked, and sees to it that they stay so. */
  #hold(since: number): void {
    if (this.isClosed) return;
    const { lockFor } = this.#keeper.run;
    this.#until = since + lockFor * 1000;
    // Half of what it surely lasts: the server's clock has whole seconds, and the first is not a whole one.
    const half = Math.max(lockFor - 1, 0.5) / 2;
    const wait = milliseconds(half) - (performance.now() - since);
    this.#extendTimer = setTimeout(() => this.#enqueue(() => this.#extend()), wait);
  }

  #loseIfLate(ids: readonly Id[]): void {
    if (performance.now() > this.#until) this.#lose(ids);
  }

  /** Some of these ids were changed by a call, and the others are lost. Which those are tells when their locks end. */
  async #loseAllBut(changed: number, ids: readonly Id[], lockFor: (status: Status<Id>) => number): Promise<void> {
    if (changed >= ids.length) return;
    const { run, over } = this.#keeper;
    const statuses = changed === 0 ? [] : await run.persist('check', () => run.loop.check(ids), over);
    if (!statuses) return; // no time to find out
    // Those that were changed just now; whoever else locked one for as long did so before.
    const age = (status: Status<Id>) => {
      const seconds = status.lockedFor === null ? -1 : lockFor(status) - status.lockedFor;
      return seconds < 0 ? Number.MAX_VALUE : seconds;
    };
    statuses.sort((a, b) => age(a) - age(b));
    const ours = new Set(idsToJson(statuses.slice(0, changed).map(({ id }) => id)));
    const json = idsToJson(ids);
    this.#lose(ids.filter((_, i) => !ours.has(json[i]!)));
  }

  /** Reports ids as lost, once. Those that are not begun are dropped; the others will be marked as updated. */
  #lose(ids: readonly Id[]): void {
    const lost = this.#notLost(ids).filter(id => this.#open.has(id));
    if (lost.length === 0) return;
    for (const id of lost) this.#lost.add(id);
    const dropped = this.#waiting.filter(id => this.#lost.has(id));
    this.#waiting = this.#notLost(this.#waiting);
    this.#keeper.summary.lost += lost.length;
    this.#keeper.run.tell({ type: 'lost', ids: lost });
    this.#close('lost', dropped);
  }

  #notLost(ids: readonly Id[]): Id[] {
    return ids.filter(id => !this.#lost.has(id));
  }

  /** Ids with which nothing more is to be done; those that are lost, or failed, were told of before. */
  #close(how: keyof WorkSummary, ids: readonly Id[]): void {
    const closed = ids.filter(id => this.#open.delete(id));
    if (closed.length === 0) return;
    const { run, summary, changed } = this.#keeper;
    if (how !== 'lost') summary[how] += closed.length;
    if (how !== 'lost' && how !== 'failed') run.tell({ type: how, ids: closed });
    if (!this.isClosed) return;
    clearTimeout(this.#markTimer);
    clearTimeout(this.#extendTimer);
    changed();
  }
}

const noResults = (): Record<Outcome, never[]> => ({ did: [], fail: [], unlock: [], leave: [] });

/** The pause that `fail` makes by itself, s, after so many failures in a row. */
function pauseAfter(failures: number): number {
  return Math.min(60 * 2 ** Math.min(failures - 1, 11), 86_400);
}
