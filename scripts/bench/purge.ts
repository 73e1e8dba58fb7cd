import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';

const LOOK_MS = 10;
const PATIENCE_MS = 60_000;

/**
 * Waits until the server has purged what was done before: else whoever comes next reads through the entries that the one
 * before has left. It is over when nothing is left to be purged; or, since MySQL tells more than that, when there has
 * not become less of it for so many ms.
 */
export async function untilPurged(connection: Connection, quietMs: number): Promise<void> {
  const begun = Date.now();
  let least = Number.POSITIVE_INFINITY;
  for (let since = begun; since - begun < PATIENCE_MS; await sleep(LOOK_MS)) {
    const [[row]] = await connection.query<RowDataPacket[]>('SHOW ENGINE INNODB STATUS');
    const left = Number(/History list length (\d+)/.exec(row!.Status)?.[1] ?? 0);
    if (left === 0 || (left >= least && Date.now() - since >= quietMs)) return;
    if (left < least) [least, since] = [left, Date.now()];
  }
}
