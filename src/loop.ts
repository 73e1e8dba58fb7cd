import type { Connection, Pool } from 'mysql2/promise';
import { Batch } from './batch.js';
import { type BatchesOptions, batches, OF_BATCHES } from './batches.js';
import { type Argument, asOne, call, settle, use, type Work } from './call.js';
import { explained } from './errors.js';
import { chunk, type Ids, idsToJson, type LoopId, shown } from './ids.js';
import { type Answer, type AnyConnection, type AnyPool, isPool, type MySqlError, promised, run } from './mysql.js';
import { type LoopName, parseLoopName, qualifiedName } from './names.js';
import { checked, given, isCount, isDuration, isFlag, isLease, isOffset, isSeconds, isThresholds } from './options.js';
import type { Procedure } from './render.js';
import { type BatchWorkOptions, type Handler, OF_WORK, type WorkOptions, type WorkSummary, work } from './work.js';

export interface DryRun {
  /** Answer as if, and change nothing. @default false */
  dryRun?: boolean;
}

export interface Leased {
  /**
   * Guards the locks: only those that still are this lease, the `lease` of a {@link Batch}, are touched.
   * @default the batch's own where the ids are a batch, else none
   */
  lease?: number | null;
}

export interface AutoAdd {
  /** Add ids that are not in the loop. @default true */
  autoAdd?: boolean;
}

export interface AddOptions extends DryRun {
  /** Count the new ids as updated now, rather than never. @default false */
  updated?: boolean;
}

export interface GetOptions extends DryRun {
  /** For how many seconds to lock the ids: a generous bound for the time an update takes. @default 3600 */
  lockFor?: number;
  /** Only unlocked ids that were last updated at least so many seconds ago. @default 3600 */
  minLoopTime?: number;
}

export interface DidOptions extends DryRun, Leased, AutoAdd {}

export interface UnlockOptions extends DryRun, Leased, AutoAdd {}

export interface BumpOptions extends DryRun, AutoAdd {
  /** In how many seconds they come first; negative: before others that were bumped. @default 0 */
  lockFor?: number;
}

export interface ExtendOptions extends DryRun, Leased {
  /** For how many seconds from now to lock the ids. @default 3600 */
  lockFor?: number;
}

export interface FailOptions extends DryRun, Leased {
  /**
   * In how many seconds to try again.
   * @default 60 for the first failure, doubled with each in a row, at most a day
   */
  retryIn?: number;
}

export interface StatsOptions {
  /** For each of these numbers of seconds: how many ids were last updated longer ago? @default none */
  delayThresholds?: readonly number[];
}

export interface NextOptions {
  /** The `minLoopTime` with which {@link DoLoop.get} will be called. @default 3600 */
  minLoopTime?: number;
}

/** What became of an {@link DoLoop.extend}. */
export interface Extension {
  /** How many ids are still locked, and now longer. */
  extended: number;
  /** Their new lease, Unix time in seconds; null if there are none. */
  lease: number | null;
}

/** How an id is doing. */
export interface Status<Id> {
  id: Id;
  /** Seconds since it was last updated; null: never. */
  sinceUpdated: number | null;
  /** For how many more seconds it is locked; negative: bumped so long ago, or its lock ran out; null: unlocked. */
  lockedFor: number | null;
  /** Failed updates in a row. */
  failures: number;
}

/** How a loop is doing. Times are in seconds, 0 where there is none. */
export interface Stats<Id> {
  /** How many ids have priority: bumped, or their lock ran out. */
  bumped: number;
  /** How many ids are locked. */
  locked: number;
  /** The shortest time for which an id has had priority. */
  minBumpTime: number;
  /** The longest time for which an id has had priority. */
  maxBumpTime: number;
  /** The shortest time for which an id will be locked. */
  minLockTime: number;
  /** The longest time for which an id will be locked. */
  maxLockTime: number;
  /** The time since the freshest id was updated. */
  minUpdateTime: number;
  /** The time since the stalest id was updated, of those that ever were. */
  maxUpdateTime: number;
  /** The smallest id; null in an empty loop. */
  minId: Id | null;
  /** The largest id; null in an empty loop. */
  maxId: Id | null;
  /** With `delayThresholds`: how many ids there are. */
  total: number | null;
  /** With `delayThresholds`: how many were never updated, locked ones too. */
  neverUpdated: number | null;
  /** With `delayThresholds`: for each, how many ids were last updated longer ago (never-updated ones not among them). */
  delayed: Record<number, number> | null;
}

