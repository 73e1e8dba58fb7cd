/** `doloop fill`: millions of ids into a loop, from a table or from standard input; what is gone there goes here, too. */
import type { Command } from 'commander';
import type { Connection } from 'mysql2/promise';
import { echo } from 'zx';
import { comparable } from '../../src/id-range.js';
import { idOf } from '../../src/id-type.js';
import { DoLoop, type LoopId } from '../../src/index.js';
import { run } from '../../src/mysql.js';
import { type ColumnName, parseColumnName } from '../../src/names.js';
import {
  connected,
  connecting,
  examples,
  type Flags,
  inDatabase,
  loopNamed,
  UsageError,
  understood,
  untilSignalled,
} from './command.js';
import { idsOf } from './ids.js';
import { startProgress } from './progress.js';
import {
  byIndex,
  estimateRows,
  PAGE,
  pages,
  qualifiedColumn,
  readSource,
  type Source,
  shownColumn,
  textOf,
} from './source.js';
import { count, many, shownLoop, tell } from './terminal.js';

export function addFill(program: Command): void {
  connecting(
    program
      .command('fill')
      .description(
        'put ids into a loop, from a table or from standard input (one a line); those already in stay as they are',
      )
      .argument('<table>', 'the loop: user_loop or app.user_loop')
      .option('--from <column>', 'a column with an index, like users.id or app.users.id; NULLs are left out')
      .option('--where <sql>', 'only ids of the rows that fulfil this, like "closed_at IS NULL"')
      .option('--prune', 'then take out ids that have no such row (any more); needs SELECT on both tables')
      .action(fill)
      .addHelpText(
        'after',
        examples(
          'fill user_loop --from users.id',
          'fill user_loop --from users.id --where "closed_at IS NULL" --prune',
          'fill user_loop < ids.txt',
        ),
      ),
  );
}

interface FillFlags extends Flags {
  from?: string;
  where?: string;
  prune?: true;
}

/** What is being done, and what was. */
interface Filling {
  readonly connection: Connection;
  readonly loop: DoLoop<LoopId>;
  /** The loop's name, for people. */
  readonly shown: string;
  /** Given to end it: after the page at hand. */
  readonly signal: AbortSignal;
  readonly done: { read: number; added: number; removed: number };
}

async function fill(table: string, options: FillFlags): Promise<void> {
  loopNamed(table);
  const { from, where, prune } = options;
  const column = from === undefined ? undefined : understood(() => parseColumnName('from', from));
  if (column === undefined) {
    if (where !== undefined || prune) throw new UsageError(`--${prune ? 'prune' : 'where'} needs --from`);
    if (process.stdin.isTTY) throw new UsageError('where from? Give --from COLUMN, or ids on standard input');
  }
  await connected(options, connection =>
    untilSignalled(async signal => {
      const name = inDatabase(connection, table);
      const loop = new DoLoop<LoopId>(connection, table);
      await loop.add([]); // is it one, and may we?
      const filling = { connection, loop, shown: shownLoop(name), signal, done: { read: 0, added: 0, removed: 0 } };
      let whole = false;
      try {
        if (column === undefined) {
          await add(filling, idsOf(process.stdin, PAGE, signal));
        } else {
          const database = column.database ?? connection.config.database ?? name.database;
          const source = await readSource(connection, 'from', { ...column, database });
          const ours = prune && (await readOurs(connection, { ...name, column: 'id' }, source));
          await add(
            filling,
            pages(connection, source, range => idsIn(source, range, where)),
            await estimateRows(connection, source),
          );
          if (ours && !signal.aborted) await takeOut(filling, ours, source, where);
        }
        whole = true;
      } finally {
        if (whole || filling.done.read > 0) report(filling, options);
      }
      if (signal.aborted) tell('stopped early: what was done stays, and the same command begins anew');
    }),
  );
}

function report({ shown, done }: Filling, { json, prune }: FillFlags): void {
  if (json) echo(JSON.stringify(done));
  else {
    const removed = prune ? `, ${count(done.removed)} removed` : '';
    echo(`${shown}: ${many(done.read, 'id')} read, ${count(done.added)} added${removed}`);
  }
}

/** Adds ids page by page; of rows, a page stands for PAGE of them, though few may have ids. */
async function add(
  { loop, shown, signal, done }: Filling,
  pieces: AsyncIterable<LoopId[]>,
  rows?: number,
): Promise<void> {
  const progress = startProgress(shown, rows === undefined ? 'ids' : 'rows', rows);
  try {
    for await (const ids of pieces) {
      if (signal.aborted) return;
      done.added += await loop.add(ids);
      done.read += ids.length;
      progress.step(rows === undefined ? ids.length : PAGE);
    }
  } finally {
    progress.stop();
  }
}

/** The ids of a range, each once, down to the bytes: what is one text to the source's collation may be two to the loop's. */
function idsIn(source: Source, range: string, where: string | undefined): string {
  const column = qualifiedColumn(source.name);
  return `SELECT MIN(${column}) AS \`id\` FROM ${byIndex(source)}
    WHERE ${range}${fulfilling(where)} GROUP BY CAST(${column} AS BINARY)`;
}

/** The condition on a line of its own, lest it end in a comment. */
function fulfilling(where: string | undefined): string {
  return where === undefined ? '' : ` AND (\n${where}\n)`;
}

/** The loop's own column of ids, if it can be compared with the source. */
async function readOurs(connection: Connection, name: ColumnName, source: Source): Promise<Source> {
  const ours = await readSource(connection, 'prune', name);
  if (comparable(ours.idType, source.idType)) return ours;
  throw new Error(
    `prune: ids of ${ours.idType.sql} can't be compared with ${shownColumn(source.name)}, which is ${source.idType.sql}`,
  );
}

/** Takes ids out that have no row in the source, or none that fulfils the condition. */
async function takeOut(filling: Filling, ours: Source, source: Source, where: string | undefined): Promise<void> {
  const { connection, loop, shown, signal, done } = filling;
  if (done.read === 0) throw new Error(`prune: no id was read from ${shownColumn(source.name)}; nothing was removed`);
  const column = qualifiedColumn(source.name);
  const without = (range: string) =>
    `SELECT \`doloop_id\` AS \`id\`
      FROM (SELECT \`id\` AS \`doloop_id\` FROM ${byIndex(ours)} WHERE ${range}) AS \`doloop_page\`
      LEFT JOIN ${byIndex(source)} ON ${column} = \`doloop_id\`${fulfilling(where)}
      WHERE ${column} IS NULL`;
  const progress = startProgress(shown, 'ids looked at', await estimateRows(connection, ours));
  try {
    for await (const ids of pages(connection, ours, without)) {
      if (signal.aborted) return;
      if (ids.length > 0) {
        await run(connection, 'SET TRANSACTION ISOLATION LEVEL READ COMMITTED');
        await run(connection, 'START TRANSACTION');
        // A row may have come meanwhile. Adding what is in changes nothing, but locks it: who adds one of these ids now
        // waits until it is out, and what was added before has its row, which is looked for once more.
        await loop.add(ids);
        const { rows } = await run(
          connection,
          without(`\`id\` IN (${ids.map(id => idOf(ours.idType, textOf(id))).join(', ')})`),
        );
        done.removed += await loop.remove(rows.map(({ id }) => id as LoopId));
        await run(connection, 'COMMIT');
      }
      progress.step(PAGE);
    }
  } finally {
    progress.stop();
  }
}
