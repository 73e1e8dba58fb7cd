/** A private database server for the demo, the tests and the benchmarks. Nothing of it is left afterwards. */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ConnectionOptions, createConnection, type RowDataPacket } from 'mysql2/promise';
import { connectionSettings } from './connect.js';
import { guardFolder, type Kind, lastLines, provide, runGuarded, spawnGuarded, unref } from './server-install.js';

export type { Kind };

export interface ServerOptions {
  /** Default: whichever is found first on this machine, else MariaDB. */
  kind?: Kind;
  /** Told what is about to be installed. Default: standard error. */
  log?: (line: string) => void;
  /** More options for the server, such as `--max-connections=1000`. They win over ours. */
  settings?: string[];
}

/** A server to work with: ours, or the one of MYSQL_URL, which has only the first three properties and `stop`. */
export interface Server {
  kind: Kind;
  /** As `SELECT VERSION()` tells it. */
  version: string;
  /** For mysql2; an account that may do everything. Ours names no database. */
  url: string;
  socket?: string;
  /** Runs the server's own console client as root: put its other arguments behind. Absent if it is not installed. */
  console?: string[];
  /** The same for mariadb-dump or mysqldump. */
  dump?: string[];
  /** Ends our server and removes all it wrote. */
  stop(): Promise<void>;
}

export interface PrivateServer extends Server {
  socket: string;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again, on the same data and the same port. Ends it before, unless `kill` did. */
  restart(): Promise<void>;
}

/**
 * The server of MYSQL_URL if that is set, whatever its kind; else a private one.
 * @throws Error when the former can't be reached, or as `startServer` does.
 */
export async function openServer(options: ServerOptions = {}): Promise<Server> {
  const url = process.env.MYSQL_URL;
  if (!url) return startServer(options);
  const version = await versionOf(connectionSettings({ url }));
  return { kind: /mariadb/i.test(version) ? 'mariadb' : 'mysql', version, url, stop: async () => {} };
}

/**
 * Starts a server of our own: with a new and empty data directory, a free port of 127.0.0.1, the binary log on, and default durability.
 * It ends with this process at the latest, however that ends; it doesn't keep this process from ending.
 * @throws Error when there is no such server and none can be installed; when it doesn't start, with the last lines of its log.
 */
export async function startServer(options: ServerOptions = {}): Promise<PrivateServer> {
  const programs = await provide(options.kind, options.log ?? console.error);
  // A socket's path may have about 100 characters.
  const folder = mkdtempSync(join(tmpdir().length > 70 ? '/tmp' : tmpdir(), 'doloop-'));
  const remove = guardFolder(folder);
  const path = (name: string) => join(folder, name);
  const [log, socket, client] = [path('log'), path('socket'), path('client.cnf')];
  const password = randomBytes(16).toString('hex');
  const common = [...programs.options, `--datadir=${path('data')}`, `--tmpdir=${path('tmp')}`];
  // Servers refuse to be root unless told so. `--user=root` would make mariadb-install-db change the owner of plugins that
  // the machine's own server uses; it doesn't know the short form.
  if (process.getuid?.() === 0) common.push('-uroot');
  const settings = [
    ...[`--socket=${socket}`, '--bind-address=127.0.0.1', `--init-file=${path('init.sql')}`, '--log-bin=binlog'],
    ...['--innodb-buffer-pool-size=256M', '--max-connections=500', ...(options.settings ?? [])],
  ];
  let child: ChildProcess | undefined;

  const start = async (port: number) => {
    child = spawnGuarded([...programs.server, '--no-defaults', ...common, `--port=${port}`, ...settings], log);
    const version = await whenReady(child, { socketPath: socket, user: 'root', password }, log);
    unref(child);
    return version;
  };
  const end = async (signal: NodeJS.Signals) => {
    if (!child || hasEnded(child)) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    const grace = setTimeout(() => child?.kill('SIGKILL'), 15_000);
    await exit;
    clearTimeout(grace);
  };
  const stop = async () => {
    await end('SIGTERM');
    await remove();
  };

  try {
    mkdirSync(path('tmp'));
    writeFileSync(client, `[client]\nuser=root\npassword=${password}\nsocket=${socket}\n`, { mode: 0o600 });
    // Runs before the first connection is let in, so root is never without a password.
    const init = ['SET sql_log_bin = 0;', `ALTER USER root@localhost IDENTIFIED BY '${password}';`];
    if (programs.kind === 'mariadb')
      init.push("DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost';", 'FLUSH PRIVILEGES;');
    writeFileSync(path('init.sql'), `${init.join('\n')}\n`, { mode: 0o600 });
    await runGuarded([...programs.initialize, ...common], log);
    for (let attempt = 1; ; attempt++) {
      const port = await freePort();
      try {
        return {
          kind: programs.kind,
          version: await start(port),
          url: `mysql://root:${password}@127.0.0.1:${port}/`,
          socket,
          ...(programs.console && { console: [...programs.console, `--defaults-file=${client}`] }),
          ...(programs.dump && { dump: [...programs.dump, `--defaults-file=${client}`] }),
          stop,
          kill: () => end('SIGKILL'),
          restart: async () => {
            await end('SIGTERM');
            await start(port);
          },
        };
      } catch (error) {
        // Another process may have taken the port meanwhile.
        if (attempt === 5 || !/address already in use/i.test(String(error))) throw error;
      }
    }
  } catch (error) {
    await stop();
    throw new Error(`The private ${programs.kind} server did not start: ${(error as Error).message}`);
  }
}

/** Resolves to the server's version once it lets us in. */
async function whenReady(child: ChildProcess, account: ConnectionOptions, log: string): Promise<string> {
  for (const deadline = Date.now() + 60_000; ; await sleep(50)) {
    try {
      return await versionOf(account);
    } catch (error) {
      const problem = hasEnded(child) ? 'it ended' : Date.now() > deadline ? String(error) : '';
      if (problem) throw new Error(`${problem}\n${lastLines(readFileSync(log, 'utf8'))}`);
    }
  }
}

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;

async function versionOf(account: ConnectionOptions): Promise<string> {
  const connection = await createConnection(account);
  try {
    const [rows] = await connection.query<RowDataPacket[]>('SELECT VERSION() AS version');
    return rows[0]!.version;
  } finally {
    await connection.end();
  }
}

/** A port of 127.0.0.1 that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  listener.close();
  await once(listener, 'close');
  return port;
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const kind = process.argv[2];
  if (kind && kind !== 'mariadb' && kind !== 'mysql') throw new Error('usage: server.js [mariadb|mysql]');
  const server = await startServer(kind ? { kind: kind as Kind } : {});
  console.log(`${server.kind} ${server.version}\n${server.url}\n${server.console?.join(' ') ?? ''}\nCtrl-C ends it.`);
  setInterval(() => {}, 1 << 30);
}
