/** What an id may be: DECIMAL, DATE and DATETIME ids are strings as the server writes them, binary ones are Buffers. */
export type LoopId = number | bigint | string | Buffer;

/** One id, or any number of them. A string or a Buffer is one id. */
export type Ids<Id extends LoopId> = Id | Iterable<Id>;

/** How many characters the ids of one call may have as JSON: millions of ids, and an end for what has none. */
const MAX_CHARACTERS = 2 ** 27;

/**
 * Each id as JSON, as the procedures take it.
 *
 * @throws {TypeError} for what can't be an id.
 * @throws {RangeError} for a number that is not whole, or too large to be exact; for more ids than a call can be made of.
 */
export function idsToJson(ids: unknown): string[] {
  const isOne = typeof ids !== 'object' || ids === null || ids instanceof Uint8Array || !(Symbol.iterator in ids);
  if (isOne) return [idToJson(ids)];
  const json: string[] = [];
  let characters = 0;
  for (const id of ids as Iterable<unknown>) {
    const one = idToJson(id);
    characters += one.length + 1;
    if (characters > MAX_CHARACTERS) {
      throw new RangeError(`ids: the first ${json.length} are all that a call can hold; make several`);
    }
    json.push(one);
  }
  return json;
}

function idToJson(id: unknown): string {
  switch (typeof id) {
    case 'number':
      if (!Number.isSafeInteger(id)) {
        const mend = Number.isInteger(id) ? 'a bigint is exact' : 'an id with a fraction is a string';
        throw new RangeError(`ids: ${id} is not a whole number that is exact; ${mend}`);
      }
      return String(id);
    case 'bigint':
      return String(id);
    case 'string':
      if (/\p{Surrogate}/u.test(id)) throw new RangeError(`ids: ${shown(id)} has half a character in it`);
      return JSON.stringify(id);
    default:
      if (id instanceof Uint8Array) return `"${Buffer.from(id).toString('hex')}"`;
      if (id instanceof Date) {
        throw new TypeError('ids: a Date depends on the time zone; give a string like "2026-01-31 23:59:59"');
      }
      throw new TypeError(`ids: ${shown(id)} is not a number, bigint, string or Buffer`);
  }
}

/** What some program may take for the end of a line, or a terminal for a command. */
export const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** Text with such characters written as in JSON. */
export function visible(text: string): string {
  return text.replaceAll(UNSEEN, character => {
    const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
    return units.map(unit => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
  });
}

/** How much of a value stands in an error. */
const SHOWN = 100;

/** A value for an error's text. */
export function shown(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  const text = String(value);
  const begin = text.slice(0, SHOWN);
  return visible(typeof value === 'string' ? JSON.stringify(begin) : begin) + (text.length > SHOWN ? '…' : '');
}

/**
 * Joins ids to JSON arrays of at most `maxBytes`, in order.
 *
 * @throws {RangeError} if one id alone is longer.
 */
export function chunk(ids: readonly string[], maxBytes: number): string[] {
  const chunks: string[] = [];
  let current: string[] = [];
  let bytes = 2;
  for (const id of ids) {
    const size = Buffer.byteLength(id) + 1;
    if (size + 2 > maxBytes)
      throw new RangeError(`ids: ${id.slice(0, 40)}… is longer than the server's max_allowed_packet`);
    if (bytes + size > maxBytes) {
      chunks.push(`[${current.join()}]`);
      current = [];
      bytes = 2;
    }
    current.push(id);
    bytes += size;
  }
  chunks.push(`[${current.join()}]`);
  return chunks;
}
