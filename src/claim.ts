import { type Batch, toBatch } from './batch.js';
import { milliseconds, type Run } from './batches.js';
import { idsToJson, type LoopId } from './ids.js';
import type { Status } from './loop.js';
import type { WorkSummary } from './work.js';

/** What becomes of an id: a call of that name, or none. */
export type Outcome = 'did' | 'fail' | 'unlock' | 'leave';

/** Whose claim it is. */
export interface Claimant<Id extends LoopId> {
  readonly run: Run<Id>;
  readonly retryIn: number | undefined;
  readonly summary: WorkSummary;
  /** Given when no call is to be made again. */
  readonly over: AbortSignal;
  /** Told when nothing more is to be done for the claim. */
  closed(claim: Claim<Id>): void;
}

/** Results wait so long for more of them. */
const GATHER_MS = 1_000;

/**
 * Ids that were got together, until each of them is marked: holds their lease for as long as it takes. Its calls are made
 * one after the other, since each needs the lease that the one before has left.
 */
export class Claim<Id extends LoopId> {
  readonly #claimant: Claimant<Id>;
  readonly #size: number;
  /** What the handler was given last. */
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
  constructor(claimant: Claimant<Id>, batch: Batch<Id>, since: number) {
    this.#claimant = claimant;
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

  /** Begins so many ids, or as many as there are. */
  begin(count: number): Batch<Id> {
    this.#loseIfLate(this.#waiting);
    this.#batch = toBatch(this.#waiting.splice(-count).reverse(), this.#lease);
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
    const { run, over, retryIn } = this.#claimant;
    const { loop } = run;
    const lease = this.#lease;
    // An id that was taken out of the loop meanwhile is not to come back.
    const autoAdd = false;
    this.#close('left', leave);
    if (did.length > 0) {
      this.#loseIfLate(did);
      const marked = await run.persist('did', () => loop.did(did, { autoAdd, lease }), over);
      this.#loseIfLate(did); // the server may have been away for long
      this.#close(marked === undefined ? 'left' : 'did', did);
    }
    const ours = this.#notLost(fail);
    if (ours.length > 0) {
      const options = { lease, ...(retryIn !== undefined && { retryIn }) };
      const marked = await run.persist('fail', () => loop.fail(ours, options), over);
      if (marked !== undefined) await this.#loseAllBut(marked, ours, one => retryIn ?? pauseAfter(one.failures));
      this.#close(marked === undefined ? 'left' : 'failed', this.#notLost(ours));
    }
    this.#close('lost', fail);
    if (unlock.length > 0) {
      const opened = await run.persist('unlock', () => loop.unlock(unlock, { autoAdd, lease }), over);
      this.#close(opened === undefined ? 'left' : 'unlocked', unlock);
    }
  }

  async #extend(): Promise<void> {
    const { run, over } = this.#claimant;
    const { lockFor } = run;
    const ids = this.#notLost([...this.#open]);
    if (ids.length === 0) return;
    let since = 0;
    const make = () => {
      since = performance.now();
      return run.loop.extend(ids, { lockFor, lease: this.#lease });
    };
    const extension = await run.persist('extend', make, over);
    if (!extension) return;
    const { extended, lease } = extension;
    if (lease !== null) {
      this.#lease = lease;
      this.#batch.lease = lease;
      if (this.#open.size > 0) this.#hold(since);
    }
    await this.#loseAllBut(extended, ids, () => lockFor);
    if (lease !== null && this.#open.size > 0) run.tell({ type: 'extended', ids: this.#notLost(ids), lease });
  }

  /** Notes that the ids are locked, and sees to it that they stay so. */
  #hold(since: number): void {
    const { lockFor } = this.#claimant.run;
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
    const { run, over } = this.#claimant;
    const statuses = changed === 0 ? [] : await run.persist('check', () => run.loop.check(ids), over);
    if (!statuses) return; // no time to find out
    // Those that were changed just now; whoever else locked one for as long did so before.
    const age = (status: Status<Id>) => {
      const seconds = lockFor(status) - (status.lockedFor ?? Number.MAX_VALUE);
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
    this.#claimant.summary.lost += lost.length;
    this.#claimant.run.tell({ type: 'lost', ids: lost });
    this.#close('lost', dropped);
  }

  #notLost(ids: readonly Id[]): Id[] {
    return ids.filter(id => !this.#lost.has(id));
  }

  /** Ids with which nothing more is to be done; those that are lost, or failed, were told of before. */
  #close(how: keyof WorkSummary, ids: readonly Id[]): void {
    const closed = ids.filter(id => this.#open.delete(id));
    if (closed.length === 0) return;
    const { run, summary } = this.#claimant;
    if (how !== 'lost') summary[how] += closed.length;
    if (how !== 'lost' && how !== 'failed') run.tell({ type: how, ids: closed });
    if (this.#open.size > 0) return;
    clearTimeout(this.#markTimer);
    clearTimeout(this.#extendTimer);
    this.#claimant.closed(this);
  }
}

const noResults = (): Record<Outcome, never[]> => ({ did: [], fail: [], unlock: [], leave: [] });

/** The pause that `fail` makes by itself, s, after so many failures in a row. */
function pauseAfter(failures: number): number {
  return Math.min(60 * 2 ** Math.min(failures - 1, 11), 86_400);
}
