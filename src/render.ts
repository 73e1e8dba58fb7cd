import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IdType } from './id-type.js';
import { type ColumnName, type LoopName, qualifiedName, quoteName, quoteText } from './names.js';

/** The procedures of a loop, each in its file in sql/, in the order of the contract's table. */
export const PROCEDURES = [
  'add',
  'remove',
  'get',
  'did',
  'unlock',
  'bump',
  'extend',
  'fail',
  'check',
  'stats',
  'next',
] as const;
export type Procedure = (typeof PROCEDURES)[number];

export interface Loop {
  readonly name: LoopName;
  readonly idType: IdType;
  readonly engine: string;
}

const ROOT = new URL('../../', import.meta.url);

function read(path: string): string {
  return readFileSync(new URL(path, ROOT), 'utf8');
}

/** The version of this package, which every procedure's comment carries. */
export const VERSION: string = (JSON.parse(read('package.json')) as { version: string }).version;

/** The settings under which routines are made, since a routine keeps them: the text means the same for every installer. */
export const SQL_MODE =
  'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION';

/**
 * What changes a table, a procedure or a trigger has to wait until no transaction uses it, and all others wait behind it:
 * not for longer than this, s.
 */
export const LOCK_WAIT = 10;

/** A file in sql/ with the parts it shares with others put in: `-- {{part}}` lines, `` `{{part}}` `` derived tables. */
function assemble(file: string): string {
  return putParts(read(`sql/${file}.sql`));
}

function putParts(text: string): string {
  const put = (before: string, part: string) =>
    before + assemble(part).replaceAll(/\n(?=.)/g, `\n${/^ */.exec(before)![0]}`);
  return text
    .trimEnd()
    .replaceAll(/^( *)-- \{\{(\w+)\}\}$/gm, (_, indent: string, part: string) => put(indent, part))
    .replaceAll(/^(.*)`\{\{(sorted_ids|id_type_of_column)\}\}`/gm, (_, before: string, part: string) =>
      put(before, part),
    );
}

/** SQL for the type of an id column, spelled as doloop spells id types; over information_schema.columns. */
export const ID_TYPE_OF_COLUMN: string = assemble('id_type_of_column');

/** The text of a file in sql/ for one loop. */
function render(file: string, { name, idType, engine }: Loop, version: string): string {
  const values: Record<string, string> = {
    '`{{id}}`': idType.id,
    '`{{id_fits}}`': `COALESCE(${idType.fits}, FALSE)`,
    '`{{id_as_json}}`': idType.asJson,
    "'{{id_rule}}'": quoteText(idType.rule),
    "'{{id_base}}'": quoteText(idType.base),
    '{{id_type}}': idType.sql,
    '{{engine}}': engine,
    '{{loop}}': name.table.replaceAll('`', '``'),
    "'{{loop}}'": quoteText(name.table),
    '{{version}}': version,
  };
  // One pass: what a name puts in is never read again.
  return assemble(file).replaceAll(/`\{\{id\w*\}\}`|'\{\{(?:id\w*|loop)\}\}'|\{\{\w+\}\}/g, found => values[found]!);
}

/** How table.sql defines each of a loop's columns: a type and what follows it, by name. */
export function columnDefinitions(loop: Loop): ReadonlyMap<string, string> {
  return new Map(
    [...render('table', loop, VERSION).matchAll(/^ {4}`(\w+)` +(.*),$/gm)].map(([, name, definition]) => [
      name!,
      definition!,
    ]),
  );
}

/** What a procedure's comment gives as its version. Behind the + is a digest of its text, which differs by id type, too. */
export function procedureVersion(file: string, loop: Loop): string {
  return `${VERSION}+${createHash('sha256')
    .update(render(file, loop, VERSION))
    .digest('hex')
    .slice(0, 8)}`;
}

/** CREATE PROCEDURE as its file has it, its name with the database's, able to be run again on MariaDB. */
function createProcedure(file: string, loop: Loop): string {
  return render(file, loop, procedureVersion(file, loop)).replace(
    /^CREATE PROCEDURE `(?:[^`]|``)+`/,
    () => `CREATE /*M! OR REPLACE */ PROCEDURE ${qualifiedName(loop.name, `_${file}`)}`,
  );
}

/**
 * DROP PROCEDURE, run by MySQL alone: MariaDB replaces a procedure in one step, which keeps its grants, and reads this
 * as a comment.
 */
function dropOnMySql(file: string, loop: Loop): string {
  return `/*!80000 DROP PROCEDURE IF EXISTS ${qualifiedName(loop.name, `_${file}`)} */`;
}

/**
 * The settings that a routine keeps from its making, so that the same text means the same for every installer. Text
 * without a character set of its own is then compared as the database's, as the ids of such a column are. (No SQLSTATE
 * can be written in UCS-2, UTF-16 and UTF-32: where these are the database's, text needs its own.)
 */
export function settings({ database }: LoopName): { set: string; restore: string } {
  const schema = database === undefined ? 'DATABASE()' : quoteText(database);
  return {
    set:
      'SET @doloop_sql_mode = @@sql_mode, @doloop_collation = @@collation_connection, ' +
      '@doloop_max_len = @@group_concat_max_len, @doloop_limit = @@sql_select_limit, ' +
      `@doloop_lock_wait_timeout = @@lock_wait_timeout, lock_wait_timeout = ${LOCK_WAIT}, ` +
      `sql_mode = _utf8mb4 '${SQL_MODE}', group_concat_max_len = 65536, sql_select_limit = 18446744073709551615, ` +
      "collation_connection = COALESCE((SELECT IF(`default_character_set_name` IN ('ucs2', 'utf16', 'utf16le', 'utf32'), " +
      "'utf8mb4_general_ci', `default_collation_name`) FROM `information_schema`.`schemata` " +
      `WHERE \`schema_name\` = ${schema}), @@collation_connection)`,
    restore:
      'SET sql_mode = @doloop_sql_mode, collation_connection = @doloop_collation, ' +
      'group_concat_max_len = @doloop_max_len, sql_select_limit = @doloop_limit, ' +
      'lock_wait_timeout = @doloop_lock_wait_timeout',
  };
}