/** Text below this length fits any server's max_allowed_packet that is good for anything. */
const SMALL_BYTES = 16_384;

/**
 * A loop: the ids of things to be updated again and again, the stalest first. Its procedures, made by `doloop create`,
 * do the work; this calls them, a round trip a call.
 *
 * Given a pool, each call is a transaction by itself, and made again (some times, with random pauses) where the server
 * says that it was rolled back or the connection was lost. Given a connection, calls belong to the transaction that is
 * open on it, if there is one, and nothing is repeated.
 *
 * Every method rejects with a TypeError or RangeError for a wrong argument, before anything is sent; with a
 * {@link DoLoopError} for what the loop refuses; and with mysql2's error for the rest.
 *
 * @typeParam Id what the ids are: `number` (the default), `number | bigint` for a BIGINT beyond 2^53, `string` for text,
 * DECIMAL, DATE and DATETIME, `Buffer` for binary.
 */
export class DoLoop<Id extends LoopId = number> {
  /** The table's name, with its database's if that was given. */
  readonly table: string;
  readonly #target: Pool | Connection;
  readonly #name: LoopName;
  readonly #quotedName: string;
  #packetBytes: number | undefined;

  /**
   * @param target a pool or a connection of mysql2.
   * @param table the loop's table: `user_loop`, or `app.user_loop`.
   * @throws {TypeError | RangeError} if it can't be one.
   */
  constructor(target: AnyPool | AnyConnection, table: string) {
    if (typeof target?.query !== 'function') {
      throw new TypeError(`pool or connection: ${shown(target)} is not one of mysql2's`);
    }
    this.#target = promised(target);
    this.#name = parseLoopName(table);
    this.#quotedName = qualifiedName(this.#name);
    this.table = table;
  }

  /** Puts ids in; those already in stay as they are. Resolves to the number of new ids. */
  async add(ids: Ids<Id>, options: AddOptions = {}): Promise<number> {
    const { updated } = checked(options, { updated: isFlag, dryRun: isFlag });
    return this.#write('add', 'added', ids, [updated], options);
  }

  /** Takes ids out. Resolves to the number of those that were in. */
  async remove(ids: Ids<Id>, options: DryRun = {}): Promise<number> {
    checked(options, { dryRun: isFlag });
    return this.#write('remove', 'removed', ids, [], options);
  }

  /**
   * Picks ids and locks them. First those with priority: bumped, or their lock ran out. Then the never updated, then the
   * longest not updated.
   *
   * @param maxIds how many at most.
   */
  async get(maxIds: number, options: GetOptions = {}): Promise<Batch<Id>> {
    isCount('maxIds', maxIds);
    const { lockFor, minLoopTime } = checked(options, {
      lockFor: isDuration,
      minLoopTime: isSeconds,
      dryRun: isFlag,
    });
    const rows = await this.#call('get', [maxIds, lockFor, minLoopTime], options);
    const batch = new Batch<Id>();
    for (const row of rows) batch.push(row.id as Id);
    batch.lease = (rows[0]?.lock_until as number | undefined) ?? null;
    return batch;
  }

  /** Marks ids as updated now and unlocks them. Resolves to the number of ids marked. */
  async did(ids: Ids<Id>, options: DidOptions = {}): Promise<number> {
    const { autoAdd, lease } = checked(options, { autoAdd: isFlag, lease: isLease, dryRun: isFlag });
    return this.#write('did', 'updated', ids, [autoAdd, leaseOf(ids, lease)], options);
  }

  /** Unlocks ids without marking them as updated. Resolves to the number of ids added or whose lock was opened. */
  async unlock(ids: Ids<Id>, options: UnlockOptions = {}): Promise<number> {
    const { autoAdd, lease } = checked(options, { autoAdd: isFlag, lease: isLease, dryRun: isFlag });
    return this.#write('unlock', 'unlocked', ids, [autoAdd, leaseOf(ids, lease)], options);
  }

  /**
   * Gives ids priority, now or in `lockFor` seconds. It can't put off what has it earlier. Resolves to the number of ids
   * added or changed.
   */
  async bump(ids: Ids<Id>, options: BumpOptions = {}): Promise<number> {
    const { lockFor, autoAdd } = checked(options, { lockFor: isOffset, autoAdd: isFlag, dryRun: isFlag });
    return this.#write('bump', 'bumped', ids, [lockFor, autoAdd], options);
  }

