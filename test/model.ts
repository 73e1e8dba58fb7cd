/**
 * The contract as a program: what each procedure does to a loop, and what it answers, where nobody else uses the loop. The
 * procedures are held against it, call by call.
 */
import type { Procedure } from '../src/render.js';
import type { Row } from './harness.js';

/** The loop's row of an id; times in s. */
export type ModelRow = Omit<Row, 'id'>;

/** The ids of a call: whole numbers, in the order of the column; null for what it can't hold, or for no ids at all. */
export type ModelIds = readonly (number | null)[] | null;

/** Result rows, by column. */
export type Answer = Record<string, unknown>[];

const HOUR = 3600;
const DAY = 24 * HOUR;
const MOST_SECONDS = 2_147_483_647;
const MOST_FAILURES = 65_535;

/** A call was refused, and nothing is done: these arguments are against their rules. */
export class Refused extends Error {
  constructor(readonly names: readonly string[]) {
    super(`refused for ${names.join(', ')}`);
  }
}

/** @throws {Refused} if any of these does not hold. */
function demand(rules: Record<string, boolean>): void {
  const broken = Object.keys(rules).filter(name => !rules[name]);
  if (broken.length > 0) throw new Refused(broken);
}

const areIds = (ids: ModelIds) => ids?.every(id => id !== null) ?? false;
const isWithin = (low: number, seconds: number) => seconds >= low && seconds <= MOST_SECONDS;

/**
 * The priority of a row for `get`, to be compared by {@link comparePriorities}; null: not to be had. Ids whose lock is
 * over come first, by its end; then the never updated and the longest not updated.
 */
export function priority(row: ModelRow, now: number, minLoopTime: number): number[] | null {
  const updated = row.last_updated ?? Number.NEGATIVE_INFINITY;
  if (row.lock_until !== null) return row.lock_until <= now ? [1, row.lock_until, updated] : null;
  return updated <= now - minLoopTime ? [2, updated] : null;
}

/** Negative if the first goes before the second, 0 if either may. */
export function comparePriorities(a: readonly number[], b: readonly number[]): number {
  const i = a.findIndex((value, at) => value !== b[at]);
  return i < 0 ? 0 : a[i]! < b[i]! ? -1 : 1;
}

/** One loop, and the server's clock. Each method is a procedure; null stands for an argument's default. */
export class Model {
  /** @param now Unix time, s. */
  constructor(
    readonly rows: Map<number, ModelRow> = new Map(),
    public now = 0,
  ) {}

  /** A loop of its own, the same as this one is now. */
  copy(): Model {
    return new Model(new Map([...this.rows].map(([id, row]) => [id, { ...row }])), this.now);
  }

  /** The ids that are in, in their order. */
  get ids(): number[] {
    return [...this.rows.keys()].sort((a, b) => a - b);
  }

  /** A procedure by its name, arguments in their order. */
  call(procedure: Procedure, ...args: unknown[]): Answer {
    return (this as unknown as Record<Procedure, (...args: unknown[]) => Answer>)[procedure](...args);
  }

