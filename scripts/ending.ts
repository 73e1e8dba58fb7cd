/** What the demo and the bench make is taken away in the end, however that comes: by an error or by Ctrl-C, too. */
import type { Connection } from 'mysql2/promise';
import { chalk } from 'zx';
import { connect } from './connect.js';

const steps: (() => unknown)[] = [];
let ending: Promise<void> | undefined;

/** Has something undone in the end; what was said last comes first. */
export function inTheEnd(step: () => unknown): void {
  steps.push(step);
}

/** Undoes all there is to undo; once, however often it is called. */
export function end(): Promise<void> {
  ending ??= (async () => {
    for (const step of steps.reverse()) {
      try {
        await step();
      } catch (error) {
        fail(error);
      }
    }
  })();
  return ending;
}

/** Whether that is under way, or over. */
export const isEnding = () => ending !== undefined;

/** For whatever would have to be undone: not once that is under way. */
export function unlessEnding(): void {
  if (ending) throw new Error('Interrupted');
}

/** Says what went wrong, and has the exit code tell. */
export function fail(error: unknown): void {
  console.error(chalk.red((error as Error).message));
  process.exitCode = 1;
}

async function interrupt(code: number): Promise<void> {
  if (ending) return; // a second Ctrl-C is no reason to leave things behind
  const ended = end();
  console.error('\nInterrupted: removing what was made ...');
  await ended;
  process.exit(code);
}

process.on('SIGINT', () => interrupt(130));
process.on('SIGTERM', () => interrupt(143));
process.on('SIGHUP', () => interrupt(129));
process.stdout.on('error', () => interrupt(141)); // nobody reads on
process.on('uncaughtException', error => {
  if (!ending) fail(error);
  interrupt(1);
});

/**
 * Makes a database, dropped in the end; resolves to a connection that uses it.
 *
 * @throws Error if there is one of that name already.
 */
export async function makeDatabase(url: string, name: string): Promise<Connection> {
  const connection = await connect({ url });
  unlessEnding();
  const made = connection.query(`CREATE DATABASE ${name} CHARACTER SET utf8mb4`);
  const isOurs = made.then(
    () => true,
    () => false,
  );
  // From here on, lest it stay behind when we are interrupted before we hear that it was made.
  inTheEnd(async () => {
    const toDrop = await isOurs;
    connection.destroy();
    if (!toDrop) return;
    const another = await connect({ url }); // the first may be busy, or lost
    await another.query(`DROP DATABASE ${name}`);
    await another.end();
  });
  try {
    await made;
  } catch (error) {
    if ((error as { errno?: number }).errno !== 1007) throw error; // ER_DB_CREATE_EXISTS
    throw new Error(`The server has a database ${name} already, and ours would be dropped in the end`);
  }
  await connection.query(`USE ${name}`);
  return connection;
}
