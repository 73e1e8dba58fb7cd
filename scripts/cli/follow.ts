/** `doloop follow`: triggers by which a loop keeps up with a table of the application's, in the same transactions. */
import type { Command } from 'commander';
import type { Connection } from 'mysql2/promise';
import { echo } from 'zx';
import { type FollowTrigger, followStatements, isUpToDate, triggersOf, unfollowStatements } from '../../src/follow.js';
import { holds } from '../../src/id-range.js';
import { type IdType, parseIdType } from '../../src/id-type.js';
import { type MySqlError, run } from '../../src/mysql.js';
import { type ColumnName, type LoopName, parseColumnName, qualifiedName, quoteText } from '../../src/names.js';
import { consoleScript, createTrigger, type Following, ID_TYPE_OF_COLUMN, TRIGGERS } from '../../src/render.js';
import { connectedServer, type ServerKind } from '../../src/server-kind.js';
import { connectionSettings, place } from '../connect.js';
import {
  connected,
  connecting,
  examples,
  type Flags,
  inDatabase,
  loopNamed,
  UsageError,
  understood,
  uninterrupted,
} from './command.js';
import { readSource, shownColumn } from './source.js';
import { ask, shownLoop, tell } from './terminal.js';

export function addFollow(program: Command): void {
  connecting(
    program
      .command('follow')
      .description(
        'let a loop follow a table by triggers: new rows join it, deleted ones leave, in the same transaction; shows the SQL first',
      )
      .argument('<table>', 'the loop: user_loop or app.user_loop')
      .option('--source <column>', 'the unique column whose values are the ids, like users.id or app.users.id')
      .option('--bump-on <columns>', 'bump ids whose row has changed in one of these: name,email', columnsOf)
      .option('--drop', 'take the triggers away')
      .option('--yes', 'run the SQL, and ask nobody; else it is only shown where there is no terminal to ask on')
      .action(follow)
      .addHelpText('after', `\n${PRIVILEGES}\n`)
      .addHelpText(
        'after',
        examples(
          'follow user_loop --source users.id --bump-on name,email',
          'follow user_loop --source users.id --yes',
          'follow user_loop --source users.id | mysql -D app',
          'follow user_loop --drop',
        ),
      ),
  );
}

const PRIVILEGES = `Whoever makes the triggers needs SELECT and TRIGGER on the source, and SELECT, INSERT, UPDATE and DELETE on the loop;
where the server's binary log is on, SUPER, too, unless log_bin_trust_function_creators is 1 there. To change them on
MySQL takes LOCK TABLES.`;

interface FollowFlags extends Flags {
  source?: string;
  bumpOn?: string[];
  drop?: true;
  yes?: true;
}

function columnsOf(written: string): string[] {
  return written.split(',').map(column => column.trim());
}

/** What is to be run, and what it is about. */
interface Plan {
  /** For people: what is so when it was run. */
  readonly outcome: string;
  /** At the head of the SQL. */
  readonly title: string;
  /** Run first, of no effect: what fails here would fail later. */
  readonly checks: string[];
  /** None if it is so already. */
  readonly statements: string[];
  /** Said when it was run. */
  readonly advice: string[];
  /** For programs. */
  readonly facts: object;
}

async function follow(table: string, options: FollowFlags): Promise<void> {
  loopNamed(table);
  const { source, bumpOn, drop } = options;
  if (drop && (source !== undefined || bumpOn)) throw new UsageError('--drop takes no --source and no --bump-on');
  if (!drop && source === undefined) throw new UsageError('what does it follow? Give --source COLUMN, or --drop');
  if (bumpOn?.includes('')) throw new UsageError('bump-on: give names of columns, like name,email');
  const column = source === undefined ? undefined : understood(() => parseColumnName('source', source));
  const plan = await connected(options, connection =>
    column ? planFollow(connection, table, column, bumpOn ?? []) : planDrop(connection, table),
  );
  await carryOut(plan, options);
}

