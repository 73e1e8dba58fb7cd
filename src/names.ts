import { shown } from './ids.js';

/** Where a loop is: its table, and its database if one was named (else the connection's). */
export interface LoopName {
  readonly database: string | undefined;
  readonly table: string;
}

/** A column of a table; its database, if one was named (else the connection's). */
export interface ColumnName extends LoopName {
  readonly column: string;
}

/**
 * A MySQL identifier has at most 64 characters, and the longest suffix of a procedure (`_unlock`), or of a trigger
 * (`_insert`), takes 7 of them.
 */
const MAX_IDENTIFIER = 64;
const MAX_TABLE = MAX_IDENTIFIER - '_unlock'.length;

const PART = /(?:`((?:[^`]|``)+)`|([^`.]+))/;
const NAME = new RegExp(`^(?:${PART.source}\\.)?${PART.source}$`, 'u');
const COLUMN = new RegExp(`^(?:${PART.source}\\.)?${PART.source}\\.${PART.source}$`, 'u');

/**
 * Reads `table` or `database.table`. A part that has a dot or a backtick in it is written in backticks, a backtick
 * inside doubled, as in SQL; all else may stand as it is.
 *
 * @throws {TypeError} if the name is not a string.
 * @throws {RangeError} if it can't be a table's name, or is too long for its procedures' names.
 */
export function parseLoopName(name: string): LoopName {
  if (typeof name !== 'string') throw new TypeError(`table: expected a string, got ${typeof name}`);
  const match = NAME.exec(name);
  if (!match) {
    throw new RangeError(
      `table: ${shown(name)} is not a table's name, like user_loop, app.user_loop or \`app\`.\`user.loop\``,
    );
  }
  const database = part(match, 1);
  const table = part(match, 3)!;
  if (database !== undefined) checkIdentifier('database', database, MAX_IDENTIFIER);
  checkIdentifier('table', table, MAX_TABLE);
  return { database, table };
}

/**
 * Reads `table.column` or `database.table.column`, its parts written as in {@link parseLoopName}.
 *
 * @param option what it was given as, for the error.
 * @throws {RangeError} if it can't be a column's name.
 */
export function parseColumnName(option: string, name: string): ColumnName {
  const match = COLUMN.exec(name);
  if (!match) {
    throw new RangeError(
      `${option}: ${shown(name)} is not a column's name, like users.id, app.users.id or \`app\`.\`users\`.\`id\``,
    );
  }
  const [database, table, column] = [part(match, 1), part(match, 3)!, part(match, 5)!];
  if (database !== undefined) checkIdentifier(`${option}: database`, database, MAX_IDENTIFIER);
  checkIdentifier(`${option}: table`, table, MAX_IDENTIFIER);
  checkIdentifier(`${option}: column`, column, MAX_IDENTIFIER);
  return { database, table, column };
}

/** What stands in backticks in a group, less their doubling; or else in the group behind it, as it is. */
function part(match: RegExpExecArray, group: number): string | undefined {
  return match[group]?.replaceAll('``', '`') ?? match[group + 1];
}

function checkIdentifier(what: string, name: string, max: number): void {
  if ([...name].length > max) {
    throw new RangeError(
      what === 'table'
        ? `table: ${shown(name)} has ${[...name].length} characters; at most ${max} leave room for the names of its procedures`
        : `${what}: ${shown(name)} has ${[...name].length} characters, more than ${max}`,
    );
  }
  // The server's own rules: no NUL, nothing outside the Basic Multilingual Plane, no space at the end. A line break is
  // legal there, but no name anyone wants in their logs.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f-\u009f]|[^\u0000-\uffff]|\p{Surrogate}|\s$/u.test(name)) {
    throw new RangeError(
      `${what}: ${shown(name)} can't be a name in MySQL: no control characters, none past U+FFFF, no space at the end`,
    );
  }
  // In /*!80000 … */ MariaDB looks for the end, and for more comments, in names, too.
  if (/\/\*|\*\//.test(name)) {
    throw new RangeError(`${what}: ${shown(name)} has /* or */ in it, the marks of a comment`);
  }
  // MySQL garbles it in the text of a procedure (4089).
  if (/`/.test(name) && /[^ -~]/.test(name)) {
    throw new RangeError(
      `${what}: ${shown(name)} has a backtick, and characters past ASCII: MySQL allows for one of them`,
    );
  }
}

/** Quotes an identifier for SQL. */
export function quoteName(identifier: string): string {
  return `\`${identifier.replaceAll('`', '``')}\``;
}

/** The quoted name of the loop's table, or with a suffix (`_add`) of one of its procedures. */
export function qualifiedName({ database, table }: LoopName, suffix = ''): string {
  const name = quoteName(table + suffix);
  return database === undefined ? name : `${quoteName(database)}.${name}`;
}

/** Quotes text as a string literal, whatever the server's sql_mode makes of backslashes. */
export function quoteText(text: string): string {
  return /^[ -[\]-~]*$/.test(text)
    ? `'${text.replaceAll("'", "''")}'`
    : `_utf8mb4 X'${Buffer.from(text).toString('hex')}'`;
}
