/** One account that is the same on several servers: for whoever uses them, and for what they copy from each other. */
import { randomBytes } from 'node:crypto';
import { type Connection, createConnection, type QueryOptions, type RowDataPacket } from 'mysql2/promise';

export interface Account {
  user: string;
  password: string;
}

/** An account that nobody knows yet. */
export const newAccount = (): Account => ({ user: 'cluster', password: randomBytes(16).toString('hex') });

/**
 * Makes the account, with all rights, on this server alone: it is in no binary log.
 *
 * @returns the server's url with this account.
 */
export async function makeAccount(url: string, { user, password }: Account): Promise<string> {
  await connected(url, async connection => {
    await connection.query('SET SESSION sql_log_bin = 0');
    await connection.query('CREATE USER ? IDENTIFIED BY ?', [user, password]);
    await connection.query('GRANT ALL ON *.* TO ? WITH GRANT OPTION', [user]);
  });
  const changed = new URL(url);
  [changed.username, changed.password] = [user, password];
  return changed.href;
}

/** Does something on a connection of its own. */
export async function connected<T>(url: string, work: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await createConnection(url);
  try {
    return await work(connection);
  } finally {
    connection.destroy();
  }
}

/** The one value that a query answers. */
export async function only(
  connection: Connection,
  query: string | QueryOptions,
  values: unknown[] = [],
): Promise<unknown> {
  const options = typeof query === 'string' ? { sql: query } : query;
  const [rows] = await connection.query<RowDataPacket[]>({ ...options, values });
  return Object.values(rows[0]!)[0];
}

/** A server that takes longer than this does not tell, ms. */
const ANSWER_MS = 3_000;

/** The one value that a server answers to a query; undefined where it doesn't tell within three seconds. */
export async function told(url: string, sql: string): Promise<unknown> {
  const connection = createConnection({ uri: url, connectTimeout: ANSWER_MS });
  try {
    return await only(await connection, { sql, timeout: ANSWER_MS });
  } catch {
    return undefined;
  } finally {
    connection.then(opened => opened.destroy()).catch(() => {});
  }
}
