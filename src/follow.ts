import type { Connection } from 'mysql2/promise';
import { run } from './mysql.js';
import { type LoopName, qualifiedName, quoteName, quoteText } from './names.js';
import {
  createTrigger,
  type Following,
  LOCK_WAIT,
  SQL_MODE,
  TRIGGER_LABEL,
  TRIGGERS,
  type Trigger,
  triggerName,
} from './render.js';
import type { ServerKind } from './server-kind.js';

/** A trigger by which a loop follows a table. */
export interface FollowTrigger {
  readonly trigger: Trigger;
  /** The table that it is on. */
  readonly on: LoopName;
  /** Its text from the label on. */
  readonly body: string;
}

/** The triggers by which a loop, named with its database, follows tables: those that this account may see (TRIGGER). */
export async function triggersOf(connection: Connection, loop: LoopName): Promise<FollowTrigger[]> {
  const named = await run(
    connection,
    `SELECT \`trigger_schema\` AS \`database\`, \`event_object_table\` AS \`table\`, \`trigger_name\` AS \`name\`
      FROM \`information_schema\`.\`triggers\`
      WHERE \`trigger_name\` IN (${TRIGGERS.map(trigger => quoteText(`${loop.table}_${trigger}`)).join(', ')})
      ORDER BY \`trigger_schema\`, \`event_object_table\`, \`trigger_name\``,
  );
  const triggers: FollowTrigger[] = [];
  for (const { database, table, name } of named.rows as { database: string; table: string; name: string }[]) {
    // information_schema has the body, too, but MySQL garbles some names there.
    const { rows } = await run(connection, `SHOW CREATE TRIGGER ${qualifiedName({ database, table: name })}`);
    const body = BODY.exec((rows[0]!['SQL Original Statement'] as string | null) ?? '')?.[1];
    const names = [qualifiedName(loop), ...(database === loop.database ? [quoteName(loop.table)] : [])];
    if (body === undefined || !names.some(written => body.includes(` ${written} `))) continue;
    triggers.push({ trigger: name.slice(loop.table.length + 1) as Trigger, on: { database, table }, body });
  }
  return triggers;
}

const BODY = new RegExp(`FOR EACH ROW\\s+(${TRIGGER_LABEL}: .*)$`, 's');

/** Whether these triggers are what {@link followStatements} makes. */
export function isUpToDate(following: Following, triggers: readonly FollowTrigger[]): boolean {
  return TRIGGERS.every(trigger => {
    const installed = triggers.find(one => one.trigger === trigger);
    return installed !== undefined && createTrigger(following, trigger).endsWith(`\n${installed.body}`);
  });
}

/**
 * What makes the triggers, one statement each; `replacing` those that are there. MySQL can't replace one in a single
 * step: there the table is locked meanwhile, so that no write finds them missing.
 */
export function followStatements(following: Following, server: ServerKind, replacing: boolean): string[] {
  const { loop, source } = following;
  const create = TRIGGERS.map(trigger => createTrigger(following, trigger));
  if (!replacing) return patiently(create);
  if (server === 'MariaDB') {
    return patiently(create.map(statement => statement.replace(/^CREATE/, 'CREATE OR REPLACE')));
  }
  const lock = `LOCK TABLES ${qualifiedName(source)} WRITE`;
  return patiently([lock, ...dropTriggers(loop, source), ...create, 'UNLOCK TABLES']);
}

/** What takes the triggers on this table away. */
export function unfollowStatements(loop: LoopName, on: LoopName): string[] {
  return patiently(dropTriggers(loop, on));
}

/** In the order of TRIGGERS from behind: what joins last will still be seen to go. */
function dropTriggers(loop: LoopName, on: LoopName): string[] {
  return TRIGGERS.toReversed().map(trigger => `DROP TRIGGER IF EXISTS ${triggerName(loop, on, trigger)}`);
}

/**
 * Statements under the sql_mode that a trigger keeps from its making. (Its collation does not matter: there is no text in
 * it.)
 */
function patiently(statements: readonly string[]): string[] {
  return [
    'SET @doloop_sql_mode = @@sql_mode, @doloop_lock_wait_timeout = @@lock_wait_timeout, ' +
      `sql_mode = '${SQL_MODE}', lock_wait_timeout = ${LOCK_WAIT}`,
    ...statements,
    'SET sql_mode = @doloop_sql_mode, lock_wait_timeout = @doloop_lock_wait_timeout',
  ];
}
