/** What people see of the command line: one-line messages, colours on a terminal alone, tables, names and ids. */
import { once } from 'node:events';
import { chalk, echo, question } from 'zx';
import { visible } from '../../src/ids.js';
import { type LoopName, quoteName } from '../../src/names.js';

/** Says something to people: one line on standard error. */
export function tell(message: string): void {
  const line = visible(message.trim().replaceAll(/\s*\n\s*/g, ' '));
  process.stderr.write(`${paint(process.stderr, 'red', 'doloop:')} ${line}\n`);
}

/** Tells what goes wrong, and goes wrong again, once, until all was well. */
export function teller(): (problem?: string) => void {
  let told: string | undefined;
  return problem => {
    if (problem !== undefined && problem !== told) tell(`${problem}; trying again`);
    told = problem;
  };
}

export type Style = 'red' | 'yellow' | 'green' | 'bold' | 'dim' | 'cyan';

export function paint(stream: NodeJS.WriteStream, style: Style, text: string): string {
  return isLively(stream) ? chalk[style](text) : text;
}

/** Whether colours and bars are for this stream: a terminal, unless its user wants none. */
export function isLively(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && !process.env.NO_COLOR;
}

/**
 * Asks on a terminal for a line; undefined where Ctrl-C or Ctrl-D leaves the question without an answer. No connection
 * may be open meanwhile: it would keep the process from noticing that.
 */
export async function ask(query: string): Promise<string | undefined> {
  const asked = question(query, { output: process.stderr });
  // Ctrl-C and Ctrl-D leave this process without anything to do.
  const answer = await Promise.race([asked, once(process, 'beforeExit')]);
  if (typeof answer === 'string') return answer;
  process.stderr.write('\n');
  return undefined;
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
  return visible(/[.`]/.test(part) ? quoteName(part) : part);
}

/** 1,234 ids; 1 id. */
export function many(n: number, what: string): string {
  return `${count(n)} ${what}${n === 1 ? '' : 's'}`;
}

/** 1,234,567. */
export function count(n: number): string {
  return n.toLocaleString('en');
}

const UNITS: [seconds: number, unit: string][] = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
  [1, 's'],
];

/** A number of seconds by its two largest units: 2 h 5 min. */
export function duration(seconds: number): string {
  const at = UNITS.findIndex(([size]) => Math.round(seconds) >= size);
  if (at < 0 || at === UNITS.length - 1) return `${Math.round(seconds)} s`;
  const [[large, largeUnit], [small, smallUnit]] = [UNITS[at]!, UNITS[at + 1]!];
  const smalls = Math.round(seconds / small);
  const rest = smalls % (large / small);
  return `${count((smalls - rest) / (large / small))} ${largeUnit}${rest > 0 ? ` ${rest} ${smallUnit}` : ''}`;
}

/** A share of 0 to 1 as a bar of so many columns, to an eighth of one; what is more than nothing is seen. */
export function bar(share: number, columns: number): string {
  const eighths = share > 0 ? Math.max(1, Math.round(share * columns * 8)) : 0;
  return '█'.repeat(eighths / 8) + ' ▏▎▍▌▋▊▉'[eighths % 8]!.trim();
}

const LEVELS = ' ▁▂▃▄▅▆▇█';

/** Numbers from 0 up as columns, a character each, in so many lines; what is more than nothing is seen. */
export function columns(numbers: readonly (number | null)[], lines: number): string[] {
  const most = Math.max(...numbers.map(number => number ?? 0), Number.MIN_VALUE);
  const eighths = numbers.map(number => (number ? Math.max(1, Math.round((number / most) * lines * 8)) : 0));
  return Array.from({ length: lines }, (_, line) => {
    const below = (lines - 1 - line) * 8;
    return eighths.map(n => LEVELS[Math.max(0, Math.min(8, n - below))]).join('');
  });
}
