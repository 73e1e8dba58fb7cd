/** A private database server for the demo, the tests and the benchmarks. Nothing of it is left afterwards. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, realpathSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectionSettings } from './connect.js';
import { guardFolder, type Kind, provide, runGuarded } from './server-install.js';
import { freePort, ServerProcess, versionOf } from './server-process.js';

export type { Kind };

export interface ServerOptions {
  /** Default: whichever is found first on this machine, else MariaDB. */
  kind?: Kind;
  /** Install its console and its dump program, too, where they are missing. Default: false. */
  clients?: boolean;
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
  /** The server's process, as it is now; absent if it isn't ours. */
  readonly pid?: number | undefined;
  /** Ends our server and removes all it wrote. */
  stop(): Promise<void>;
}

export interface PrivateServer extends Server {
  socket: string;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again, on the same data and the same port. Ends it before, unless `kill` did. */
  restart(): Promise<void>;
  /** SIGSTOP: it keeps its connections, and answers nothing. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
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
  const programs = await provide(options.kind, options.log ?? console.error, options.clients);
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
  const child = new ServerProcess(log, { socketPath: socket, user: 'root', password });
  const start = (port: number) =>
    child.start([...programs.server, '--no-defaults', ...common, `--port=${port}`, ...settings]);
  const stop = async () => {
    await child.end('SIGTERM');
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
          get pid() {
            return child.pid;
          },
          ...(programs.console && { console: [...programs.console, `--defaults-file=${client}`] }),
          ...(programs.dump && { dump: [...programs.dump, `--defaults-file=${client}`] }),
          stop,
          kill: () => child.end('SIGKILL'),
          restart: async () => {
            await child.end('SIGTERM');
            await start(port);
          },
          freeze: () => child.signal('SIGSTOP'),
          thaw: () => child.signal('SIGCONT'),
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

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const kind = process.argv[2];
  if (kind && kind !== 'mariadb' && kind !== 'mysql') throw new Error('usage: server.js [mariadb|mysql]');
  const server = await startServer(kind ? { kind: kind as Kind } : {});
  console.log(`${server.kind} ${server.version}\n${server.url}\n${server.console?.join(' ') ?? ''}\nCtrl-C ends it.`);
  setInterval(() => {}, 1 << 30);
}