async function planFollow(
  connection: Connection,
  table: string,
  column: ColumnName,
  bumpOn: readonly string[],
): Promise<Plan> {
  const server = await connectedServer(connection);
  const loop = inDatabase(connection, table);
  const idType = await idTypeOf(connection, loop);
  const database = column.database ?? connection.config.database ?? loop.database;
  const source = await readSource(connection, 'source', { ...column, database });
  const shown = shownColumn(source.name);
  if (qualifiedName(source.name) === qualifiedName(loop)) throw new Error(`source: ${shown} is the loop itself`);
  if (!source.unique) {
    throw new Error(`source: ${shown} is not unique: of several rows with one id, the first to go would take it out`);
  }
  if (!holds(idType, source.idType)) {
    throw new Error(
      `source: ${shown} is ${source.idType.sql}, the ids of ${shownLoop(loop)} are ${idType.sql}: ` +
        'what these could not hold would make the triggers fail, and with them the writes to the table',
    );
  }
  const following: Following = {
    loop,
    source: source.name,
    bumpOn: await columnsIn(connection, source.name, bumpOn),
  };
  const installed = await triggersOf(connection, loop);
  await refuseTaken(connection, following, installed);
  const replacing = installed.length > 0;
  const bumped = following.bumpOn.map(({ column }) => column);
  return {
    outcome: `${shownLoop(loop)} follows ${shown}${bumped.length > 0 ? `, bumped on ${bumped.join(', ')}` : ''}`,
    title: `${qualifiedName(loop)} follows ${qualifiedName(source.name)}. ${BINARY_LOG}`,
    checks: checks(following, server, replacing),
    statements: isUpToDate(following, installed) ? [] : followStatements(following, server, replacing),
    advice: [
      `now put in what was there before: npx doloop fill ${shownLoop(loop)} --from ${shown} --prune`,
      ...(await cascades(connection, source.name)),
    ],
    facts: { ...loop, source: source.name, bumpOn: bumped },
  };
}

async function planDrop(connection: Connection, table: string): Promise<Plan> {
  const loop = inDatabase(connection, table);
  const installed = await triggersOf(connection, loop);
  if (installed.length === 0) {
    throw new Error(`${shownLoop(loop)} follows no table here, or this account has no TRIGGER on it`);
  }
  const tables = new Map(installed.map(({ on }) => [shownLoop(on), on]));
  const shown = [...tables.keys()].join(', ');
  return {
    outcome: `${shownLoop(loop)} follows ${shown} no more`,
    title: `${qualifiedName(loop)} follows ${[...tables.values()].map(on => qualifiedName(on)).join(', ')} no more. ${BINARY_LOG}`,
    checks: [],
    statements: [...tables.values()].flatMap(on => unfollowStatements(loop, on)),
    advice: [],
    facts: { ...loop, source: null },
  };
}

/** Shows the SQL, and runs it if that is what is wanted. */
async function carryOut(plan: Plan, options: FollowFlags): Promise<void> {
  const { statements } = plan;
  const report = (done: boolean) => {
    if (options.json) echo(JSON.stringify({ ...plan.facts, statements, done }));
    else if (done) echo(plan.outcome);
  };
  if (statements.length === 0) {
    report(true);
    return;
  }
  if (!options.json) process.stdout.write(consoleScript(plan.title, statements));
  if (!options.yes) {
    const canAsk = process.stdin.isTTY && process.stdout.isTTY && process.stderr.isTTY && !options.json;
    if (!canAsk) {
      report(false);
      tell('only shown: --yes runs it');
      return;
    }
    const answer = await ask(`Run it at ${place(connectionSettings(options))}? [y/N] `);
    if (!/^y(es)?$/i.test(answer?.trim() ?? '')) throw new Error('nothing was run');
  }
  await connected(options, connection => uninterrupted(connection, options, () => runAll(connection, plan)));
  report(true);
  for (const advice of plan.advice) tell(advice);
}

async function runAll(connection: Connection, { checks, statements }: Plan): Promise<void> {
  try {
    for (const check of checks) {
      await run(connection, check).catch(error => {
        if ((error as MySqlError).errno !== 1359) throw error; // ER_TRG_ALREADY_EXISTS
      });
    }
    for (const statement of statements) await run(connection, statement);
  } catch (error) {
    throw explained(error as MySqlError);
  }
}

function explained(error: MySqlError): Error {
  switch (error.errno) {
    case 1419: // ER_BINLOG_CREATE_ROUTINE_NEED_SUPER
      return new Error(
        'the binary log of this server is on, so that triggers take SUPER: GRANT SUPER ON *.* TO this account, use one ' +
          'that has it, or SET GLOBAL log_bin_trust_function_creators = 1; nothing was changed',
        { cause: error },
      );
    case 1205: // ER_LOCK_WAIT_TIMEOUT
      return new Error(
        'a transaction has used the table for 10 s, and others would have had to wait; try again later',
        {
          cause: error,
        },
      );
    default:
      return error;
  }
}

