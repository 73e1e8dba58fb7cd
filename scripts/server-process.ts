/** A database server as a process of ours, whether it is alone or one of several. */
import type { ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, createConnection, type RowDataPacket } from 'mysql2/promise';
import { lastLines, spawnGuarded, unref } from './server-install.js';

/** From when on a server that was told to end is ended, ms. */
const GRACE_MS = 15_000;
/** For how long a server may take to let us in, ms. */
const PATIENCE_MS = 60_000;

/** It ends with this process at the latest, however that ends; it doesn't keep this process from ending. */
export class ServerProcess {
  readonly #log: string;
  readonly #account: ConnectionOptions;
  #child: ChildProcess | undefined;

  /** @param log the file to which its output is appended. @param account whom it lets in once it is ready. */
  constructor(log: string, account: ConnectionOptions) {
    this.#log = log;
    this.#account = account;
  }

  /**
   * Starts it. Resolves to its version once it lets us in.
   * @throws Error with the last lines of its log, if it ends before, or does not let us in within a minute.
   */
  async start(argv: string[], env?: NodeJS.ProcessEnv): Promise<string> {
    const child = spawnGuarded(argv, this.#log, env);
    this.#child = child;
    const version = await whenReady(child, this.#account, this.#log);
    unref(child);
    return version;
  }

  /** Of the guard, which becomes the server; undefined before it was started. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Sends it a signal that does not end it: SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Resolves when it has ended: by SIGKILL after 15 s at the latest. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (!child || hasEnded(child)) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    const grace = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
    await exit;
    clearTimeout(grace);
  }
}

async function whenReady(child: ChildProcess, account: ConnectionOptions, log: string): Promise<string> {
  for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(50)) {
    try {
      return await versionOf(account);
    } catch (error) {
      const problem = hasEnded(child) ? 'it ended' : Date.now() > deadline ? String(error) : '';
      if (problem) throw new Error(`${problem}\n${lastLines(readFileSync(log, 'utf8'))}`);
    }
  }
}

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;

/** As `SELECT VERSION()` tells it. */
export async function versionOf(account: ConnectionOptions): Promise<string> {
  const connection = await createConnection(account);
  try {
    const [rows] = await connection.query<RowDataPacket[]>('SELECT VERSION() AS version');
    return rows[0]!.version;
  } finally {
    await connection.end();
  }
}

/** Below those that systems give to outgoing connections: one of these would soon be another's. */
const PORTS = { from: 15_000, to: 32_000 };

/** So many ports of 127.0.0.1 that nobody listens on at the moment, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const listeners: Server[] = [];
  const ports: number[] = [];
  while (ports.length < count) {
    const port = randomInt(PORTS.from, PORTS.to);
    const listener = createServer().listen(port, '127.0.0.1');
    try {
      await once(listener, 'listening');
      listeners.push(listener);
      ports.push(port);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
  }
  await Promise.all(listeners.map(listener => once(listener.close(), 'close')));
  return ports;
}

/** One of {@link freePorts}. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port!;
}
