#!/usr/bin/env node
/**
 * The setup script: `doloop create` makes loops in a database, `sql` writes the same as text, `drop` and `list` stand
 * beside them. Results go to standard output, what is said to people to standard error.
 *
 * It exits with 0: done; 1: refused or failed; 2: wrong usage, and nothing was begun. Ended by a signal, it ends as any
 * program does (130 to a shell after Ctrl-C).
 */
import { once } from 'node:events';
import { Command, CommanderError, Option } from 'commander';
import type { Connection } from 'mysql2/promise';
import { chalk, echo, question } from 'zx';
import { parseAccount } from '../src/account.js';
import { type CreateOptions, create, drop, list, type SqlOptions, scriptForCreate } from '../src/index.js';
import { type LoopName, parseLoopName, quoteName } from '../src/names.js';
import { VERSION } from '../src/render.js';
import { type ConnectOptions, connect, connectionSettings, place } from './connect.js';

interface Flags extends ConnectOptions {
  json?: true;
}

const program = new Command('doloop')
  .description('Sets up loops, which keep millions of things fresh, on MySQL and MariaDB.')
  .version(VERSION)
  .exitOverride()
  .configureOutput({ outputError: text => tell(withoutSecrets(text.replace(/^error: /, ''))) })
  .addHelpText('after', examples('create user_loop', 'sql user_loop | mysql -D app', 'help create'));

