/** Tables of the application's that a loop takes its ids from: what `--from` and `--source` name. */
import type { Connection } from 'mysql2/promise';
import { type IdType, idOf, parseIdType } from '../../src/id-type.js';
import type { LoopId } from '../../src/index.js';
import { run } from '../../src/mysql.js';
import { type ColumnName, type LoopName, qualifiedName, quoteName, quoteText } from '../../src/names.js';
import { ID_TYPE_OF_COLUMN } from '../../src/render.js';
import { written } from './terminal.js';

/** A column of ids, as it is on the server. */
export interface Source {
  readonly name: ColumnName;
  readonly idType: IdType;
  /** An index that begins with the column, by which it is read in order. */
  readonly index: string;
  /** No id stands in two rows. */
  readonly unique: boolean;
}

/** The column's name as the command line takes it. */
export function shownColumn({ database = '', table, column }: ColumnName): string {
  return [database, table, column].map(written).join('.');
}

/** For SQL, with its table's name. */
export function qualifiedColumn(name: ColumnName): string {
  return `${qualifiedName(name)}.${quoteName(name.column)}`;
}

/**
 * Looks a column of ids up.
 *
 * @param option what it was given as, for errors.
 * @throws {Error} if it is not there, no loop can have such ids, or no index begins with it.
 */
export async function readSource(connection: Connection, option: string, name: ColumnName): Promise<Source> {
  const { database, table, column } = name;
  const refuse = (why: string): never => {
    throw new Error(`${option}: ${shownColumn(name)} ${why}`);
  };
  const { rows } = await run(
    connection,
    `SELECT \`column_name\` AS \`column\`, ${ID_TYPE_OF_COLUMN} AS \`type\`, \`table_type\` AS \`tableType\`
      FROM \`information_schema\`.\`columns\` JOIN \`information_schema\`.\`tables\` USING (\`table_schema\`, \`table_name\`)
      WHERE \`table_schema\` = ${quoteText(database!)} AND \`table_name\` = ${quoteText(table)}
        AND \`column_name\` = ${quoteText(column)}`,
  );
  const [found] = rows as { column: string; type: string; tableType: string }[];
  if (found === undefined) return refuse('is not there, or this account has no SELECT on it');
  if (found.tableType !== 'BASE TABLE') return refuse(`is of a ${found.tableType}, not of a table`);
  const indexes = await indexesOf(connection, name);
  const index = indexes.find(({ columns }) => columns[0] === found.column);
  if (index === undefined) {
    return refuse(`has no index; CREATE INDEX ${quoteName(column)} ON ${qualifiedName(name)} (${quoteName(column)})`);
  }
  return {
    name: { ...name, column: found.column },
    idType: possibleType(found.type) ?? refuse(`is ${found.type}, which ids can't be`),
    index: index.name,
    unique: indexes.some(({ unique, columns }) => unique && columns.length === 1 && columns[0] === found.column),
  };
}

function possibleType(written: string): IdType | undefined {
  try {
    return parseIdType(written);
  } catch {
    return undefined;
  }
}

interface Index {
  name: string;
  unique: boolean;
  /** In order, down to the first of which it has a part alone. */
  columns: string[];
}

/** The table's indexes in which values stand in order. */
async function indexesOf(connection: Connection, table: LoopName): Promise<Index[]> {
  const { rows } = await run(connection, `SHOW INDEX FROM ${qualifiedName(table)}`);
  const indexes = new Map<string, Index>();
  for (const row of rows) {
    // MySQL says which are invisible to it, MariaDB which are ignored.
    if (row.Index_type !== 'BTREE' || row.Visible === 'NO' || row.Ignored === 'YES') continue;
    const name = row.Key_name as string;
    const index = indexes.get(name) ?? { name, unique: row.Non_unique === 0, columns: [] };
    // An expression, or the beginning of a text, is none of its columns.
    index.columns.push(row.Sub_part === null ? ((row.Column_name as string | null) ?? '') : '');
    indexes.set(name, index);
  }
  return [...indexes.values()];
}

/** About how many rows the source has, by the server's own estimate. */
export async function estimateRows(connection: Connection, source: Source): Promise<number | undefined> {
  const column = qualifiedColumn(source.name);
  const { rows } = await run(connection, `EXPLAIN FORMAT=TRADITIONAL SELECT ${column} FROM ${byIndex(source)}`);
  return rows[0]?.rows === null ? undefined : Number(rows[0]?.rows);
}

/** The source behind FROM or JOIN, so that the server reads it by the index, whatever else it is asked. */
export function byIndex({ name, index }: Source): string {
  return `${qualifiedName(name)} FORCE INDEX (${quoteName(index)})`;
}

/** How many rows are looked at in one query. */
export const PAGE = 10_000;

/**
 * Reads a column in its order, so many rows at a time, each page by itself: no transaction, so that no snapshot is held.
 *
 * @param idsIn makes the query for the ids of a page, given the SQL of its range.
 */
export async function* pages(
  connection: Connection,
  source: Source,
  idsIn: (range: string) => string,
): AsyncGenerator<LoopId[]> {
  const column = qualifiedColumn(source.name);
  // A range ends with all of the values that the column's collation takes for one.
  const [, characterSet, collation] = / CHARACTER SET (\w+) COLLATE (\w+)$/.exec(source.idType.sql) ?? [];
  const exact = characterSet === undefined ? column : `CAST(${column} AS BINARY)`;
  let rest = `${column} IS NOT NULL`;
  for (;;) {
    const end = await run(
      connection,
      `SELECT ${exact} AS \`id\` FROM ${byIndex(source)} WHERE ${rest} ORDER BY ${column} LIMIT 1 OFFSET ${PAGE - 1}`,
    );
    const [last] = end.rows;
    const literal =
      last &&
      (characterSet === undefined
        ? idOf(source.idType, textOf(last.id as LoopId))
        : `_${characterSet} X'${textOf(last.id as LoopId)}' COLLATE ${collation}`);
    const { rows } = await run(connection, idsIn(last ? `${rest} AND ${column} <= ${literal}` : rest));
    yield rows.map(({ id }) => id as LoopId);
    if (!last) return;
    rest = `${column} > ${literal}`;
  }
}

/** An id as {@link idOf} reads it. */
export function textOf(id: LoopId): string {
  return Buffer.isBuffer(id) ? id.toString('hex') : String(id);
}
