/** How much memory a server takes. */
import { readFile } from 'node:fs/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';

/**
 * The resident memory of the server's process, bytes, where that is ours and this machine has /proc; else what the server
 * counts of itself, which is less.
 */
export async function memoryOfServer(connection: Connection, pid: number | undefined): Promise<number> {
  const status = pid === undefined ? '' : await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const [, kilobytes] = /^VmRSS:\s*(\d+) kB$/m.exec(status) ?? [];
  if (kilobytes !== undefined) return Number(kilobytes) * 1024;
  const [[used]] = await connection.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Memory_used'"); // MariaDB's
  if (used) return Number(used.Value);
  const [[sum]] = await connection.query<RowDataPacket[]>(
    'SELECT SUM(current_number_of_bytes_used) AS bytes FROM performance_schema.memory_summary_global_by_event_name',
  );
  return Number(sum!.bytes);
}