  /** A heartbeat: locks ids that are locked anew, from now on. A batch takes over the new lease. */
  async extend(ids: Ids<Id>, options: ExtendOptions = {}): Promise<Extension> {
    const { lockFor, lease } = checked(options, { lockFor: isDuration, lease: isLease, dryRun: isFlag });
    const chunks = await this.#chunks(ids);
    if (chunks.length > 1) throw new RangeError('ids: more than one call can hold, and an extension has one lease');
    const [row] = await this.#call('extend', [chunks[0]!, lockFor, leaseOf(ids, lease)], options);
    const extension = { extended: row!.extended as number, lease: row!.lock_until as number | null };
    if (ids instanceof Batch && extension.lease !== null && !options.dryRun) ids.lease = extension.lease;
    return extension;
  }

  /**
   * An update failed: the ids are locked until it is time to try again, and then have priority. Ids that are not in the
   * loop are not added. Resolves to the number of ids.
   */
  async fail(ids: Ids<Id>, options: FailOptions = {}): Promise<number> {
    const { retryIn, lease } = checked(options, { retryIn: isSeconds, lease: isLease, dryRun: isFlag });
    return this.#write('fail', 'failed', ids, [retryIn, leaseOf(ids, lease)], options);
  }

  /** How ids are doing: those that are in, each once, by id (text that outgrows a packet: by id within each). */
  async check(ids: Ids<Id>): Promise<Status<Id>[]> {
    const statuses: Status<Id>[] = [];
    const chunks = await this.#chunks(ids);
    for (const chunk of chunks) {
      for (const row of await this.#call('check', [chunk], {})) {
        statuses.push({
          id: row.id as Id,
          sinceUpdated: row.since_updated as number | null,
          lockedFor: row.locked_for as number | null,
          failures: row.failures as number,
        });
      }
    }
    return chunks.length === 1 ? statuses : statuses.sort((a, b) => compareIds(a.id, b.id));
  }

  /** How the loop is doing as a whole, as of one moment. */
  async stats(options: StatsOptions = {}): Promise<Stats<Id>> {
    const { delayThresholds } = checked(options, { delayThresholds: isThresholds });
    const thresholds = delayThresholds === null ? null : `[${delayThresholds}]`;
    const [row] = await this.#call('stats', [thresholds], {});
    const of = (column: string) => row![column] as number;
    return {
      bumped: of('bumped'),
      locked: of('locked'),
      minBumpTime: of('min_bump_time'),
      maxBumpTime: of('max_bump_time'),
      minLockTime: of('min_lock_time'),
      maxLockTime: of('max_lock_time'),
      minUpdateTime: of('min_update_time'),
      maxUpdateTime: of('max_update_time'),
      minId: row!.min_id as Id | null,
      maxId: row!.max_id as Id | null,
      total: row!.total as number | null,
      neverUpdated: row!.never_updated as number | null,
      delayed: row!.delayed === null ? null : (JSON.parse(row!.delayed as string) as Record<number, number>),
    };
  }

  /** In how many seconds {@link get} will have something: 0 now, null never unless something is added. */
  async next(options: NextOptions = {}): Promise<number | null> {
    const { minLoopTime } = checked(options, { minLoopTime: isSeconds });
    const [row] = await this.#call('next', [minLoopTime], {});
    return row!.due_in as number | null;
  }

  /**
   * Works: gets ids, calls the handler with each of them, marks as updated what succeeded, and begins anew, until the
   * signal is given. Then nothing more is begun, handlers that run have `gracePeriod` to end, and what was not begun is
   * unlocked. It holds the locks of what takes longer, and goes on through trouble with the server. Needs a pool.
   *
   * Resolves to what became of the ids, when it has ended by the signal, or with `once` because nothing is due. Rejects
   * with the error, where the first call fails in a way that nothing mends by itself, where the pool was ended, where
   * `onEvent` threw, or with `once` where trouble lasts for more than a minute; not with errors of the handler.
   */
  work(handler: Handler<Id>, options?: WorkOptions<Id>): Promise<WorkSummary>;
  /** The same with a call of the handler for each batch: all its ids have succeeded, or all have failed. */
  work(handler: Handler<Batch<Id>>, options: BatchWorkOptions<Id>): Promise<WorkSummary>;
  async work(
    handler: Handler<Id> | Handler<Batch<Id>>,
    options: WorkOptions<Id> | BatchWorkOptions<Id> = {},
  ): Promise<WorkSummary> {
    if (typeof handler !== 'function') throw new TypeError(`handler: ${shown(handler)} is not a function`);
    const all = given(options, OF_WORK);
    this.#needPool('work');
    const each = handler as Handler<Id>;
    return work(this, all.batch ? (handler as Handler<Batch<Id>>) : ([id], context) => each(id!, context), all);
  }

