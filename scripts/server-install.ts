/** Finds the programs of a MariaDB or MySQL server on this machine, installs them if need be, and runs them guarded. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, renameSync } from 'node:fs';
import type { Socket } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { $, glob } from 'zx';

export type Kind = 'mariadb' | 'mysql';

/** How to run a server's programs. Each is the beginning of an argv. */
export interface Programs {
  kind: Kind;
  server: string[];
  /** Creates a data directory. */
  initialize: string[];
  /** What both of these need besides the caller's options. */
  options: string[];
  console?: string[];
  dump?: string[];
}

const NAMES = { mariadb: 'MariaDB', mysql: 'MySQL' };
/** Where programs are looked for. */
export const FOLDERS = [
  ...(process.env.PATH ?? '').split(delimiter).filter(Boolean),
  ...['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/usr/local/bin', '/usr/libexec', '/usr/local/mysql/bin'],
  ...['/opt/homebrew', '/usr/local'].flatMap(brew => [`${brew}/opt/mariadb/bin`, `${brew}/opt/mysql/bin`]),
  '/opt/homebrew/bin',
];
/** Where what is unpacked is kept. */
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'doloop');
const UNPACKED = join(CACHE, 'mysql');

const run = $({ quiet: true, nothrow: true, stdio: ['ignore', 'pipe', 'pipe'] });

/**
 * The programs of a server of this kind (or of whichever is found first); installs one (MariaDB, unless told) if there is none.
 * With `clients`: its console and its dump program, too, if they are missing and can be installed.
 * @throws Error that says what to do, where the server can't be installed.
 */
export async function provide(kind: Kind | undefined, log: (line: string) => void, clients = false): Promise<Programs> {
  const found = await find(kind);
  if (found && (!clients || (found.console && found.dump))) return found;
  const wanted = found?.kind ?? kind ?? 'mariadb';
  const problem = await install(wanted, found !== undefined, log);
  const installed = await find(wanted);
  if (installed) return installed;
  const packages = wanted === 'mysql' ? 'debootstrap debian-archive-keyring' : 'mariadb-server-core mariadb-client';
  throw new Error(
    `There is no ${NAMES[wanted]} server on this machine, and it can't be installed from here: ${problem}\n` +
      `Either install one (macOS: brew install ${wanted}; Debian, Ubuntu: as root, apt-get install ${packages}, and try again), ` +
      'or set MYSQL_URL to one that you have, such as mysql://root:secret@127.0.0.1:3306/',
  );
}

async function find(kind?: Kind): Promise<Programs | undefined> {
  const found = await search(FOLDERS, ['mariadbd', 'mysqld'], kind);
  if (!found) return kind !== 'mariadb' && existsSync(UNPACKED) ? unpacked() : undefined;
  // The server's own programs before others of the same kind.
  const folders = [dirname(found.path), join(dirname(found.path), '../bin'), ...FOLDERS];
  const console = await search(folders, ['mariadb', 'mysql'], found.kind);
  const dump = await search(folders, ['mariadb-dump', 'mysqldump'], found.kind);
  const script = folders.map(folder => join(folder, 'mariadb-install-db')).find(path => existsSync(path));
  if (found.kind === 'mariadb' && !script) throw new Error(`There is no mariadb-install-db for ${found.path}`);
  return {
    ...(found.kind === 'mariadb' ? mariadb([found.path], script!) : mysql([found.path])),
    ...(console && { console: [console.path] }),
    ...(dump && { dump: [dump.path] }),
  };
}

/** The first of these programs that is of this kind. By what it says: `mysqld` may be a link to mariadbd, and `mysql` to mariadb. */
async function search(folders: string[], names: string[], kind?: Kind) {
  for (const path of new Set(folders.flatMap(folder => names.map(name => join(folder, name))))) {
    if (!existsSync(path)) continue;
    const { ok, stdout } = await run`${path} --no-defaults --version`;
    const its: Kind = /mariadb/i.test(stdout) ? 'mariadb' : 'mysql';
    if (ok && its === (kind ?? its)) return { path, kind: its };
  }
  return undefined;
}