const BINARY_LOG = 'Where the binary log is on, it takes SUPER, or log_bin_trust_function_creators = 1.';

/** What can be seen to fail before anything is changed; a trigger that is there already is no failure. */
function checks(following: Following, server: ServerKind, replacing: boolean): string[] {
  const loop = qualifiedName(following.loop);
  return [
    // The triggers will do this in the name of this account; without the right to, all writes to their table would fail.
    `DELETE FROM ${loop} WHERE FALSE`,
    `INSERT INTO ${loop} (\`id\`, \`lock_until\`)
      SELECT \`id\`, \`until\` FROM (SELECT \`id\`, \`lock_until\` AS \`until\` FROM ${loop}) AS known WHERE FALSE
      ON DUPLICATE KEY UPDATE \`lock_until\` = \`until\``,
    // MySQL lets an account drop a trigger that it may not make again.
    ...(replacing && server === 'MySQL' ? [createTrigger(following, 'delete')] : []),
  ];
}

async function idTypeOf(connection: Connection, loop: LoopName): Promise<IdType> {
  const { rows } = await run(
    connection,
    `SELECT \`column_name\` AS \`column\`, ${ID_TYPE_OF_COLUMN} AS \`type\` FROM \`information_schema\`.\`columns\`
      WHERE ${isTable(loop)} AND \`column_name\` IN ('id', 'lock_until') ORDER BY \`column_name\``,
  );
  const [id, lockUntil] = rows as { column: string; type: string }[];
  if (!id || !lockUntil) throw new Error(`${shownLoop(loop)} is no loop here, or this account has no SELECT on it`);
  return parseIdType(id.type);
}

function isTable({ database, table }: LoopName): string {
  return `\`table_schema\` = ${quoteText(database!)} AND \`table_name\` = ${quoteText(table)}`;
}

/** The columns of a table that have these names. */
async function columnsIn(
  connection: Connection,
  table: LoopName,
  wanted: readonly string[],
): Promise<Following['bumpOn']> {
  const { rows } = await run(
    connection,
    `SELECT \`column_name\` AS \`column\`, \`character_set_name\` IS NOT NULL AS \`isText\`
      FROM \`information_schema\`.\`columns\` WHERE ${isTable(table)}`,
  );
  return wanted.map(name => {
    const found = rows.find(({ column }) => (column as string).toLowerCase() === name.toLowerCase());
    if (!found) throw new Error(`bump-on: ${shownLoop(table)} has no column ${name}`);
    return { column: found.column as string, isText: found.isText === 1 };
  });
}

/** The names of the triggers have to be free, or ours on this table. */
async function refuseTaken(
  connection: Connection,
  { loop, source }: Following,
  installed: readonly FollowTrigger[],
): Promise<void> {
  const elsewhere = installed.find(({ on }) => qualifiedName(on) !== qualifiedName(source));
  if (elsewhere) {
    throw new Error(
      `${shownLoop(loop)} follows ${shownLoop(elsewhere.on)}; doloop follow ${shownLoop(loop)} --drop ends that`,
    );
  }
  const { rows } = await run(
    connection,
    `SELECT \`trigger_name\` AS \`name\`, \`event_object_table\` AS \`table\` FROM \`information_schema\`.\`triggers\`
      WHERE \`trigger_schema\` = ${quoteText(source.database!)}
        AND \`trigger_name\` IN (${TRIGGERS.map(trigger => quoteText(`${loop.table}_${trigger}`)).join(', ')})`,
  );
  const taken = rows.find(({ name }) => !installed.some(({ trigger }) => name === `${loop.table}_${trigger}`));
  if (taken) throw new Error(`a trigger ${taken.name} is there already, on ${taken.table}, and is not this loop's`);
}

/** What the triggers won't see: rows that go by a foreign key fire none. */
async function cascades(connection: Connection, { database, table }: LoopName): Promise<string[]> {
  const { rows } = await run(
    connection,
    `SELECT \`constraint_name\` AS \`name\`, \`referenced_table_name\` AS \`parent\`
      FROM \`information_schema\`.\`referential_constraints\`
      WHERE \`constraint_schema\` = ${quoteText(database!)} AND \`table_name\` = ${quoteText(table)}
        AND \`delete_rule\` = 'CASCADE'`,
  );
  return rows.map(
    ({ name, parent }) =>
      `rows that are deleted with theirs of ${parent} (${name}, ON DELETE CASCADE) fire no triggers: only fill --prune sees them gone`,
  );
}
