import { shown } from './ids.js';
import { quoteName } from './names.js';

/** An account of the server. */
export interface Account {
  readonly user: string;
  readonly host: string;
}

const PART = /'((?:[^']|'')*)'|`((?:[^`]|``)*)`|([\w$.%:/-]+)/;
const ACCOUNT = new RegExp(`^(?:${PART.source})(?:@(?:${PART.source}))?$`, 'u');

/**
 * Reads an account as one would write it in GRANT: `'app'@'%'`, `app@localhost`, or `app` for `'app'@'%'`.
 *
 * @throws {RangeError} if it is none.
 */
export function parseAccount(written: string): Account {
  const match = ACCOUNT.exec(written);
  if (!match) throw new RangeError(`grant: ${shown(written)} is not an account, like 'app'@'%'`);
  const part = (i: number) => match[i]?.replaceAll("''", "'") ?? match[i + 1]?.replaceAll('``', '`') ?? match[i + 2];
  return { user: part(1)!, host: part(4) ?? '%' };
}

/** Quotes an account for SQL: as identifiers, which no sql_mode reads in another way. */
export function quoteAccount({ user, host }: Account): string {
  return `${quoteName(user)}@${quoteName(host)}`;
}