  add(ids: ModelIds, updated: boolean | null): Answer {
    demand({ ids: areIds(ids) });
    return [
      {
        added: this.#each(ids, true, (row, isNew) => {
          if (isNew && updated) row.last_updated = this.now;
          return isNew;
        }),
      },
    ];
  }

  remove(ids: ModelIds): Answer {
    demand({ ids: areIds(ids) });
    return [{ removed: [...new Set(ids)].filter(id => this.rows.delete(id!)).length }];
  }

  /** @param preferred which of two equals goes first: the one that is first in this list. */
  get(
    maxIds: number | null,
    lockFor: number | null,
    minLoopTime: number | null,
    preferred: readonly number[] = [],
  ): Answer {
    demand({
      max_ids: (maxIds ?? -1) >= 0,
      lock_for: isWithin(1, lockFor ?? HOUR),
      min_loop_time: isWithin(0, minLoopTime ?? HOUR),
    });
    const place = new Map(preferred.map((id, i) => [id, i]));
    const placeOf = (id: number) => place.get(id) ?? preferred.length;
    const due = this.ids.flatMap(id => {
      const its = priority(this.rows.get(id)!, this.now, minLoopTime ?? HOUR);
      return its ? [{ id, its }] : [];
    });
    due.sort((a, b) => comparePriorities(a.its, b.its) || placeOf(a.id) - placeOf(b.id));
    const lock_until = this.now + (lockFor ?? HOUR);
    return due.slice(0, maxIds!).map(({ id }) => {
      this.rows.get(id)!.lock_until = lock_until;
      return { id, lock_until };
    });
  }

  did(ids: ModelIds, autoAdd: boolean | null, lease: number | null): Answer {
    demand({ ids: areIds(ids) });
    return [
      {
        updated: this.#each(ids, autoAdd, row => {
          row.last_updated = this.now;
          if (lease === null || row.lock_until === lease) row.lock_until = null;
          row.failures = 0;
          return true;
        }),
      },
    ];
  }

  unlock(ids: ModelIds, autoAdd: boolean | null, lease: number | null): Answer {
    demand({ ids: areIds(ids) });
    return [
      {
        unlocked: this.#each(ids, autoAdd, (row, isNew) => {
          const opens = row.lock_until !== null && (lease === null || row.lock_until === lease);
          if (opens) row.lock_until = null;
          return isNew || opens;
        }),
      },
    ];
  }

  bump(ids: ModelIds, lockFor: number | null, autoAdd: boolean | null): Answer {
    demand({ ids: areIds(ids), lock_for: isWithin(-MOST_SECONDS, lockFor ?? 0) });
    const until = this.now + (lockFor ?? 0);
    return [
      {
        bumped: this.#each(ids, autoAdd, row => {
          if (row.lock_until !== null && row.lock_until <= until) return false;
          row.lock_until = until;
          return true;
        }),
      },
    ];
  }

  extend(ids: ModelIds, lockFor: number | null, lease: number | null): Answer {
    demand({ ids: areIds(ids), lock_for: isWithin(1, lockFor ?? HOUR) });
    const until = this.now + (lockFor ?? HOUR);
    const extended = this.#each(ids, false, row => {
      if (row.lock_until === null || row.lock_until <= this.now) return false;
      if (lease !== null && row.lock_until !== lease) return false;
      row.lock_until = until;
      return true;
    });
    return [{ extended, lock_until: extended > 0 ? until : null }];
  }

  fail(ids: ModelIds, retryIn: number | null, lease: number | null): Answer {
    demand({ ids: areIds(ids), retry_in: isWithin(0, retryIn ?? 0) });
    return [
      {
        failed: this.#each(ids, false, row => {
          if (lease !== null && row.lock_until !== lease) return false;
          row.lock_until = this.now + (retryIn ?? Math.min(60 * 2 ** row.failures, DAY));
          row.failures = Math.min(row.failures + 1, MOST_FAILURES);
          return true;
        }),
      },
    ];
  }

  check(ids: ModelIds): Answer {
    demand({ ids: areIds(ids) });
    return this.ids
      .filter(id => ids!.includes(id))
      .map(id => {
        const { last_updated, lock_until, failures } = this.rows.get(id)!;
        return {
          id,
          since_updated: last_updated === null ? null : this.now - last_updated,
          locked_for: lock_until === null ? null : lock_until - this.now,
          failures,
        };
      });
  }

  /** @param thresholds s; null among them for what is no threshold. `delayed` is answered as an object. */
  stats(thresholds: readonly (number | null)[] | null): Answer {
    demand({ delay_thresholds: thresholds?.every(one => one !== null && isWithin(0, one)) ?? true });
    const { now } = this;
    const all = [...this.rows.values()];
    const updates = all.flatMap(row => (row.last_updated === null ? [] : [row.last_updated]));
    const locks = all.flatMap(row => (row.lock_until === null ? [] : [row.lock_until]));
    const [bumped, locked] = [locks.filter(until => until <= now), locks.filter(until => until > now)];
    const least = (times: number[]) => (times.length > 0 ? Math.max(Math.min(...times), 0) : 0);
    const most = (times: number[]) => Math.max(...times, 0);
    const since = (times: number[]) => times.map(time => now - time);
    const left = locked.map(until => until - now);
    const older = (threshold: number) => updates.filter(time => time < now - threshold).length;
    return [
      {
        bumped: bumped.length,
        locked: locked.length,
        min_bump_time: least(since(bumped)),
        max_bump_time: most(since(bumped)),
        min_lock_time: least(left),
        max_lock_time: most(left),
        min_update_time: least(since(updates)),
        max_update_time: most(since(updates)),
        min_id: this.ids[0] ?? null,
        max_id: this.ids.at(-1) ?? null,
        total: thresholds && all.length,
        never_updated: thresholds && all.length - updates.length,
        delayed: thresholds && Object.fromEntries(thresholds.map(one => [one, older(one!)])),
      },
    ];
  }

  next(minLoopTime: number | null): Answer {
    demand({ min_loop_time: isWithin(0, minLoopTime ?? HOUR) });
    const due = [...this.rows.values()].map(row => {
      if (row.lock_until !== null) return row.lock_until;
      return row.last_updated === null ? this.now : row.last_updated + (minLoopTime ?? HOUR);
    });
    return [{ due_in: due.length > 0 ? Math.max(Math.min(...due) - this.now, 0) : null }];
  }

  /**
   * Changes the rows of these ids, each once; those that are not in are added before, or passed over. The answer is how
   * many of them count.
   */
  #each(ids: ModelIds, adds: boolean | null, counts: (row: ModelRow, isNew: boolean) => boolean): number {
    let count = 0;
    for (const id of new Set(ids)) {
      const isNew = !this.rows.has(id!);
      if (isNew && adds === false) continue;
      const row = this.rows.get(id!) ?? { last_updated: null, lock_until: null, failures: 0 };
      this.rows.set(id!, row);
      if (counts(row, isNew)) count += 1;
    }
    return count;
  }
}