/**
 * Makes the table, or turns one of the original's shape into a loop; refuses (45000) any other, and says why. `cleanUp`
 * belongs behind it, whether it went well or not.
 */
export function tableStatements(loop: Loop): { prepare: string[]; make: string[]; cleanUp: string } {
  const adopt = qualifiedName(loop.name, '_adopt');
  return {
    prepare: [`DROP PROCEDURE IF EXISTS ${adopt}`, createProcedure('adopt', loop)],
    make: [render('table', loop, VERSION).replace(/`(?:[^`]|``)+`/, () => qualifiedName(loop.name)), `CALL ${adopt}()`],
    cleanUp: `DROP PROCEDURE IF EXISTS ${adopt}`,
  };
}

/** Makes one procedure, or replaces it. */
export function procedureStatements(loop: Loop, procedure: Procedure): string[] {
  return [dropOnMySql(procedure, loop), createProcedure(procedure, loop)];
}

/** All that makes a loop, one statement each, for any connection: the same text for MySQL and MariaDB. */
export function statements(loop: Loop): string[] {
  const { set, restore } = settings(loop.name);
  const { prepare, make, cleanUp } = tableStatements(loop);
  return [
    set,
    ...prepare,
    ...make,
    cleanUp,
    ...PROCEDURES.flatMap(procedure => procedureStatements(loop, procedure)),
    restore,
  ];
}

/** The same as a script for the `mysql` and the `mariadb` console. */
export function script(loop: Loop): string {
  const name = qualifiedName(loop.name);
  return consoleScript(
    `the loop ${name}, ids: ${loop.idType.sql}. Run again, it upgrades the procedures and keeps the rest.`,
    statements(loop),
  );
}

/** Statements as a script for the console, what it does at its head: in one line, since a name may have others in it. */
export function consoleScript(title: string, all: readonly string[]): string {
  return [
    `-- doloop ${VERSION}: ${title.replaceAll(/\s+/g, ' ')}`,
    'SET NAMES utf8mb4;',
    'DELIMITER $$',
    ...all.map(statement => `${statement}$$`),
    'DELIMITER ;',
    '',
  ].join('\n\n');
}

/**
 * The events of a source for which a loop that follows it has a trigger, in the order in which these are made: no row
 * joins the loop before its going would be seen.
 */
export const TRIGGERS = ['delete', 'update', 'insert'] as const;
export type Trigger = (typeof TRIGGERS)[number];

/** The label of a trigger's body, by which doloop knows its own: a trigger has no comment, and consoles may strip those inside. */
export const TRIGGER_LABEL = 'doloop_follow';

/** A loop that follows a column of the application's, by triggers on its table. */
export interface Following {
  /** The loop, with its database: the source may be in another. */
  readonly loop: LoopName;
  readonly source: ColumnName;
  /** The columns of the source whose change bumps the row's id; text is compared by its bytes, whatever its collation. */
  readonly bumpOn: readonly { readonly column: string; readonly isText: boolean }[];
}

/** The name of a trigger of a loop, quoted, with the database of the table that it is on. */
export function triggerName(loop: LoopName, { database }: LoopName, trigger: Trigger): string {
  return qualifiedName({ database, table: loop.table }, `_${trigger}`);
}

/** CREATE TRIGGER as its file has it. */
export function createTrigger({ loop, source, bumpOn }: Following, trigger: Trigger): string {
  const changed = bumpOn.map(({ column, isText }) => {
    const [now, before] = ['NEW', 'OLD'].map(row => {
      const value = `${row}.${quoteName(column)}`;
      return isText ? `CAST(${value} AS BINARY)` : value;
    });
    return `NOT (${now} <=> ${before})`;
  });
  const values: Record<string, string> = {
    [`\`{{loop}}_${trigger}\``]: triggerName(loop, source, trigger),
    // In one database it goes without its name, so that a dump can be restored into another.
    '`{{loop}}`': qualifiedName(loop.database === source.database ? { ...loop, database: undefined } : loop),
    '`{{source}}`': qualifiedName(source),
    '`{{source_id}}`': quoteName(source.column),
    '`{{changed}}`': changed.join(' OR '),
  };
  const text = read(`sql/follow_${trigger}.sql`).replace(/^ *-- \{\{follow_bump\}\}\n/m, found =>
    changed.length > 0 ? found : '',
  );
  return putParts(text).replaceAll(/`\{\{\w+\}\}\w*`/g, found => values[found]!);
}
