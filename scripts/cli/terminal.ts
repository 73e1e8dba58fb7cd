/** What people see of the command line: one-line messages, colours on a terminal alone, tables, names and ids. */
import { chalk, echo } from 'zx';
import { type LoopName, quoteName } from '../../src/names.js';

/** Says something to people: one line on standard error. */
export function tell(message: string): void {
  process.stderr.write(`${paint(process.stderr, 'red', 'doloop:')} ${message.trim().replaceAll(/\s*\n\s*/g, ' ')}\n`);
}

export type Style = 'red' | 'yellow' | 'green' | 'bold' | 'dim' | 'cyan';

export function paint(stream: NodeJS.WriteStream, style: Style, text: string): string {
  return stream.isTTY && !process.env.NO_COLOR ? chalk[style](text) : text;
}

export interface Column {
  title: string;
  /** @default 'left' */
  align?: 'left' | 'right';
}

/** Writes rows of text to standard output: aligned on a terminal; for programs with tabs, as the console does it. */
export function writeTable(columns: readonly Column[], rows: readonly (readonly string[])[]): void {
  const all = [columns.map(({ title }) => title), ...rows];
  const widths = columns.map((_, i) => Math.max(...all.map(row => row[i]!.length)));
  for (const [number, row] of all.entries()) {
    const cells = row.map((cell, i) =>
      columns[i]!.align === 'right' ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!),
    );
    const line = process.stdout.isTTY ? cells.join('  ').trimEnd() : row.join('\t');
    echo(number === 0 ? paint(process.stdout, 'bold', line) : line);
  }
}

/** A loop's name as the command line takes it, with its database. */
export function shownLoop({ database = '', table }: LoopName): string {
  return `${written(database)}.${written(table)}`;
}

/** A part of a loop's name as the command line takes it. */
export function written(part: string): string {
  return /[.`]/.test(part) ? quoteName(part) : part;
}

/** 1,234 ids; 1 id. */
export function many(n: number, what: string): string {
  return `${count(n)} ${what}${n === 1 ? '' : 's'}`;
}

/** 1,234,567. */
export function count(n: number): string {
  return n.toLocaleString('en');
}
