/** What the bench leaves: all that was measured on one server, and under which circumstances. */
import { cpus } from 'node:os';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { cells } from './cells.js';
import { client } from './client.js';
import { leftBehind } from './left-behind.js';
import { reads } from './reads.js';
import type { Section } from './section.js';
import { size } from './size.js';
import { type SoakPoint, soak } from './soak.js';
import { worker } from './worker.js';

export const SECTIONS = {
  cells,
  size,
  reads,
  'left-behind': leftBehind,
  client,
  worker,
  soak,
} satisfies Record<string, Section<unknown>>;

export type SectionName = keyof typeof SECTIONS;
export const SECTION_NAMES = Object.keys(SECTIONS) as SectionName[];

export interface Results {
  kind: 'mariadb' | 'mysql';
  version: string;
  /** Of the server, by their names: those that speed and durability hang on. */
  options: Record<string, string>;
  machine: string;
  /** The day, YYYY-MM-DD. */
  measured: string;
  quick: boolean;
  /** The rows of each section that was measured. */
  sections: Partial<Record<SectionName, unknown[]>>;
  /** The soak over time, if it was measured. */
  points?: SoakPoint[];
}

const OPTIONS = [
  'innodb_flush_log_at_trx_commit',
  'sync_binlog',
  'log_bin',
  'binlog_format',
  'transaction_isolation',
  'tx_isolation', // MariaDB's name for it, before 11.1
  'innodb_buffer_pool_size',
  'innodb_log_file_size',
  'innodb_redo_log_capacity',
  'innodb_doublewrite',
  'innodb_flush_method',
];

/** Reads these back from the server, rather than trusting in what it was started with. */
export async function readOptions(connection: Connection): Promise<Record<string, string>> {
  const [rows] = await connection.query<RowDataPacket[]>('SHOW GLOBAL VARIABLES WHERE Variable_name IN (?)', [OPTIONS]);
  return Object.fromEntries(rows.map(row => [row.Variable_name, row.Value]));
}

export function machine(): string {
  const all = cpus();
  return `${all.length} × ${all[0]?.model.trim() ?? 'an unknown processor'}, Node.js ${process.version.slice(1)}`;
}

export const resultsFile = (kind: Results['kind']) => `results-${kind}.json`;