  /**
   * Batches, one after another, for those who work and mark by themselves: ids stay locked as they leave them. Where
   * nothing is due it waits; the signal, or `once`, ends it. Goes on through trouble, and throws, as {@link work} does.
   */
  batches(options: BatchesOptions<Id> = {}): AsyncGenerator<Batch<Id>, void, undefined> {
    const all = given(options, OF_BATCHES);
    this.#needPool('batches');
    return batches(this, all);
  }

  /** Its calls might belong to a transaction, and where a connection is lost, another one is needed. */
  #needPool(what: string): void {
    if (!isPool(this.#target)) throw new TypeError(`${what}: needs a pool of mysql2's, not a connection`);
  }

  /** A call that fits one packet. */
  #call(procedure: Procedure, args: readonly Argument[], { dryRun = false }: DryRun): Promise<Answer['rows']> {
    return this.#use(async (connection, pooled) => {
      if (dryRun)
        return asOne(
          connection,
          { pooled, rollBack: true },
          async () => (await this.#run(connection, procedure, args)).rows,
        );
      const { rows, status } = await this.#run(connection, procedure, args);
      if (pooled) await settle(connection, status);
      return rows;
    });
  }

  /** A call whose ids may need several packets: it is one call all the same, and its answers add up. */
  async #write(
    procedure: Procedure,
    answer: string,
    ids: Ids<Id>,
    args: readonly Argument[],
    options: DryRun,
  ): Promise<number> {
    const chunks = await this.#chunks(ids);
    if (chunks.length === 1) {
      const [row] = await this.#call(procedure, [chunks[0]!, ...args], options);
      return row![answer] as number;
    }
    return this.#use((connection, pooled) =>
      asOne(connection, { pooled, rollBack: options.dryRun ?? false }, async () => {
        let sum = 0;
        for (const chunk of chunks) {
          const { rows } = await this.#run(connection, procedure, [chunk, ...args]);
          sum += rows[0]![answer] as number;
        }
        return sum;
      }),
    );
  }

  /** The ids as JSON, in as few pieces as the server's max_allowed_packet lets through. */
  #chunks(ids: Ids<Id>): string[] | Promise<string[]> {
    const json = idsToJson(ids);
    const whole = `[${json.join()}]`;
    const bytes = Buffer.byteLength(whole);
    return bytes <= SMALL_BYTES ? [whole] : this.#split(json, whole, bytes);
  }

  async #split(json: string[], whole: string, bytes: number): Promise<string[]> {
    this.#packetBytes ??= await this.#use(async connection => {
      const { rows } = await run(connection, 'SELECT @@max_allowed_packet AS bytes');
      return Number(rows[0]!.bytes);
    });
    // In hexadecimal each byte takes two.
    const maxBytes = Math.floor(this.#packetBytes / 2) - 1024;
    if (bytes <= maxBytes) return [whole];
    // In one piece an id that stands twice counts once by itself.
    return chunk([...new Set(json)], maxBytes);
  }

  #run(connection: Connection, procedure: Procedure, args: readonly Argument[]): Promise<Answer> {
    return call(connection, this.#quotedName, procedure, args);
  }

  #use<T>(work: Work<T>): Promise<T> {
    return use(this.#target, work).catch(error => {
      throw explained(error as MySqlError, this.#name);
    });
  }
}

/** Numbers and bytes by their order; text, which only the server can compare, stays where it is. */
function compareIds(a: LoopId, b: LoopId): number {
  if (typeof a === 'string' || typeof b === 'string') return 0;
  if (Buffer.isBuffer(a) && Buffer.isBuffer(b)) return Buffer.compare(a, b);
  return a < b ? -1 : 1;
}

/**
 * The lease that guards a call: the one given, else the batch's own, which anybody may have set. An empty batch has none,
 * and nothing to guard.
 */
function leaseOf(ids: unknown, given: Argument): Argument {
  const lease = given ?? (ids instanceof Batch ? ids.lease : null);
  if (lease !== null) isLease('lease', lease);
  return lease;
}
