/** What the commands have in common: where to connect, what is wrong usage, what is not to be left half done. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Connection } from 'mysql2/promise';
import { type LoopName, parseLoopName } from '../../src/names.js';
import { type ConnectOptions, connect, connectionSettings } from '../connect.js';
import { tell } from './terminal.js';

/** What every command that connects is given. */
export interface Flags extends ConnectOptions {
  json?: true;
}

/** Wrong usage: nothing was begun. */
export class UsageError extends Error {}

/** Ended by a signal, as a program without a handler for it would be. */
export class Interrupted extends Error {
  constructor(readonly signal: NodeJS.Signals) {
    super(signal);
  }
}

/** Gives a command the options to connect, and `--json`. */
export function connecting(command: Command): Command {
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
  return command;
}

/** For a command's help. */
export function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map(line => `  npx doloop ${line}`).join('\n')}`;
}

/** Reads an option's value: a whole number, within these bounds. */
export function whole(low: number, high = 2_147_483_647): (text: string) => number {
  return text => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < low || value > high) {
      throw new InvalidArgumentError(`It is not a whole number from ${low} to ${high}.`);
    }
    return value;
  };
}

/** Reads what was given before anything is begun: what can't be is wrong usage. */
export function understood<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** A loop's name as it was given. */
export function loopNamed(table: string): LoopName {
  return understood(() => {
    if (table.includes('://')) throw new Error('table: a URL goes behind --url');
    return parseLoopName(table);
  });
}

/** A loop's name with its database: the connection's, where none was given. */
export function inDatabase({ config }: Connection, table: string): LoopName {
  const name = parseLoopName(table);
  return { ...name, database: name.database ?? config.database };
}

export const NO_DATABASE = 'no database was named: give --database NAME';

/** Does the work on a connection, which is closed in the end. */
export async function connected<T>(options: ConnectOptions, work: (connection: Connection) => Promise<T>): Promise<T> {
  const { url } = options;
  if (url !== undefined) understood(() => connectionSettings({ url }));
  const connection = await connect(options);
  try {
    return await work(connection);
  } finally {
    await connection.end();
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Does work that may go on for long until the first signal, which ends it gracefully by the AbortSignal; the next one
 * ends the process at once, after `last` was called.
 */
export async function untilSignalled(
  work: (signal: AbortSignal) => Promise<void>,
  last: () => unknown = () => {},
): Promise<void> {
  const controller = new AbortController();
  let signal: NodeJS.Signals | undefined;
  const onSignal = async (name: NodeJS.Signals) => {
    if (signal === undefined) {
      signal = name;
      controller.abort();
    } else {
      listen('off');
      await last();
      process.kill(process.pid, name);
    }
  };
  const listen = (how: 'on' | 'off') => {
    for (const name of SIGNALS) process[how](name, onSignal);
  };
  listen('on');
  try {
    await work(controller.signal);
  } finally {
    listen('off');
  }
  if (signal !== undefined) throw new Interrupted(signal);
}

/** Does what is not to be left half done: the first signal lets it be finished, after which nothing else is begun. */
export function uninterrupted(
  connection: Connection,
  options: ConnectOptions,
  work: () => Promise<void>,
): Promise<void> {
  return untilSignalled(
    signal => {
      signal.addEventListener('abort', () => tell('finishing what was begun; once more ends it at once'));
      return work();
    },
    // Left alone, MySQL would wait on for a lock, and drop a table when its user has long given up.
    () =>
      connect(options)
        .then(other => other.query(`KILL ${connection.threadId}`))
        .catch(() => {}),
  );
}

/** A server that has not answered for so many seconds is taken for lost. */
const PATIENCE = 60;

/** Work after work on one connection for as long as it lasts, and after a failure on a new one. */
export interface Lasting {
  /** Does the work; rejects when the signal comes, whatever the server does. */
  use<T>(work: (connection: Connection) => Promise<T>): Promise<T>;
  end(): Promise<void>;
}

/** A connection for long, made when it is first used. */
export function lasting(options: ConnectOptions, signal: AbortSignal): Lasting {
  let connection: Connection | undefined;
  let busy = false;
  const connectFirst = async <T>(work: (connection: Connection) => Promise<T>): Promise<T> => {
    if (connection === undefined) {
      const made = await connect(options);
      if (signal.aborted) made.destroy();
      signal.throwIfAborted();
      made.on('error', () => {}); // lost in between: the next use tells
      connection = made;
    }
    return work(connection);
  };
  return {
    async use(work) {
      signal.throwIfAborted();
      const over = new AbortController();
      const stopped = once(signal, 'abort', { signal: over.signal }).then(() => Promise.reject(signal.reason));
      const late = sleep(PATIENCE * 1000, undefined, { signal: over.signal }).then(() =>
        Promise.reject(new Error(`the server has not answered for ${PATIENCE} s`)),
      );
      busy = true;
      try {
        return await Promise.race([connectFirst(work), stopped, late]);
      } catch (error) {
        connection?.destroy();
        connection = undefined;
        throw error;
      } finally {
        busy = false;
        over.abort();
      }
    },
    async end() {
      if (busy) connection?.destroy();
      else await connection?.end().catch(() => {});
    },
  };
}
