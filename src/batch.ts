type Test<Id> = (id: Id, index: number, batch: Id[]) => unknown;

/**
 * The ids that `get` picked, in order: an array that carries its lease. Given to `did`, `unlock`, `extend` or `fail`, it
 * guards the locks: where an id's lock is no longer this lease, it stays as it is. What `filter` and `slice` make of a
 * batch carries the lease on; any other copy (`[...batch]`, `map`) is a plain array, without the guard.
 */
export class Batch<Id> extends Array<Id> {
  /** Until when the ids are locked, Unix time in seconds by the server's clock; null for an empty batch. */
  lease: number | null = null;

  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }

  override filter<Some extends Id>(
    test: (id: Id, index: number, batch: Id[]) => id is Some,
    thisArg?: unknown,
  ): Batch<Some>;
  override filter(test: Test<Id>, thisArg?: unknown): Batch<Id>;
  override filter(test: Test<Id>, thisArg?: unknown): Batch<Id> {
    return toBatch(super.filter(test, thisArg), this.lease);
  }

  override slice(start?: number, end?: number): Batch<Id> {
    return toBatch(super.slice(start, end), this.lease);
  }
}

/** Ids under a lease. */
export function toBatch<Id>(ids: Iterable<Id>, lease: number | null): Batch<Id> {
  const batch = new Batch<Id>();
  for (const id of ids) batch.push(id);
  batch.lease = lease;
  return batch;
}
