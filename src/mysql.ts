import type { Connection as CallbackConnection, Pool as CallbackPool } from 'mysql2';
import type { Connection, Pool, PoolConnection, PoolNamespace, QueryOptions, ResultSetHeader } from 'mysql2/promise';

/** A pool of mysql2, the flavour with promises or the one with callbacks; or what `of` a pool cluster answers, with promises. */
export type AnyPool = Pool | CallbackPool | PoolNamespace;
/** A connection of mysql2, the flavour with promises or the one with callbacks. */
export type AnyConnection = Connection | CallbackConnection;

/** What came back for a query. */
export interface Answer {
  /** By their columns' names; none for a statement that answers no rows. */
  readonly rows: readonly Record<string, unknown>[];
  /** The server's status flags. */
  readonly status: number;
  /** How many warnings there were. */
  readonly warnings: number;
}

/** Bits of the server's status: a transaction is open; autocommit is on. */
export const IN_TRANSACTION = 1;
export const AUTOCOMMIT = 2;

/** Whichever flavour was given, the one with promises. */
export function promised(given: AnyPool | AnyConnection): Pool | Connection {
  return 'promise' in given && typeof given.promise === 'function' ? given.promise() : (given as Pool | Connection);
}

export function isPool(given: Pool | Connection): given is Pool {
  return 'getConnection' in given;
}

/** Runs one statement on one connection, the same way whatever options the pool or the connection was made with. */
export async function run(connection: Connection | PoolConnection, sql: string): Promise<Answer> {
  const options: QueryOptions & { nestTables: false } = {
    sql,
    rowsAsArray: false,
    nestTables: false,
    namedPlaceholders: false,
    supportBigNumbers: true,
    typeCast: exact,
  };
  let result: unknown;
  try {
    [result] = await send(connection, options);
  } catch (error) {
    Error.captureStackTrace(error as Error, run); // from here it leads to the caller through what awaits
    throw error;
  }
  // A CALL answers [rows, header]; a SELECT rows alone; any other statement a header.
  const parts: unknown[] = Array.isArray(result) && Array.isArray(result[0]) ? result : [result];
  const rows = Array.isArray(parts[0]) ? (parts[0] as Answer['rows']) : [];
  const { serverStatus = 0, warningStatus = 0 } = parts.at(-1) as Partial<ResultSetHeader>;
  return { rows, status: serverStatus, warnings: warningStatus };
}

/** Whether the length of stacks can be set: not where a program has frozen what is built in. */
const LIMITS_STACKS = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit')?.writable === true;

/**
 * Sends a query, its stack not noted. mysql2 notes that of each, should it fail, which is a good part of all it
 * does to send a short one.
 */
function send(connection: Connection, options: QueryOptions): ReturnType<Connection['query']> {
  if (!LIMITS_STACKS) return connection.query(options);
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return connection.query(options);
  } finally {
    Error.stackTraceLimit = limit;
  }
}

type TypeCast = Extract<QueryOptions['typeCast'], (...args: never) => unknown>;

/** Whole numbers as numbers where they are exact, else as bigints; DECIMAL, dates and times as the server writes them. */
const exact: TypeCast = (field, next) => {
  switch (field.type) {
    case 'LONGLONG':
      return wholeNumber(next());
    case 'DECIMAL':
    case 'NEWDECIMAL':
    case 'DATE':
    case 'DATETIME':
      return field.string();
    default:
      return next(); // small integers, text as string, binary as Buffer
  }
};

/** What mysql2 reads exactly: a number, or text where that is not safe, or always with `bigNumberStrings`. */
function wholeNumber(read: unknown): unknown {
  if (typeof read !== 'string') return read;
  const number = Number(read);
  return Number.isSafeInteger(number) ? number : BigInt(read);
}

/** What is known of an error of mysql2: the server's number and SQLSTATE, or a code of the driver or the network. */
export interface MySqlError extends Error {
  readonly errno?: number;
  readonly sqlState?: string;
  readonly code?: string;
  readonly fatal?: boolean;
  /** What the system was asked for, where that has failed: connect, read, write. */
  readonly syscall?: string;
}
