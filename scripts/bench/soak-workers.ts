/** The workers of the soak: each does now this and now that with the ids of one loop, and knows what must come of it. */
import type { Connection, Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { DoLoop } from '../../src/index.js';
import { IN_TRANSACTION } from '../../src/mysql.js';
import type { Procedure } from '../../src/render.js';
import {
  type Answer,
  type Argument,
  byClient,
  countingDeadlocks,
  DEADLOCK,
  errnoOf,
  FIRST,
  type Invoke,
  isWork,
  plainly,
  type Range,
  random,
  SIZE,
  type Soak,
  surely,
  wasKilled,
} from './soak-common.js';

/** What may be done with ids by anyone. */
const MEDDLING: [Procedure, Range, ...Argument[]][] = [
  ['add', 'shared', null],
  ['did', 'shared', null, null],
  ['did', 'shared', false, null],
  ['unlock', 'shared', null, null],
  ['unlock', 'churned', false, null],
  ['bump', 'shared', -50, null],
  ['bump', 'shared', 0, false],
  ['bump', 'shared', 30, null],
  ['fail', 'shared', 1, null],
  ['fail', 'churned', 0, null],
  ['extend', 'shared', null, null],
  ['check', 'shared'],
  ['did', 'churned', false, null],
  ['add', 'fresh', true],
  ['did', 'fresh', null, null],
  ['unlock', 'fresh', null, null],
  ['bump', 'fresh', null, null],
  ['add', 'tossed', null],
  ['remove', 'tossed'],
];
/** What may be done with ids by who got them, and ends that. */
const FINISHING: [Procedure, boolean, ...Argument[]][] = [
  ['did', true, null],
  ['did', true, false],
  ['did', false, null],
  ['unlock', true, null],
  ['unlock', true, false],
  ['unlock', false, false],
  ['fail', true, 0],
  ['fail', true, 1],
  ['bump', false, 0, null],
  ['bump', false, -50, false],
];
const MAX_IDS = [1, 1, 2, 5, 10, 20, 50, 100, 1_000];
/** Who waits for a named lock goes on without it after a second. */
const SLOW_MS = 900;
const TRIES = 6;

/** One of the many. */
export class Worker {
  readonly #soak: Soak;
  readonly #name: string;
  readonly #invoke: Invoke;
  /** Where its own ids begin, and which are in. */
  readonly #first: number;
  #own = new Set<number>();

  constructor(
    soak: Soak,
    number: number,
    /** One connection of its own makes plain calls; on a pool, the client. */
    private readonly by: { session: Connection } | { pool: Pool },
    private readonly killable: boolean,
  ) {
    this.#soak = soak;
    this.#name = `${'session' in by ? 'session' : 'client'} ${number}`;
    this.#first = FIRST.own + number * SIZE.own;
    this.#invoke =
      'session' in by
        ? plainly(by.session, soak.table, status => {
            if (status & IN_TRANSACTION) soak.tally.violation('a call leaves a transaction open', this.#name);
          })
        : byClient(new DoLoop(countingDeadlocks(by.pool, soak.tally), soak.table));
  }

  async work(): Promise<void> {
    const kinds: [number, () => Promise<void>][] = [
      [40, () => this.#workOnce()],
      [30, () => this.#meddle()],
      [10, () => this.#toss()],
      [8, () => this.#changeOwn()],
      [10, () => this.#transaction()],
      [2, () => this.#look()],
    ];
    while (!this.#soak.ended) {
      let choice = random(100);
      for (const [share, kind] of kinds) {
        if (choice < share) {
          await kind();
          break;
        }
        choice -= share;
      }
    }
  }

  /** Some of a range, in no order, perhaps twice. */
  #some(range: Range, most = 40): number[] {
    return Array.from({ length: 1 + random(most) }, () => FIRST[range] + 1 + random(SIZE[range]));
  }

  /** A call by itself. Undefined: it was killed, or failed, and it is not known what came of it. */
  async #call(procedure: Procedure, ...args: Argument[]): Promise<Answer | undefined> {
    const { tally } = this.#soak;
    const start = performance.now();
    try {
      const answer = await this.#invoke(procedure, ...args);
      tally.done(procedure, performance.now() - start);
      return answer;
    } catch (error) {
      const errno = errnoOf(error);
      this.#soak.note('error', { worker: this.#name, procedure, errno, args: args.slice(1) });
      // Who is killed when a deadlock has ended his statement, for him no handler makes it again.
      const isKilled = wasKilled(error) || (errno === DEADLOCK && this.#wasKilledSince(start));
      if (errno === DEADLOCK && 'session' in this.by && !isKilled) tally.deadlocks.reached += 1;
      if (isKilled && this.killable) tally.killed[procedure] = (tally.killed[procedure] ?? 0) + 1;
      else if (errno === DEADLOCK) tally.violation(`${procedure} deadlocks (1213)`, this.#name);
      else tally.violation(`${procedure} fails (${errno})`, `${this.#name}: ${(error as Error).message}`);
      if ('session' in this.by) await this.#lookAfter(this.by.session, `${procedure} (${errno})`);
      return undefined;
    }
  }

  #wasKilledSince(start: number): boolean {
    return 'session' in this.by && (this.#soak.killedAt.get(this.by.session.threadId) ?? 0) >= start;
  }

  /** Nothing may be left of a call that failed; what is, is counted, and taken away for the next. */
  async #lookAfter(session: Connection, failure: string): Promise<void> {
    const { tally, observer } = this.#soak;
    const { serverStatus } = await surely<ResultSetHeader>(session, 'DO 0');
    if (serverStatus & IN_TRANSACTION) {
      tally.violation(`a transaction is open after ${failure}`, this.#name);
      await surely(session, 'ROLLBACK');
    }
    if (failure.startsWith('get')) {
      await this.#tripOver(session, failure);
      // Its isolation level may be left to the very next transaction, and to that one alone.
      for (const statement of ['START TRANSACTION', 'COMMIT']) await surely(session, statement);
    }
    // A snapshot is that of REPEATABLE READ alone; with less it sees what comes after.
    await surely(session, 'START TRANSACTION WITH CONSISTENT SNAPSHOT');
    await observer.query('UPDATE ticks SET n = n + 1');
    const [now] = await surely<RowDataPacket[]>(observer, 'SELECT n FROM ticks');
    const [then] = await surely<RowDataPacket[]>(session, 'SELECT n FROM ticks');
    if (then!.n >= now!.n) tally.violation(`the next transaction's isolation is another after ${failure}`, this.#name);
    await surely(session, 'ROLLBACK');
  }

  /**
   * A named lock that is still held may keep others waiting, but not for longer than the second that it is named after. If
   * all calls of a while are slow, it may be the machine, or the locks of other sessions that are killed: it is this lock
   * only if they are fast as soon as it is gone.
   */
  async #tripOver(session: Connection, failure: string): Promise<void> {
    const { tally } = this.#soak;
    const areAll = async (is: (ms: number) => boolean) => {
      for (let times = 0; times < TRIES; times += 1) if (!is(await this.#soak.timeGet(this.#name, 10))) return false;
      return true;
    };
    const slow = await areAll(ms => ms > SLOW_MS);
    const [locks] = await surely<RowDataPacket[]>(session, 'SELECT RELEASE_ALL_LOCKS() AS held');
    if (locks!.held === 0) return;
    tally.namedLocks += 1;
    if (slow && (await areAll(ms => ms <= SLOW_MS)))
      tally.violation(`other calls wait for the named lock that is held after ${failure}`, this.#name);
  }

  /** Gets ids, perhaps extends the locks, and finishes; or leaves them until the locks run out. */
  async #workOnce(): Promise<void> {
    const { holders, tally } = this.#soak;
    const max = MAX_IDS[random(MAX_IDS.length)]!;
    const leaves = random(20) === 0;
    const lockFor = leaves ? 1 : this.#soak.nextLockFor();
    const sent = this.#soak.serverTime;
    this.#soak.note('get', { worker: this.#name, max, lockFor });
    const got = await this.#call('get', max, lockFor, 0);
    if (!got) {
      if (!leaves) await this.#soak.recover(this.#name, lockFor, sent);
      return;
    }
    tally.ids += got.count;
    if (got.count > max) tally.violation('get answers too many ids', `${got.count} of ${max}`);
    const twice = got.ids.filter((id, i) => got.ids.indexOf(id) < i);
    if (twice.length > 0) tally.violation('get answers an id twice', `${twice[0]}, of ${max}`);
    const work = got.ids.filter(isWork);
    holders.take(this.#name, work, got.lease!);
    if (leaves) return;
    const others = got.ids.filter(id => !isWork(id));
    if (random(2) === 0) await this.#call('did', others, false, got.lease);

    let { lease } = got;
    if (work.length > 0 && random(4) === 0) {
      const longer = this.#soak.nextLockFor();
      const extended = await this.#call('extend', work, longer, lease);
      if (!extended) {
        holders.release(work);
        await this.#soak.unlock(work, lease);
        await this.#soak.recover(this.#name, longer, sent);
        return;
      }
      if (extended.count !== work.length) tally.violation('extend finds a lock lost', this.#name);
      ({ lease } = extended);
    }
    await this.#finish(work, lease);
  }

  async #finish(ids: number[], lease: number | null): Promise<void> {
    if (ids.length === 0) return;
    const [procedure, guarded, ...args] = FINISHING[random(FINISHING.length)]!;
    if (guarded && procedure !== 'fail' && args[0] === undefined) args.push(null);
    this.#soak.holders.release(ids);
    const answer = await this.#call(procedure, ids, ...args, ...(guarded ? [lease] : []));
    if (!answer) await this.#soak.unlock(ids, lease);
    else if (answer.count !== ids.length)
      this.#soak.tally.violation(`${procedure} finds a lock lost`, `${this.#name}: ${answer.count} of ${ids.length}`);
  }

  /** Does anything with ids that are nobody's. */
  async #meddle(): Promise<void> {
    const { fresh } = this.#soak;
    const [procedure, range, ...args] = MEDDLING[random(MEDDLING.length)]!;
    const ids = this.#some(range);
    const isFresh = range === 'fresh';
    if (isFresh) for (const id of ids) fresh.possible.add(id);
    const answer = await this.#call(procedure, ids, ...args);
    if (isFresh && answer) for (const id of ids) fresh.sure.add(id);
  }

  /** Adds and removes the very ids that others do. */
  async #toss(): Promise<void> {
    const range = this.killable ? 'tossed' : 'churned';
    const added = await this.#call('add', this.#some(range), random(2) === 0);
    const removed = await this.#call('remove', this.#some(range));
    if (!this.killable) this.#soak.churned += (added?.count ?? 0) - (removed?.count ?? 0);
  }

  /** Adds and removes ids that no other does, so that it is known what must come of it: all of it, or nothing. */
  async #changeOwn(): Promise<void> {
    const { tally } = this.#soak;
    const removes = random(2) === 0;
    const procedure = removes ? 'remove' : (['add', 'did', 'unlock', 'bump'] as const)[random(4)]!;
    const size = 1 + random(200);
    const from = this.#first + 1 + random(SIZE.own - size);
    const ids = Array.from({ length: size }, (_, i) => from + i);
    const before = this.#own;
    const after = new Set(removes ? [...before].filter(id => id < from || id >= from + size) : [...before, ...ids]);
    const answer = await this.#call(procedure, ids);
    const changed = Math.abs(after.size - before.size);
    const counts: Partial<Record<Procedure, number>> = { add: changed, remove: changed, did: size };
    if (answer && (counts[procedure] ?? answer.count) !== answer.count)
      tally.violation(`${procedure} counts wrongly`, `${this.#name}: ${answer.count}, not ${counts[procedure]}`);
    this.#own = new Set(await this.#soak.idsIn(this.#first, SIZE.own));
    const is = (expected: Set<number>) =>
      expected.size === this.#own.size && [...expected].every(id => this.#own.has(id));
    if (answer && !is(after)) tally.violation(`${procedure} did not do what it answers`, this.#name);
    if (!answer && !is(after) && !is(before)) tally.violation(`half of a killed ${procedure} is done`, this.#name);
  }

  async #look(): Promise<void> {
    if (random(2) === 0) await this.#call('next', 0);
    else await this.#call('stats', random(10) === 0 ? '[60,3600]' : null);
  }

  /** Several calls as one, on the plain session or on a connection of the pool. */
  async #transaction(): Promise<void> {
    const { by } = this;
    if ('session' in by) {
      const got = await this.#transact(by.session, plainly(by.session, this.#soak.table));
      await this.#finish(got.ids, got.lease);
      return;
    }
    const connection = await by.pool.getConnection();
    const got = await this.#transact(connection, byClient(new DoLoop(connection, this.#soak.table)));
    connection.release();
    await this.#finish(got.ids, got.lease);
  }

  /** Resolves to the ids of `work` that it got and committed. */
  async #transact(connection: Connection, invoke: Invoke): Promise<Answer> {
    const { tally, holders } = this.#soak;
    // With REPEATABLE READ a get locks the gaps round its ids.
    const gets = random(2) === 0;
    const lockFor = this.#soak.nextLockFor();
    const sent = this.#soak.serverTime;
    const none: Answer = { count: 0, ids: [], lease: null };
    let got = none;
    let since = 0;
    let step: Procedure | 'BEGIN' | 'END' = 'BEGIN';
    const call: Invoke = (procedure, ...args) => {
      step = procedure;
      return invoke(procedure, ...args);
    };
    try {
      await connection.query(`SET TRANSACTION ISOLATION LEVEL ${gets ? 'READ COMMITTED' : 'REPEATABLE READ'}`);
      await connection.query('START TRANSACTION');
      if (gets) {
        got = await call('get', MAX_IDS[random(MAX_IDS.length)]!, lockFor, 0);
        since = holders.now;
      }
      for (let times = random(3); times >= 0; times -= 1) {
        const [procedure, range, ...args] = MEDDLING[random(MEDDLING.length)]!;
        if (range === 'shared' || range === 'tossed') await call(procedure, this.#some(range, 10), ...args);
      }
      const commits = random(2) === 0;
      step = 'END';
      await connection.query(commits ? 'COMMIT' : 'ROLLBACK');
      tally.transactions[commits ? 'committed' : 'rolledBack'] += 1;
      if (!commits) return none;
      const work = got.ids.filter(isWork);
      holders.take(`${this.#name}, in a transaction`, work, got.lease!, since);
      tally.ids += got.count;
      return { ...got, ids: work };
    } catch (error) {
      const errno = errnoOf(error);
      this.#soak.note('error', { worker: this.#name, step, errno, lockFor });
      if (errno === DEADLOCK) tally.deadlocks.inTransactions += 1;
      else if (!wasKilled(error) || !this.killable)
        tally.violation(`${step} in a transaction fails (${errno})`, `${this.#name}: ${(error as Error).message}`);
      const { serverStatus } = await surely<ResultSetHeader>(connection, 'DO 0');
      if (wasKilled(error) && step !== 'BEGIN' && step !== 'END' && !(serverStatus & IN_TRANSACTION)) {
        // A kill may come when a deadlock has rolled the transaction back, and before that is told.
        if (await this.#soak.hadDeadlock(connection.threadId)) tally.deadlocks.inTransactions += 1;
        else tally.violation("a kill ends the caller's transaction", `${this.#name}: ${step}`);
      }
      // The second ends the isolation level, if it was not used.
      for (const statement of ['ROLLBACK', 'START TRANSACTION', 'COMMIT']) await surely(connection, statement);
      if (step !== 'BEGIN') await this.#lookAfter(connection, `${step} in a transaction (${errno})`);
      await this.#soak.recover(this.#name, lockFor, sent);
      return none;
    }
  }
}
