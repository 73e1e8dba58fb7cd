/** What the doctor's checks look at, and what they answer. */
import { type Account, quoteAccount } from '../../../src/account.js';
import { qualifiedName } from '../../../src/names.js';
import { shownLoop } from '../terminal.js';
import type { Facts } from './facts.js';

/** `problem`: calls fail or ids may be lost. `warning`: it works, but; or this account may not see whether it does. */
export type Level = 'ok' | 'warning' | 'problem';

export interface Finding {
  /** The name of the check. */
  readonly check: string;
  readonly level: Level;
  readonly text: string;
  /** What mends it, to be pasted: into a shell, or where it ends with a semicolon into the console of the server. */
  readonly cure?: string;
}

/** A finding of a check that does not know its own name. */
export type Found = Omit<Finding, 'check'>;

export interface Check {
  readonly name: string;
  /** The privilege without which it sees nothing, for people. */
  readonly needs?: string;
  /** None: there is nothing to say, since another check has said it. */
  readonly look: (facts: Facts) => Found[] | Promise<Found[]>;
}

export function ok(text: string): Found {
  return { level: 'ok', text };
}

export function warning(text: string, cure?: string): Found {
  return { level: 'warning', text, ...(cure !== undefined && { cure }) };
}

export function problem(text: string, cure?: string): Found {
  return { level: 'problem', text, ...(cure !== undefined && { cure }) };
}

/** The command that makes what is missing of a loop and replaces what is not as it should be, and may let an account call it. */
export function create({ name }: Facts, grant?: string): string {
  const words = ['npx', 'doloop', 'create', shownLoop(name), ...(grant === undefined ? [] : ['--grant', grant])];
  return words.map(inShell).join(' ');
}

export function alter({ name }: Facts, ...changes: string[]): string {
  return `ALTER TABLE ${qualifiedName(name)} ${changes.join(', ')};`;
}

function inShell(word: string): string {
  return /^[\w.%@:/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** An account as `--grant` takes it. */
export function shownAccount(account: Account): string {
  const { user, host } = account;
  return [user, host].every(part => /^[\w.%:/-]+$/.test(part)) ? `${user}@${host}` : quoteAccount(account);
}
