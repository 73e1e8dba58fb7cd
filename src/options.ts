/** The options of the client's methods: each checked before anything is sent. */
import type { Argument } from './call.js';
import { shown, visible } from './ids.js';

/**
 * Throws for what can't be the value of the option of this name: a TypeError or a RangeError that names both, and the
 * rule.
 */
export type Check = (name: string, value: unknown) => void;

/** Checks each option that is given; what is missing, or undefined, is null: the procedure's default. */
export function checked<Name extends string>(options: object, checks: Record<Name, Check>): Record<Name, Argument> {
  if (typeof options !== 'object' || options === null)
    throw new TypeError(`options: ${shown(options)} is not an object`);
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(checks, name)) {
      throw new TypeError(`options: ${visible(name.slice(0, 100))} is none of ${Object.keys(checks).join(', ')}`);
    }
  }
  const values = {} as Record<Name, Argument>;
  for (const name of Object.keys(checks) as Name[]) {
    const value = (options as Record<Name, unknown>)[name] ?? null;
    if (value !== null) checks[name](name, value);
    values[name] = value as Argument;
  }
  return values;
}

/** The options that are given, checked. */
export function given<Options extends object>(options: Options, checks: Record<keyof Options, Check>): Options {
  checked(options, checks as Record<string, Check>);
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined && value !== null),
  ) as Options;
}

export const isFlag: Check = (name, value) => {
  if (typeof value !== 'boolean') throw new TypeError(`${name}: ${shown(value)} is not true or false`);
};

function isWhole(low: number, high: number, what: string): Check {
  return (name, value) => {
    if (typeof value !== 'number') throw new TypeError(`${name}: ${shown(value)} is not a number`);
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new RangeError(`${name}: ${value} is not ${what}`);
    }
  };
}

const SECONDS = 2_147_483_647;

const secondsFrom = (low: number): Check => isWhole(low, SECONDS, `a number of seconds from ${low} to ${SECONDS}`);
export const isOffset = secondsFrom(-SECONDS);
export const isSeconds = secondsFrom(0);
export const isDuration = secondsFrom(1);

const { MIN_SAFE_INTEGER: MIN, MAX_SAFE_INTEGER: MAX } = Number;
export const isCount = isWhole(0, MAX, 'a whole number from 0 up');
export const isLease = isWhole(MIN, MAX, `a whole number from ${MIN} to ${MAX}`);

export const isSome = isWhole(1, MAX, 'a whole number from 1 up');

export const isThresholds: Check = (name, value) => {
  if (!Array.isArray(value)) throw new TypeError(`${name}: ${shown(value)} is not an array of numbers of seconds`);
  for (const threshold of value) isSeconds(name, threshold);
};

export const isSignal: Check = (name, value) => {
  if (!(value instanceof AbortSignal)) throw new TypeError(`${name}: ${shown(value)} is not an AbortSignal`);
};

export const isFunction: Check = (name, value) => {
  if (typeof value !== 'function') throw new TypeError(`${name}: ${shown(value)} is not a function`);
};
