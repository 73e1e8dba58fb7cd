import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, Pool, PoolConnection } from 'mysql2/promise';
import { DoLoopError, isOfSavepoint } from './errors.js';
import { isInstalling } from './installing.js';
import { type Answer, AUTOCOMMIT, IN_TRANSACTION, isPool, type MySqlError, run } from './mysql.js';
import type { Procedure } from './render.js';

/** An argument of a procedure; JSON text as a string. */
export type Argument = string | number | boolean | null;

/** How often a call on a pool is made in all, before its error is the caller's. */
const ATTEMPTS = 8;
/** The pause before attempt n + 1 is random, up to n times this, so that those who collided don't meet again. */
const PAUSE_MS = 100;

/** The call was rolled back and may be made again at once: deadlock, and conflicts of replication and of Galera. */
const ROLLED_BACK = new Set([1213, 3101, 1180]);
/** The connection, or this server, is done for: whatever came of the call, a new connection may make it again. */
const LOST = new Set<number | string>([
  1053,
  2006,
  2013,
  3100,
  4031, // shutting down; gone away; lost during the query; the group's own loss; closed for having been idle too long
  1290,
  1047, // a read-only or unready node: another one may be the writer
  'PROTOCOL_CONNECTION_LOST',
  'ECONNRESET',
  'EPIPE',
  'ECONNREFUSED',
]);
/** KILL QUERY runs no handler of the procedure: a transaction may still be open. Not to be repeated, but closed. */
const KILLED = 1317;
/**
 * No such procedure, or no right to it: for good, or for the moment in which `create` replaces it on MySQL, where it is
 * dropped and made again, and only then gets back what was granted on it.
 */
const AWAY = new Set([1305, 1370]);
/** For so long a call waits for who replaces it. */
const PATIENCE_MS = 10_000;

/**
 * Text of JSON or a number as it goes into SQL. What has any other character than these goes in hexadecimal, so that
 * neither sql_mode nor the character set nor the pool's queryFormat (`:name`) can make a value anything but a value.
 */
const HARMFUL = /[^\w[\]",. -]/;

function literal(value: Argument): string {
  if (typeof value === 'string') {
    return HARMFUL.test(value) ? `_utf8mb4 X'${Buffer.from(value).toString('hex')}'` : `'${value}'`;
  }
  return String(value);
}

/** CALL of one procedure of a loop, whose table's quoted name is given: one round trip. */
export function call(
  connection: Connection,
  table: string,
  procedure: Procedure,
  args: readonly Argument[],
): Promise<Answer> {
  return run(connection, `CALL ${table.slice(0, -1)}_${procedure}\`(${args.map(literal).join(', ')})`);
}

/** Arguments with which a call changes nothing: no ids, the defaults for the rest. */
export const NO_IDS: Record<Procedure, readonly Argument[]> = {
  add: ['[]', null],
  remove: ['[]'],
  get: [0, null, null],
  did: ['[]', null, null],
  unlock: ['[]', null, null],
  bump: ['[]', null, null],
  extend: ['[]', null, null],
  fail: ['[]', null, null],
  check: ['[]'],
  stats: [null],
  next: [null],
};

/** Something to do on a connection; `pooled`: it is one of the pool's, for this work alone. */
export type Work<T> = (connection: Connection, pooled: boolean) => Promise<T>;

/**
 * Does the work on the connection, once; or on a connection of the pool, and again on another where an error is meant to
 * be repeated, a bounded number of times.
 */
export function use<T>(target: Pool | Connection, work: Work<T>): Promise<T> {
  return isPool(target) ? usePool(target, work) : work(target, false);
}

async function usePool<T>(pool: Pool, work: Work<T>): Promise<T> {
  let away = false;
  let isFinal = false;
  const lookAndWork: Work<T> = async (connection, pooled) => {
    // What is still away in a call made after nobody was at work on it will stay so.
    isFinal = away && !(await isInstalling(connection));
    return work(connection, pooled);
  };
  const patient = performance.now() + PATIENCE_MS;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await useOne(await pool.getConnection(), lookAndWork);
    } catch (error) {
      away = isAway(error);
      const again = away
        ? !isFinal && performance.now() < patient
        : attempt < ATTEMPTS && (ROLLED_BACK.has((error as MySqlError).errno ?? 0) || isLost(error));
      if (!again) throw error;
      await sleep(Math.random() * Math.min(attempt, ATTEMPTS) * PAUSE_MS);
    }
  }
}

async function useOne<T>(connection: PoolConnection, work: Work<T>): Promise<T> {
  try {
    const result = await work(connection, true);
    connection.release();
    return result;
  } catch (error) {
    const { errno, fatal } = error as MySqlError;
    const done = fatal || errno === KILLED || isLost(error);
    // With autocommit off a transaction is still open, and what it has locked would stay so.
    if (done || !(await rolledBack(connection))) connection.destroy();
    else connection.release();
    throw error;
  }
}

async function rolledBack(connection: Connection): Promise<boolean> {
  return run(connection, 'ROLLBACK').then(
    () => true,
    () => false,
  );
}

/** Whoever had a connection of the pool before gave it back with a transaction open: what is done there may never end. */
const LEFT_OPEN = new Error('a connection of the pool came with a transaction open, which somebody left behind');

function isLost(error: unknown): boolean {
  const { errno = 0, code = '', syscall = '' } = error as MySqlError;
  // Whatever the system says of a connection that was made (ETIMEDOUT: nobody has answered for long), it has given it up.
  return LOST.has(errno) || LOST.has(code) || syscall === 'read' || syscall === 'write' || error === LEFT_OPEN;
}

function isAway(error: unknown): boolean {
  return AWAY.has((error as MySqlError).errno ?? 0) && !isOfSavepoint(error as MySqlError);
}

/** Sees to it that what was done on a pooled connection is committed. */
export async function settle(connection: Connection, status: number): Promise<void> {
  if (!(status & IN_TRANSACTION)) return;
  if (status & AUTOCOMMIT) throw LEFT_OPEN;
  await run(connection, 'COMMIT');
}

/**
 * Does the work as one: all of it, or on an error nothing. In a transaction that is open on the connection it is a part
 * of that, and the rest stays as it is; else it is a transaction by itself. With `rollBack` it is undone in the end.
 */
export async function asOne<T>(
  connection: Connection,
  { pooled, rollBack }: { pooled: boolean; rollBack: boolean },
  work: () => Promise<T>,
): Promise<T> {
  const { status } = await run(connection, 'DO 0');
  const joins = (status & IN_TRANSACTION) !== 0;
  if (joins && pooled) throw LEFT_OPEN;
  // With autocommit off it is the caller who commits.
  const commits = pooled || (status & AUTOCOMMIT) !== 0;
  const [begin, undo, finish] = joins
    ? ['SAVEPOINT doloop', 'ROLLBACK TO SAVEPOINT doloop', 'RELEASE SAVEPOINT doloop']
    : ['START TRANSACTION', 'ROLLBACK', commits ? 'COMMIT' : 'DO 0'];
  await run(connection, begin);
  let result: T;
  try {
    result = await work();
  } catch (error) {
    // After a deadlock or a lost connection there is nothing left to undo.
    await run(connection, undo).catch(() => {});
    throw error;
  }
  const { warnings } = await run(connection, rollBack ? undo : finish);
  if (rollBack && warnings > 0) {
    throw new DoLoopError('NOT_ROLLED_BACK', 'dryRun: the table has an engine without transactions; this was for real');
  }
  return result;
}
