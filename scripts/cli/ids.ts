/** Ids as people and programs read and write them, one a line: what is written can be read again, whatever their type. */
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { UNSEEN, visible } from '../../src/ids.js';
import type { LoopId } from '../../src/index.js';
import { understood } from './command.js';

/** What can't stand for itself: nothing at all, blanks at an end, what looks like JSON, or has such characters. */
const NEEDS_QUOTES = new RegExp(`^$|^"|^\\s|\\s$|${UNSEEN.source}`, 'u');

/** An id as one line of text: binary ones in hexadecimal; text that can't stand for itself as a JSON string. */
export function formatId(id: LoopId): string {
  if (Buffer.isBuffer(id)) return id.toString('hex');
  const text = String(id);
  return NEEDS_QUOTES.test(text) ? visible(JSON.stringify(text)) : text;
}

/** An id as JSON: what no JSON number holds exactly is a string, binary ones in hexadecimal. */
export function idAsJson(id: LoopId): number | string {
  if (Buffer.isBuffer(id)) return id.toString('hex');
  return typeof id === 'bigint' ? String(id) : id;
}

/**
 * The id that stands in a line, as the procedures take it, for ids of every type.
 *
 * @throws {UsageError} for what begins like a JSON string and is none.
 */
export function parseId(text: string): string {
  if (!text.startsWith('"')) return text;
  return understood(() => {
    try {
      return JSON.parse(text) as string;
    } catch {
      throw new Error(`ids: ${text} begins with a quote and is no JSON string`);
    }
  });
}

/**
 * The ids of standard input, one a line, in pieces of so many; empty lines are none. The signal ends it early. However it
 * ends, the input is closed: it would keep the process alive.
 */
export async function* idsOf(input: Readable, perPiece: number, signal?: AbortSignal): AsyncGenerator<string[]> {
  let piece: string[] = [];
  let problem: Error | undefined;
  input.once('error', error => {
    problem = new Error(`ids: cannot be read: ${error.message}`, { cause: error }); // to readline this is an end
  });
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY, ...(signal && { signal }) });
  try {
    for await (const line of lines) {
      if (line === '') continue;
      piece.push(parseId(line));
      if (piece.length === perPiece) {
        yield piece;
        piece = [];
      }
    }
    if (problem) throw problem;
    if (piece.length > 0) yield piece;
  } finally {
    input.destroy();
  }
}