/** Of another system than this machine's, hence through its own loader and with its own libraries. */
async function unpacked(): Promise<Programs> {
  const usr = `${UNPACKED}/usr`;
  const [loader] = await glob(`${usr}/lib/*/ld*.so.?`);
  if (!loader) throw new Error(`${UNPACKED} is damaged: remove it`);
  const start = [loader, '--library-path', `${usr}/lib/mysql/private:${dirname(loader)}`];
  const program = (path: string) => [...start, usr + path];
  const data = [`--lc-messages-dir=${usr}/share/mysql`, `--character-sets-dir=${usr}/share/mysql/charsets`];
  return {
    ...mysql(program('/sbin/mysqld'), [`--basedir=${usr}`, `--plugin-dir=${usr}/lib/mysql/plugin`, ...data]),
    console: program('/bin/mysql'),
    dump: program('/bin/mysqldump'),
  };
}

/** --force: doesn't look this machine's name up, which fails where there is no DNS. */
const mariadb = (server: string[], script: string): Programs => ({
  kind: 'mariadb',
  server,
  initialize: [script, '--no-defaults', '--force', '--auth-root-authentication-method=normal', '--skip-test-db'],
  options: [],
});

/** Without the X protocol, which would take a port and a socket of the machine. */
const mysql = (server: string[], options: string[] = []): Programs => ({
  kind: 'mysql',
  server,
  initialize: [...server, '--no-defaults', '--initialize-insecure'],
  options: ['--mysqlx=OFF', '--secure-file-priv=NULL', ...options],
});

/** Whether there is such a program. */
export async function has(program: string): Promise<boolean> {
  return (await run`PATH="$PATH:/usr/sbin" command -v ${program}`).ok;
}

const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
const apt = (args: string[]) =>
  run`${[...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-y', '-o', 'DPkg::Lock::Timeout=60', ...args]}`;
const CAN_NOT = 'that needs apt-get, and to be root or to have sudo without a password.';

/** Whether packages of this system can be added; if so, they are those of today. */
async function mayAdd(): Promise<boolean> {
  if (!(await has('apt-get')) || !(await run`${[...asRoot, 'true']}`).ok) return false;
  await apt(['update']); // an old or broken source doesn't matter if the package is found
  return true;
}

/** --no-remove: never at the price of a server that the machine has. */
async function add(packages: string[], log: (line: string) => void): Promise<string> {
  log(`Installing ${packages.join(' and ')} (apt-get install) ...`);
  const { ok, stderr } = await apt(['install', '--no-install-recommends', '--no-remove', ...packages]);
  return ok ? '' : lastLines(stderr);
}

/** Installs packages of this system, and says so. Answers why it could not, or ''. */
export async function addPackages(packages: string[], log: (line: string) => void): Promise<string> {
  return (await mayAdd()) ? add(packages, log) : CAN_NOT;
}

/** Says what it does, and does it. Answers why it could not, or ''. Where the server is there, it wants the clients alone. */
async function install(kind: Kind, isThere: boolean, log: (line: string) => void): Promise<string> {
  let problem = CAN_NOT;
  const missing = isThere ? `Not all clients of ${NAMES[kind]} are` : `No ${NAMES[kind]} server is`;
  log(`${missing} here: looking for its packages (apt-get update) ...`);
  const may = await mayAdd();
  if (may) {
    const offered = (await run`apt-cache search --names-only ${`^${kind}-server-core(-[0-9.]+)?$`}`).lines();
    const names = offered.map(line => line.split(' ')[0]!).sort(new Intl.Collator('en', { numeric: true }).compare);
    const server = names.at(-1);
    // MariaDB's dump program is not among its core clients; MySQL's is.
    const clients = server?.replace(kind === 'mariadb' ? 'server-core' : 'server', 'client');
    if (server && clients) problem = await add(isThere ? [clients] : [server, clients], log);
    else problem = 'no package of this system has it.';
  }
  if (kind !== 'mysql' || isThere || !problem) return problem;
  // Debian's releases don't have MySQL, and beside MariaDB's packages it can't be installed.
  if (!(await has('debootstrap')) && may) problem = await add(['debootstrap', 'debian-archive-keyring'], log);
  if (!(await has('debootstrap')) || !(await has('dpkg-deb'))) return problem;
  log(`Unpacking MySQL from Debian's sid into ${UNPACKED} (debootstrap; half a minute, 0.5 GB) ...`);
  return makeInCache(UNPACKED, UNPACK).then(
    () => '',
    error => error.message,
  );
}

