import { shown } from './ids.js';
import { quoteText } from './names.js';

/** A loop's id type: how it is written, and what SQL the procedures need of it. */
export interface IdType {
  /** The column's type in the table's definition, in one spelling whatever was given: `INT UNSIGNED`. */
  readonly sql: string;
  /** The type less its character set and collation. */
  readonly base: string;
  /** SQL: the id of the text `v` that JSON_TABLE read from the ids. */
  readonly id: string;
  /** SQL: whether `v`, written in JSON as `j`, is an id that the column holds exactly. NULL counts as not. */
  readonly fits: string;
  /** What an id must be, for people: «a whole number from 0 to 255». */
  readonly rule: string;
  /** SQL: the column `id` as a JSON value that `id` above reads back. */
  readonly asJson: string;
}

export const DEFAULT_ID_TYPE = 'INT';

export const INTEGER_BITS: Record<string, bigint> = {
  TINYINT: 8n,
  SMALLINT: 16n,
  MEDIUMINT: 24n,
  INT: 32n,
  BIGINT: 64n,
};
const SYNONYMS: Record<string, string> = { INTEGER: 'INT', NUMERIC: 'DECIMAL', DEC: 'DECIMAL', CHARACTER: 'CHAR' };
const WRITTEN =
  /^\s*([a-z]+)\s*(?:\(\s*(\d{1,5})\s*(?:,\s*(\d{1,2})\s*)?\))?((?:\s+(?:unsigned|signed))?)(?:\s+(?:charset|character\s+set)\s+([a-z0-9_]+))?(?:\s+collate\s+([a-z0-9_]+))?\s*$/i;
const REFUSED: Record<string, string> = {
  FLOAT: 'is inexact',
  DOUBLE: 'is inexact',
  REAL: 'is inexact',
  TIMESTAMP: "changes with the session's time zone (DATETIME does not)",
};
const KNOWN =
  'TINYINT, SMALLINT, MEDIUMINT, INT or BIGINT [UNSIGNED]; DECIMAL(p,s) [UNSIGNED]; ' +
  'CHAR(n) or VARCHAR(n) [CHARACTER SET name] [COLLATE name]; BINARY(n) or VARBINARY(n); DATE; DATETIME[(n)]';

/**
 * A JSON string, or a whole number short enough that no server rounds it. (Patterns here begin with \A and have no blank
 * in them: MariaDB lets a session say what ^ and a blank mean, by default_regex_flags.)
 */
const STRING_OR_WHOLE = "(LEFT(j, 1) = '\"' OR j REGEXP '\\\\A-?(0|[1-9][0-9]{0,17})\\\\z')";

/**
 * Reads an id type as one would write it in CREATE TABLE: a type with its attributes, nothing else, since it becomes
 * part of the table's definition.
 *
 * @throws {RangeError} if it is no type for ids; names the value and what is possible.
 */
export function parseIdType(written: string): IdType {
  const refuse = (why: string): never => {
    throw new RangeError(`id type: ${shown(written)} ${why}`);
  };
  if (typeof written !== 'string') throw new TypeError(`id type: expected a string, got ${typeof written}`);
  const match = WRITTEN.exec(written) ?? refuse(`is not one of ${KNOWN}`);
  const name = SYNONYMS[match[1]!.toUpperCase()] ?? match[1]!.toUpperCase();
  if (REFUSED[name]) refuse(REFUSED[name]);
  const [, , first, second, sign, charset, collation] = match;
  const unsigned = sign!.trim().toUpperCase() === 'UNSIGNED';
  const isText = name === 'CHAR' || name === 'VARCHAR';
  const isNumber = name in INTEGER_BITS || name === 'DECIMAL';
  if ((charset ?? collation) && !isText) refuse('is no text: it has no character set');
  if (sign && !isNumber) refuse('is no number: it has no sign');
  if (second !== undefined && name !== 'DECIMAL') refuse('has one number too many');
  const size = (low: number, high: number, missing?: number): number => {
    const n = first === undefined ? missing : Number(first);
    if (n === undefined || n < low || n > high) refuse(`needs a length from ${low} to ${high}, as in ${name}(${high})`);
    return n!;
  };

  switch (name) {
    case 'TINYINT':
    case 'SMALLINT':
    case 'MEDIUMINT':
    case 'INT':
    case 'BIGINT':
      return integer(name, unsigned); // a width, as in INT(11), says nothing about the values
    case 'DECIMAL': {
      const precision = size(1, 65, 10);
      const scale = Number(second ?? 0);
      if (scale > Math.min(precision, 30)) refuse('has more digits after the point than it can');
      return decimal(precision, scale, unsigned);
    }
    case 'CHAR':
      return text(name, size(1, 255), charset, collation);
    case 'VARCHAR':
      return text(name, size(1, 3072), charset, collation);
    case 'BINARY':
      return binary(name, size(1, 255));
    case 'VARBINARY':
      return binary(name, size(1, 3072));
    case 'DATE':
      if (first !== undefined) refuse('has no length');
      return moment('DATE', '', 'a date like "2026-01-31"');
    case 'DATETIME': {
      const digits = size(0, 6, 0);
      const type = digits ? `DATETIME(${digits})` : 'DATETIME';
      const fraction = digits ? `([.][0-9]{1,${digits}})?` : '';
      return moment(type, `[ ][0-9]{2}:[0-9]{2}:[0-9]{2}${fraction}`, `a ${type} like "2026-01-31 23:59:59"`);
    }
    default:
      return refuse(`is not one of ${KNOWN}`);
  }
}

