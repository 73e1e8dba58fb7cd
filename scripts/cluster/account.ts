/** One account that is the same on several servers: for whoever uses them, and for what they copy from each other. */
import { randomBytes } from 'node:crypto';
import { type Connection, createConnection } from 'mysql2/promise';

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
