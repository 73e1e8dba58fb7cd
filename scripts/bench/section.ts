/** What the bench consists of: sections, each of which measures rows of one table. */
import type { Connection, Pool } from 'mysql2/promise';
import type { Spread } from './measure.js';
import type { SoakPoint } from './soak.js';

/** What a section is given to work with. */
export interface Bench {
  /** A new connection to the bench's own database, closed at the latest when the section has ended. */
  open(): Promise<Connection>;
  /** The same as a pool of so many connections. */
  openPool(connections: number): Pool;
  /** Less of all: for a look, not for the record. */
  quick: boolean;
  /** How long the soak goes on. @default 10, or with `quick` a sixth */
  minutes: number | undefined;
  /** The server's process, where it is ours. */
  pid: number | undefined;
  /** Hands on what the soak saw of the time since the point before. */
  point(point: SoakPoint): void;
  /** How far the section is, from 0 to 1, and what it does now. */
  progress(done: number, note: string): void;
}

export interface Column {
  title: string;
  /** In characters: what its values need. */
  width: number;
  align?: 'left';
}

export interface Section<Row> {
  title: string;
  /** For people: what a row is. */
  about: string;
  columns: Column[];
  /** Hands each row on as soon as it is measured. */
  measure(bench: Bench, done: (row: Row) => void): Promise<void>;
  /** The row's values, one for each column. */
  values(row: Row): string[];
}

// ---- How values are written

export const count = (n: number) => Math.round(n).toLocaleString('en');

/** Three digits, as many as mean something: 0.85, 1.21, 12.3, 845, 2.35k, 124k, 2M. */
export function digits(n: number): string {
  if (n >= 999_500) return `${digits(n / 1_000_000)}M`;
  if (n >= 999.5) return `${digits(n / 1_000)}k`;
  return n >= 99.95 ? n.toFixed(0) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2);
}

/** A number of ids or connections, short and exact: 1, 100, 10k, 2M. */
export function short(n: number): string {
  if (n >= 1_000_000) return `${n / 1_000_000}M`;
  return n >= 1_000 ? `${n / 1_000}k` : String(n);
}

export const withSpread = ({ median, min, max }: Spread) => `${digits(median)} ${digits(min)}–${digits(max)}`;

/** A value, with a mark if it is not what it is to be. */
export const marked = (text: string, reached: boolean) => (reached ? text : `${text}✗`);