connecting(
  program
    .command('create')
    .description('make loops, each a table and its procedures; over what is there: upgrade it, change nothing else')
    .argument('<table...>', "user_loop or app.user_loop; a table of the original's shape is adopted with all its rows")
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
  .description('write what create does as SQL: one text for the consoles of MySQL and MariaDB, to be run again at will')
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

/** What every command has that connects. */
function connecting(command: Command): void {
  command.option('--json', 'for machines: one JSON value on standard output');
  const url = new Option('--url <url>', 'mysql://user:password@host:port/database (default: MYSQL_URL, DATABASE_URL)');
  const file = new Option(
    '--defaults-file <file>',
    'the only option file to read (default: those of the mysql console)',
  );
  const database = new Option(
    '-D, --database <name>',
    'the database (default: the one in the URL or the option files)',
  );
  for (const option of [url.conflicts('defaultsFile'), file, database]) {
    command.addOption(option.helpGroup('Connection:'));
  }
}

async function createLoops(tables: string[], options: Flags & CreateOptions): Promise<void> {
  understood(() => {
    checkTables(tables, options);
    options.grant?.forEach(parseAccount);
  });
  await connected(options, async connection => {
    const done: object[] = [];
    const createOne = async (table: string) => {
      const name = inDatabase(connection, table);
      const { table: state, procedures, warnings } = await create(connection, table, options);
      const outcome = state !== 'kept' ? state : procedures.length > 0 ? 'upgraded' : 'up to date';
      done.push({ ...name, outcome, procedures, warnings });
      for (const warning of warnings) tell(`${shown(name)}: ${warning}`);
      if (!options.json) echo(`${shown(name)}: ${[outcome, ...counted(procedures)].join(', ')}`);
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
  understood(() => checkTables(tables, options));
  process.stdout.write(tables.map(table => scriptForCreate(table, options)).join('\n'));
}

async function dropLoop(table: string, options: Flags & { table?: string | true }): Promise<void> {
  understood(() => checkTables([table]));
  const withTable = options.table !== undefined;
  if (withTable) await confirm(table, options);
  await connected(options, connection =>
    uninterrupted(connection, options, async () => {
      const name = inDatabase(connection, table);
      await drop(connection, table, { table: withTable });
      if (options.json) echo(JSON.stringify({ ...name, tableDropped: withTable }));
      else echo(`${shown(name)}: procedures dropped, table ${withTable ? 'dropped' : 'kept'}`);
    }),
  );
}

/** Rows can't be brought back: their table's name has to be given twice. */
async function confirm(name: string, options: Flags & { table?: string | true }): Promise<void> {
  if (options.table === name) return;
  if (options.table !== true || !process.stdin.isTTY || !process.stderr.isTTY) {
    program.error(`--table has to repeat the name: --table ${name}; nothing was dropped`);
  }
  const at = place(connectionSettings(options));
  const asked = question(`Drop ${name} with all its rows, at ${at}? Type its name: `, { output: process.stderr });
  // Ctrl-C and Ctrl-D leave the question without an answer and this process without anything to do.
  const answer = await Promise.race([asked, once(process, 'beforeExit')]);
  if (typeof answer !== 'string') process.stderr.write('\n');
  if (answer !== name) throw new Error('its name was not repeated; nothing was dropped');
}

async function listLoops(options: Flags): Promise<void> {
  await connected(options, async connection => {
    const { database } = connection.config;
    if (database === undefined) throw new Error('no database was named: give --database NAME');
    const loops = await list(connection);
    if (options.json) echo(JSON.stringify(loops.map(loop => ({ database, ...loop }))));
    else if (loops.length === 0) tell(`${database} has no loops`);
    else writeTable(loops.map(({ table, rows, version, idType }) => [written(table), `${rows}`, version, idType]));
  });
}

/** Aligned on a terminal; for programs with tabs, as the console does it. */
function writeTable(rows: string[][]): void {
  const all = [['table', 'rows', 'version', 'id type'], ...rows];
  const { isTTY } = process.stdout;
  const width = (column: number) => Math.max(...all.map(row => row[column]!.length));
  for (const [i, row] of all.entries()) {
    const cells = row.map((cell, column) => (column === 1 ? cell.padStart(width(1)) : cell.padEnd(width(column))));
    const line = isTTY ? cells.join('  ').trimEnd() : row.join('\t');
    echo(i === 0 ? paint(process.stdout, 'bold', line) : line);
  }
}

function append(value: string, values: string[] = []): string[] {
  return [...values, value];
}

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map(line => `  npx doloop ${line}`).join('\n')}`;
}

/** Reads what was given before anything is begun: what can't be is wrong usage. */
function understood(read: () => void): void {
  try {
    read();
  } catch (error) {
    program.error((error as Error).message);
  }
}

function checkTables(tables: string[], options: SqlOptions = {}): void {
  for (const table of tables) {
    if (table.includes('://')) throw new Error('table: a URL goes behind --url');
    scriptForCreate(table, options);
  }
}

function inDatabase({ config }: Connection, table: string): LoopName {
  const name = parseLoopName(table);
  return { ...name, database: name.database ?? config.database };
}

function shown({ database = '', table }: LoopName): string {
  return `${written(database)}.${written(table)}`;
}

/** A part of a loop's name as the command line takes it. */
function written(part: string): string {
  return /[.`]/.test(part) ? quoteName(part) : part;
}

async function connected(options: ConnectOptions, work: (connection: Connection) => Promise<void>): Promise<void> {
  const { url } = options;
  if (url !== undefined) understood(() => connectionSettings({ url }));
  const connection = await connect(options);
  try {
    await work(connection);
  } finally {
    await connection.end();
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

class Interrupted extends Error {
  constructor(readonly signal: NodeJS.Signals) {
    super(signal);
  }
}

/** Does what is not to be left half done: the first signal lets it be finished, after which nothing else is begun. */
async function uninterrupted(
  connection: Connection,
  options: ConnectOptions,
  work: () => Promise<void>,
): Promise<void> {
  let signal: NodeJS.Signals | undefined;
  const listen = (how: 'on' | 'off') => {
    for (const name of SIGNALS) process[how](name, onSignal);
  };
  const onSignal = async (name: NodeJS.Signals) => {
    if (signal === undefined) {
      signal = name;
      tell('finishing what was begun; once more ends it at once');
    } else {
      listen('off');
      // Left alone, MySQL would wait on for a lock, and drop a table when its user has long given up.
      await connect(options)
        .then(other => other.query(`KILL ${connection.threadId}`))
        .catch(() => {});
      process.kill(process.pid, name);
    }
  };
  listen('on');
  try {
    await work();
  } finally {
    listen('off');
  }
  if (signal !== undefined) throw new Interrupted(signal);
}

/** Says something to people: one line. */
function tell(message: string): void {
  process.stderr.write(`${paint(process.stderr, 'red', 'doloop:')} ${message.trim().replaceAll(/\s*\n\s*/g, ' ')}\n`);
}

function paint(stream: NodeJS.WriteStream, style: 'red' | 'bold', text: string): string {
  return stream.isTTY && !process.env.NO_COLOR ? chalk[style](text) : text;
}

/** An argument that was not understood, as it is shown: a password may be in its value, behind -p, or in a URL. */
function withoutSecrets(message: string): string {
  return message.replace(/(unknown option '(?:-[^-]|--[^=']*))[^']*/, '$1').replace(/('[^']*:\/\/).*/s, "$1…'");
}

// Who reads the output may stop early (`doloop sql user_loop | head`); what was begun goes on.
process.stderr.on('error', () => {});
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  tell(`cannot write: ${error.message}`);
  process.exitCode = 1;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof Interrupted) process.kill(process.pid, error.signal);
  else if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    tell((error as Error).message);
    process.exitCode = 1;
  }
}
