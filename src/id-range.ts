/** Which ids another column's type can have: whether a loop can hold them all, and find them by its key. */
import { type IdType, INTEGER_BITS } from './id-type.js';

/** {@link IdType.sql}, taken apart. */
const SPELLED = /^(\w+)(?:\((\d+)(?:,(\d+))?\))?( UNSIGNED)?( CHARACTER SET .*)?$/;

/** Numbers by their bounds and their digits after the point; what else decides which ids a type can have. */
interface Range {
  family: 'number' | 'text' | 'binary' | 'moment';
  low: bigint;
  high: bigint;
  digits: number;
  /** Of text: its character set and its collation. */
  collation: string | undefined;
}

function rangeOf({ sql }: IdType): Range {
  const [, name, first, second, unsigned, collation] = SPELLED.exec(sql)!;
  const size = BigInt(first ?? 0);
  const range = (family: Range['family'], low: bigint, high: bigint, digits = 0) => ({
    ...{ family, low, high, digits, collation },
  });
  switch (name) {
    case 'CHAR':
      return range('text', 1n, size); // loses blanks at the end
    case 'VARCHAR':
      return range('text', 0n, size);
    case 'BINARY':
      return range('binary', size, size); // shorter ones are padded
    case 'VARBINARY':
      return range('binary', 0n, size);
    case 'DATE':
      return range('moment', 0n, 0n);
    case 'DATETIME':
      return range('moment', 0n, 1n, Number(size));
    case 'DECIMAL': {
      const digits = Number(second);
      const high = 10n ** (size - BigInt(digits)) - 1n;
      return range('number', unsigned ? 0n : -high, high, digits);
    }
    default: {
      const bits = INTEGER_BITS[name!]!;
      return unsigned
        ? range('number', 0n, 2n ** bits - 1n)
        : range('number', -(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n);
    }
  }
}

/** Whether the server compares ids of both types exactly, and by an index on either. */
export function comparable(one: IdType, other: IdType): boolean {
  const [a, b] = [rangeOf(one), rangeOf(other)];
  return a.family === b.family && a.collation === b.collation;
}

/** Whether each id of the narrower type is one of the wider, too. Text of one collation alone: equal in both, or in none. */
export function holds(wider: IdType, narrower: IdType): boolean {
  const [a, b] = [rangeOf(wider), rangeOf(narrower)];
  return comparable(wider, narrower) && a.low <= b.low && a.high >= b.high && a.digits >= b.digits;
}