/** SQL: the id that this text stands for, as the procedures read it. */
export function idOf({ id }: IdType, text: string): string {
  return id.replace(/\bv\b/, () => quoteText(text));
}

function integer(name: string, unsigned: boolean): IdType {
  const bits = INTEGER_BITS[name]!;
  const low = unsigned ? 0n : -(2n ** (bits - 1n));
  const high = unsigned ? 2n ** bits - 1n : 2n ** (bits - 1n) - 1n;
  const id = `CAST(v AS ${unsigned ? 'UNSIGNED' : 'SIGNED'})`;
  const sql = unsigned ? `${name} UNSIGNED` : name;
  return {
    sql,
    base: sql,
    id,
    // Written back it must be what was given, byte by byte (utf8mb4_bin would take "5 " for "5"): that refuses 5.5, 1e2,
    // +5, 05 and what the cast clamps.
    fits: `CAST(CAST(${id} AS CHAR CHARACTER SET utf8mb4) AS BINARY) = CAST(v AS BINARY) AND ${id} BETWEEN ${low} AND ${high}`,
    rule: `a whole number from ${low} to ${high}`,
    asJson: '`id`',
  };
}

function decimal(precision: number, scale: number, unsigned: boolean): IdType {
  const sql = `DECIMAL(${precision},${scale})`;
  const before = precision - scale;
  const whole = before ? `(0|[1-9][0-9]{0,${before - 1}})` : '0';
  const fraction = scale ? `([.][0-9]{1,${scale}})?` : '';
  return {
    sql: unsigned ? `${sql} UNSIGNED` : sql,
    base: unsigned ? `${sql} UNSIGNED` : sql,
    id: `CAST(v AS ${sql})`,
    // MySQL reads a JSON number with a point as a DOUBLE, and digits are gone before anyone can look.
    fits: `${STRING_OR_WHOLE} AND v REGEXP '\\\\A${unsigned ? '' : '-?'}${whole}${fraction}\\\\z'`,
    rule: `${unsigned ? 'an unsigned' : 'a'} ${sql} in a JSON string, like "1${scale ? '.5' : ''}"`,
    // MariaDB's JSON_ARRAYAGG cuts "-0.99" of a DECIMAL(2,2) short, unless told that there is room for -, 0 and point.
    asJson: `CAST(\`id\` AS CHAR(${precision + 3}) CHARACTER SET utf8mb4)`,
  };
}

function text(name: string, length: number, charset?: string, collation?: string): IdType {
  const base = `${name}(${length})`;
  // A collation's name begins with its character set's; MariaDB's newer ones (uca1400_…) come with the set written out.
  const set = charset ?? (collation && !/^uca/i.test(collation) ? collation.split('_')[0] : undefined);
  const id =
    `CAST(v AS CHAR(${length})${set ? ` CHARACTER SET ${set}` : ''})` + (collation ? ` COLLATE ${collation}` : '');
  const noSpace = name === 'CHAR' ? " AND v NOT LIKE '% '" : '';
  return {
    sql: base + (set ? ` CHARACTER SET ${set}` : '') + (collation ? ` COLLATE ${collation}` : ''),
    base,
    id,
    fits:
      `${STRING_OR_WHOLE} AND CHAR_LENGTH(v) <= ${length}${noSpace}` +
      ` AND CAST(CONVERT(${id} USING utf8mb4) AS BINARY) = CAST(v AS BINARY)`,
    rule:
      `a JSON string of at most ${length} ${length === 1 ? 'character' : 'characters'}${set ? ` of ${set}` : ''}` +
      (noSpace ? ', no space at the end' : ''),
    asJson: 'CONVERT(`id` USING utf8mb4)',
  };
}

function binary(name: string, length: number): IdType {
  const sql = `${name}(${length})`;
  const exact = name === 'BINARY';
  return {
    sql,
    base: sql,
    id: 'UNHEX(v)',
    // UNHEX pads an odd number of digits.
    fits: `LEFT(j, 1) = '"' AND LENGTH(v) ${exact ? '=' : '<='} ${2 * length} AND LENGTH(v) % 2 = 0 AND UNHEX(v) IS NOT NULL`,
    rule: `a JSON string of ${exact ? '' : 'at most '}${2 * length} hex digits${exact ? '' : ', in pairs'}`,
    asJson: 'HEX(`id`)',
  };
}

function moment(sql: string, time: string, rule: string): IdType {
  const id = `CAST(v AS ${sql})`;
  return {
    sql,
    base: sql,
    id,
    fits:
      `v REGEXP '\\\\A[0-9]{4}-[0-9]{2}-[0-9]{2}${time}\\\\z' AND ` +
      `LEFT(CAST(${id} AS CHAR CHARACTER SET utf8mb4), CHAR_LENGTH(v)) COLLATE utf8mb4_bin = v`,
    rule,
    asJson: 'CAST(`id` AS CHAR CHARACTER SET utf8mb4)',
  };
}
