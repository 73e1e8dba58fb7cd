/** Loops come and go: `doloop create` makes them in a database, `sql` writes the same as text, `drop` and `list`. */
import type { Command } from 'commander';
import { echo } from 'zx';
import { parseAccount } from '../../src/account.js';
import { type CreateOptions, create, drop, list, type SqlOptions, scriptForCreate } from '../../src/index.js';
import { connectionSettings, place } from '../connect.js';
import {
  connected,
  connecting,
  examples,
  type Flags,
  inDatabase,
  loopNamed,
  NO_DATABASE,
  UsageError,
  understood,
  uninterrupted,
} from './command.js';
import { ask, type Column, shownLoop, tell, writeTable, written } from './terminal.js';

export function addSetup(program: Command): void {
  connecting(
    program
      .command('create')
      .description('make loops, each a table and its procedures; over what is there: upgrade it, change nothing else')
      .argument(
        '<table...>',
        "user_loop or app.user_loop; a table of the original's shape is adopted with all its rows",
      )
      .option('-i, --id-type <type>', 'type of the ids, as in CREATE TABLE (default: INT, or what the table has)')
      .option('-e, --engine <engine>', 'storage engine (default: InnoDB, or what the table has)')
      .option('--grant <account>', 'let this account call the procedures, nothing else; may be given again', append)
      .action(createLoops)
      .addHelpText(
        'after',
        examples('create user_loop', `create app.user_loop --id-type 'CHAR(64) CHARSET ascii' --grant "'app'@'%'"`),
      ),
  );
  program
    .command('sql')
    .description(
      'write what create does as SQL: one text for the consoles of MySQL and MariaDB, to be run again at will',
    )
    .argument('<table...>', 'user_loop or app.user_loop')
    .option('-i, --id-type <type>', 'type of the ids, as in CREATE TABLE (default: INT)')
    .option('-e, --engine <engine>', 'storage engine (default: InnoDB)')
    .action(writeSql)
    .addHelpText('after', examples('sql user_loop | mysql -D app', "sql user_loop -i 'VARCHAR(64)' | mariadb app"));
  connecting(
    program
      .command('drop')
      .description("take a loop's procedures away, and with --table its rows, too")
      .argument('<table>', 'user_loop or app.user_loop')
      .option('--table [table]', 'drop the table, too: its name again; on a terminal it is asked for')
      .action(dropLoop)
      .addHelpText('after', examples('drop user_loop', 'drop user_loop --table user_loop')),
  );
  connecting(
    program
      .command('list')
      .description('list the loops of a database')
      .action(listLoops)
      .addHelpText('after', examples('list -D app', 'list --url mysql://root@localhost/app --json')),
  );
}

async function createLoops(tables: string[], options: Flags & CreateOptions): Promise<void> {
  checkTables(tables, options);
  understood(() => options.grant?.forEach(parseAccount));
  await connected(options, async connection => {
    const done: object[] = [];
    const createOne = async (table: string) => {
      const name = inDatabase(connection, table);
      const { table: state, procedures, warnings } = await create(connection, table, options);
      const outcome = state !== 'kept' ? state : procedures.length > 0 ? 'upgraded' : 'up to date';
      done.push({ ...name, outcome, procedures, warnings });
      for (const warning of warnings) tell(`${shownLoop(name)}: ${warning}`);
      if (!options.json) echo(`${shownLoop(name)}: ${[outcome, ...counted(procedures)].join(', ')}`);
    };
    try {
      for (const table of tables) await uninterrupted(connection, options, () => createOne(table));
    } finally {
      if (options.json) echo(JSON.stringify(done));
    }
  });
}

function counted({ length }: string[]): string[] {
  return length === 0 ? [] : [`${length} ${length === 1 ? 'procedure' : 'procedures'}`];
}

function writeSql(tables: string[], options: SqlOptions): void {
  checkTables(tables, options);
  process.stdout.write(tables.map(table => scriptForCreate(table, options)).join('\n'));
}

async function dropLoop(table: string, options: Flags & { table?: string | true }): Promise<void> {
  loopNamed(table);
  const withTable = options.table !== undefined;
  if (withTable) await confirm(table, options);
  await connected(options, connection =>
    uninterrupted(connection, options, async () => {
      const name = inDatabase(connection, table);
      await drop(connection, table, { table: withTable });
      if (options.json) echo(JSON.stringify({ ...name, tableDropped: withTable }));
      else echo(`${shownLoop(name)}: procedures dropped, table ${withTable ? 'dropped' : 'kept'}`);
    }),
  );
}

/** Rows can't be brought back: their table's name has to be given twice. */
async function confirm(name: string, options: Flags & { table?: string | true }): Promise<void> {
  if (options.table === name) return;
  if (options.table !== true || !process.stdin.isTTY || !process.stderr.isTTY) {
    throw new UsageError(`--table has to repeat the name: --table ${name}; nothing was dropped`);
  }
  const at = place(connectionSettings(options));
  const answer = await ask(`Drop ${name} with all its rows, at ${at}? Type its name: `);
  if (answer !== name) throw new Error('its name was not repeated; nothing was dropped');
}

const COLUMNS: Column[] = [
  { title: 'table' },
  { title: 'rows', align: 'right' },
  { title: 'version' },
  { title: 'id type' },
];

async function listLoops(options: Flags): Promise<void> {
  await connected(options, async connection => {
    const { database } = connection.config;
    if (database === undefined) throw new Error(NO_DATABASE);
    const loops = await list(connection);
    if (options.json) echo(JSON.stringify(loops.map(loop => ({ database, ...loop }))));
    else if (loops.length === 0) tell(`${database} has no loops`);
    else
      writeTable(
        COLUMNS,
        loops.map(({ table, rows, version, idType }) => [written(table), `${rows}`, version, idType]),
      );
  });
}

function append(value: string, values: string[] = []): string[] {
  return [...values, value];
}

function checkTables(tables: string[], options: SqlOptions = {}): void {
  for (const table of tables) {
    loopNamed(table);
    understood(() => scriptForCreate(table, options));
  }
}