/** Downloads and unpacks only, running nothing of it: needs neither root nor mounts, and can be ended at any moment. */
const UNPACK = `PATH="$PATH:/usr/sbin"
debootstrap --download-only --force-check-gpg --variant=minbase --include=mysql-server-core,mysql-client-core sid "$1" ||
  { cat "$1/debootstrap/debootstrap.log"; exit 1; }
for package in "$1"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$1"; done
rm -rf "$1/var/cache" "$1/debootstrap"`;

/**
 * Has a folder of the cache made by a shell script, which is given its path, and more: whole, or not at all.
 * @throws Error with the script's last lines.
 */
export async function makeInCache(target: string, script: string, ...more: string[]): Promise<void> {
  mkdirSync(CACHE, { recursive: true });
  const folder = mkdtempSync(join(CACHE, 'unpacking-'));
  const remove = guardFolder(folder);
  try {
    const made = join(folder, 'made');
    await runGuarded(['sh', '-ec', script, 'sh', made, ...more], join(folder, 'log'));
    renameSync(made, target);
  } catch (error) {
    if (!existsSync(target)) throw error; // else somebody else was faster
  } finally {
    await remove();
  }
}

// What must not outlive this process is watched by a shell that reads a pipe from us. The system closes it whatever ends
// us, be it kill -9; no signal handlers are needed. Each is in a session of its own, out of reach of a terminal's Ctrl-C.

/** Ends the program (and what it started) at the pipe's end. A line means instead that it has ended: its pid may be another's. */
const GUARDED = 'exec 3<&0 </dev/null; { read -r line || kill -9 -$$; } <&3 & exec 3<&-; exec "$@"';
/** Tries again: programs that are being ended meanwhile may still write there. */
const REMOVE = 'read -r line; for i in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && exit; sleep 0.2; done';

/** Runs a program that can't outlive this process. Its output is appended to a file. The environment is ours, unless given. */
export function spawnGuarded(argv: string[], logFile: string, env = process.env): ChildProcess {
  const output = openSync(logFile, 'a', 0o600);
  const child = spawn('sh', ['-c', GUARDED, 'sh', ...argv], { detached: true, stdio: ['pipe', output, output], env });
  closeSync(output);
  child.stdin!.on('error', () => {}); // the watcher was ended too
  child.once('exit', () => child.stdin!.end('\n'));
  return child;
}

/**
 * Runs a program to its end, which is this process' end at the latest.
 * @throws Error with the last lines of the log, if it fails.
 */
export async function runGuarded(argv: string[], logFile: string): Promise<void> {
  const [code] = await once(spawnGuarded(argv, logFile), 'exit');
  if (code !== 0) throw new Error(lastLines(readFileSync(logFile, 'utf8')));
}

/** Removes a folder when this process ends; or when the answer is called, which resolves when it is gone. */
export function guardFolder(folder: string): () => Promise<void> {
  const child = spawn('sh', ['-c', REMOVE, 'sh', folder], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  const gone = once(child, 'exit');
  unref(child);
  return async () => {
    child.ref();
    child.stdin.end();
    await gone;
  };
}

/** This process may end while that child runs (and so end it). */
export function unref(child: ChildProcess): void {
  child.unref();
  (child.stdin as Socket).unref();
}

export const lastLines = (text: string) => text.trimEnd().split('\n').slice(-15).join('\n');
