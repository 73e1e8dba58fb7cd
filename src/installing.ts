import type { Connection } from 'mysql2/promise';
import { run } from './mysql.js';

/** The named lock, quoted, that is held while a loop is made, upgraded or dropped: one at a time on a server. */
export const INSTALLING = "'doloop create'";

/** Whether that is going on at the moment. Any account may ask. */
export async function isInstalling(connection: Connection): Promise<boolean> {
  const { rows } = await run(connection, `SELECT IS_FREE_LOCK(${INSTALLING}) = 0 AS \`installing\``);
  return rows[0]!.installing === 1;
}
