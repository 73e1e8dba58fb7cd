import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { type Connection, createConnection, type SslOptions } from 'mysql2/promise';

/** Where to connect, as the command line says it. */
export interface ConnectOptions {
  /**
   * `mysql://user:password@host:port/database?ssl-mode=…`, or the same with `mariadb://`. Other users of the machine can
   * read a password given here in the process list: MYSQL_URL or an option file keeps it off the command line.
   */
  url?: string;
  /** The only option file to read, as the console's `--defaults-file`. */
  defaultsFile?: string;
  /** The database to use, rather than the one the URL or the option files name. */
  database?: string;
}

/** What mysql2 needs to connect: either `host` and `port` or `socketPath`. */
export interface Settings {
  host?: string;
  port?: number;
  socketPath?: string;
  user: string;
  password?: string;
  database?: string;
  ssl?: SslOptions;
  charset: string;
}

type Env = Record<string, string | undefined>;
/** Options by the names the console gives them. */
type Given = Map<string, string>;

const FORM = 'mysql://user:password@host:port/database';
// An @ or # after the host is refused: the password has a / or ?, and what follows it is not what it seems.
const FORM_PATTERN = new RegExp(
  [
    /^(?:mysql|mariadb):\/\/(?:(?<user>[^:/?#]*)(?::(?<password>[^/?#]*))?@)?/,
    /(?:\[(?<ipv6>[\da-f:.%]+)\]|(?<host>[^:@/?#[\]]*))(?::(?<port>\d+))?/,
    /(?:\/(?<database>[^/?#@]*))?(?:\?(?<query>[^#@]*))?$/,
  ]
    .map(part => part.source)
    .join(''),
  'i',
);
const FLAGS = ['ssl', 'ssl-verify-server-cert'];
const IN_URLS = ['socket', 'ssl-mode', 'ssl-ca', 'ssl-cert', 'ssl-key', ...FLAGS];
const IN_FILES = ['host', 'port', 'protocol', 'user', 'password', 'database', ...IN_URLS];
/** What frameworks put into DATABASE_URL for themselves: none of it says where to connect, or how safely. */
const IGNORED =
  /^(charset|collation|encoding|timezone|schema|serverversion|pool|(connection|connect|pool|socket)-?(limit|timeout))$/;
const GROUPS = ['client', 'mysql', 'client-server', 'client-mariadb', 'mariadb-client'];
const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r', b: '\b', s: ' ' };
const SOCKETS = [
  '/run/mysqld/mysqld.sock',
  '/var/run/mysqld/mysqld.sock',
  '/tmp/mysql.sock',
  '/var/lib/mysql/mysql.sock',
];
const MODES = new Map<string, SslOptions>([
  ['DISABLED', {}],
  // mysql2 cannot fall back to a connection without TLS: better to fail aloud than to send in the clear.
  ['PREFERRED', { rejectUnauthorized: false }],
  ['REQUIRED', { rejectUnauthorized: false }],
  ['VERIFY_CA', { rejectUnauthorized: true }],
  ['VERIFY_IDENTITY', { rejectUnauthorized: true, verifyIdentity: true }],
  // The two values of Prisma's sslaccept.
  ['STRICT', { rejectUnauthorized: true, verifyIdentity: true }],
  ['ACCEPT_INVALID_CERTS', { rejectUnauthorized: false }],
]);

/**
 * Where to connect: `--url`, else `--defaults-file`, else MYSQL_URL, else DATABASE_URL, else the option files the
 * `mysql` console reads (/etc/my.cnf, /etc/mysql/my.cnf, ~/.my.cnf; later values win). The first of these decides alone:
 * option files add nothing to a URL, `--url` with `--defaults-file` is refused, and so is a DATABASE_URL for another
 * kind of server, rather than connecting where nobody said. Only `database` overrides. An absent user is the operating
 * system's, and no password is ever asked for.
 *
 * A URL's host is reached over TCP, or by `?socket=`. In option files, and for a URL without host, a host that is absent
 * or `localhost` means `socket`, else a well-known socket that exists, else TCP; `protocol=tcp` means TCP.
 *
 * TLS is off unless asked for by the console's options: `ssl-mode` (PREFERRED and REQUIRED encrypt without verifying,
 * VERIFY_CA verifies the certificate's chain, VERIFY_IDENTITY the host name too), or what implies one:
 * `ssl-verify-server-cert` VERIFY_IDENTITY, `ssl-ca` VERIFY_CA, `ssl`, `ssl-cert` or `ssl-key` REQUIRED. Without
 * `ssl-ca` Node's own roots count. URLs may also say `sslaccept=strict` or mysql2's `ssl={"rejectUnauthorized":true}`.
 *
 * No error's text holds a password.
 */
export function connectionSettings(options: ConnectOptions, env: Env = process.env): Settings {
  const { url, defaultsFile, database } = options;
  if (url !== undefined && defaultsFile !== undefined) throw new Error('Give --url or --defaults-file, not both');
  if (url !== undefined) return settings(readUrl(url, '--url'), '--url', database, env);
  const given: Given = new Map();
  if (defaultsFile !== undefined) {
    if (!readOptionFile(defaultsFile, given, env)) throw new Error(`--defaults-file: cannot read ${defaultsFile}`);
    return settings(given, '--defaults-file', database, env);
  }
  for (const name of ['MYSQL_URL', 'DATABASE_URL']) {
    const value = env[name];
    if (value) return settings(readUrl(value, name), name, database, env);
  }
  for (const file of ['/etc/my.cnf', '/etc/mysql/my.cnf', '~/.my.cnf']) readOptionFile(file, given, env);
  return settings(given, 'option files', database, env);
}

/** Connects; where that fails, throws an error that says where it tried and what may help. */
export async function connect(options: ConnectOptions, env: Env = process.env): Promise<Connection> {
  const target = connectionSettings(options, env);
  try {
    return await createConnection({ ...target });
  } catch (cause) {
    const { code = '', message } = cause as NodeJS.ErrnoException;
    // An error about several addresses of one host has a code only.
    const parts = [`Cannot connect to ${place(target)}: ${message || code}`, mend(code)];
    throw new Error(parts.filter(Boolean).join('. '), { cause });
  }
}

/** Where settings lead, for people: user@host:port/database, or the socket. Never the password. */
export function place({ user, host = 'localhost', port, socketPath, database }: Settings): string {
  const server = socketPath ? 'localhost' : `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  return `${user}@${server}${database ? `/${database}` : ''}${socketPath ? ` (socket ${socketPath})` : ''}`;
}

function mend(code: string): string | undefined {
  if (code.startsWith('ER_ACCESS_DENIED')) return 'Check the user and the password';
  if (code === 'ER_BAD_DB_ERROR' || code === 'ER_DBACCESS_DENIED_ERROR') return 'Another database: --database NAME';
  if (code === 'HANDSHAKE_NO_SSL_SUPPORT') return 'Without TLS: ssl-mode=DISABLED';
  if (code === 'HANDSHAKE_SSL_ERROR') {
    return 'ssl-ca=FILE says which CA to trust; ssl-mode=VERIFY_CA takes any host name, REQUIRED any certificate';
  }
  if (code.startsWith('ERR_OSSL_')) return 'Are ssl-ca, ssl-cert and ssl-key PEM files?';
  if (code.startsWith('ER_')) return undefined; // the server has said it all
  return 'Is the server running? Give --url mysql://user@host/database, or set MYSQL_URL';
}

function settings(given: Given, source: string, named: string | undefined, env: Env): Settings {
  const get = (key: string) => given.get(key) || undefined; // an empty value is none
  const host = get('host');
  const port = Number(get('port') ?? 3306);
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new Error(`${source}: the port must be 1 to 65535`);
  const local = (host === undefined || host === 'localhost') && get('protocol')?.toLowerCase() !== 'tcp';
  const socketPath = local ? (get('socket') ?? SOCKETS.find(path => existsSync(path))) : undefined;
  const password = get('password');
  const database = named ?? get('database');
  const ssl = tls(given, source, env);
  // mysql2 would check the certificate of an address for the name "localhost".
  if (ssl?.verifyIdentity && host !== undefined && isIP(host)) {
    throw new Error(`${source}: the server's identity can be verified by host name only, not by address`);
  }
  return {
    ...(socketPath ? { socketPath } : { host: host ?? '127.0.0.1', port }),
    user: get('user') ?? systemUser(env),
    ...(password && { password }),
    ...(database && { database }),
    ...(ssl && { ssl }),
    charset: 'utf8mb4',
  };
}

function systemUser(env: Env): string {
  try {
    return userInfo().username;
  } catch {
    return env.USER ?? env.LOGNAME ?? 'UNKNOWN_USER'; // containers run as numbers without a name
  }
}

function tls(given: Given, source: string, env: Env): SslOptions | undefined {
  const flag = (key: string): boolean => {
    const at = ['0', 'off', 'false', '1', 'on', 'true'].indexOf(given.get(key)?.toLowerCase() ?? '0');
    if (at < 0) throw new Error(`${source}: ${key} must be 1 or 0`);
    return at > 2;
  };
  const file = (option: string, key: 'ca' | 'cert' | 'key'): SslOptions => {
    const path = given.get(option);
    return path === undefined ? {} : { [key]: readFileSync(expand(path, env)) };
  };
  const own = readJson(given.get('ssl'), source);
  const implied = (): string | undefined => {
    if (flag('ssl-verify-server-cert')) return 'VERIFY_IDENTITY';
    if (own) return undefined;
    if (given.has('ssl') && !flag('ssl')) return 'DISABLED';
    if (given.has('ssl-ca')) return 'VERIFY_CA';
    return ['ssl', 'ssl-cert', 'ssl-key'].some(key => given.has(key)) ? 'REQUIRED' : 'DISABLED';
  };
  const mode = given.get('ssl-mode')?.toUpperCase() ?? implied();
  if (mode === 'DISABLED') return undefined;
  if (mode !== undefined && !MODES.has(mode)) {
    throw new Error(`${source}: ssl-mode must be one of ${[...MODES.keys()].join(', ')}`);
  }
  const rules = { ...own, ...(mode && MODES.get(mode)) };
  return { ...rules, ...file('ssl-ca', 'ca'), ...file('ssl-cert', 'cert'), ...file('ssl-key', 'key') };
}

/** mysql2's own way to say TLS in a URL. */
function readJson(text: string | undefined, source: string): SslOptions | undefined {
  if (!text?.startsWith('{')) return undefined;
  try {
    return JSON.parse(text) as SslOptions;
  } catch {
    throw new Error(`${source}: ssl is not valid JSON`); // the parser's error quotes the text: a passphrase, perhaps
  }
}

/** By a pattern, not `new URL`, whose errors hold the whole text, and which has no user without a host. */
function readUrl(url: string, source: string): Given {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme && scheme !== 'mysql' && scheme !== 'mariadb') {
    throw new Error(`${source} is a ${scheme}:// URL, not mysql://. Give --url or --defaults-file, or set MYSQL_URL`);
  }
  const malformed = () =>
    new Error(`${source} is not of the form ${FORM}, with % : / ? # @ as %25 %3A %2F %3F %23 %40`);
  const groups = FORM_PATTERN.exec(url)?.groups;
  if (!groups) throw malformed();
  const { ipv6, query, ...parts } = groups;
  const given: Given = new Map();
  for (const [key, value] of Object.entries({ ...parts, host: ipv6 ?? parts.host })) {
    try {
      if (value) given.set(key, decodeURIComponent(value));
    } catch {
      throw malformed();
    }
  }
  for (const [name, value] of new URLSearchParams(query)) {
    const key = name.toLowerCase().replaceAll('_', '-');
    const option = /^ssl(mode|accept)$/.test(key) ? 'ssl-mode' : key;
    if (IN_URLS.includes(option)) given.set(option, value);
    else if (!IGNORED.test(key)) throw new Error(`${source}: no parameter ${name}; there are ${IN_URLS.join(', ')}`);
  }
  if (given.get('socket')) given.delete('host');
  else if (given.has('host')) given.set('protocol', 'tcp');
  return given;
}

/** Reads an option file as the consoles do, later values over earlier ones; false where there is none to read. */
function readOptionFile(name: string, given: Given, env: Env, depth = 0): boolean {
  const path = expand(name, env);
  let text: string;
  try {
    const { mode } = statSync(path);
    if ((mode & 0o170002) === 0o100002) {
      console.warn(`Warning: World-writable config file '${path}' is ignored`);
      return true;
    }
    text = readFileSync(path, 'utf8');
  } catch {
    return false;
  }
  let group: string | undefined;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    const fail = (what: string) => new Error(`${path}, line ${index + 1}: ${what}`);
    const [, dir, included] = /^!\s*include(dir)?\s+(.+)$/.exec(line) ?? [];
    if (included && depth < 10) {
      const files = dir ? optionFiles(expand(included, env)) : [included];
      for (const file of files) readOptionFile(file, given, env, depth + 1);
    } else if (line.startsWith('[')) {
      group = /^\[([^\]]*)\]/.exec(line)?.[1]?.trimEnd();
      if (group === undefined) throw fail('a group without ]');
    } else if (line && !/^[#;!]/.test(line)) {
      if (group === undefined) throw fail('an option before any [group]');
      if (GROUPS.includes(group)) readOption(line, given, fail);
    }
  }
  return true;
}

function optionFiles(dir: string): string[] {
  const names = readdirSync(dir).filter(name => name.endsWith('.cnf'));
  return names.sort().map(name => join(dir, name));
}

function readOption(line: string, given: Given, fail: (what: string) => Error): void {
  // A # begins a comment, after a space or not, unless in quotes, where a backslash protects the next character.
  const [text = ''] = /^(?:[^'"#]|'(?:\\.|[^'\\])*(?:'|\\?$)|"(?:\\.|[^"\\])*(?:"|\\?$))*/s.exec(line) ?? [];
  const [, name = '', quoted] = /^([^=]*?)\s*(?:=\s*(.*?)\s*)?$/s.exec(text) ?? [];
  const value = quoted?.replace(/^(["'])(.*)\1$/s, '$2').replace(/\\([ntrbs"'\\])/g, (_, c: string) => ESCAPES[c] ?? c);
  const key = name.replaceAll('_', '-').replace(/^loose-/, '');
  const [, turn, flag] = /^(skip|disable|enable)-(.*)$/.exec(key) ?? [];
  if (flag && FLAGS.includes(flag)) given.set(flag, turn === 'enable' ? '1' : '0');
  if (!IN_FILES.includes(key)) return; // the file is other programs' too
  if (value !== undefined) given.set(key, value);
  else if (FLAGS.includes(key)) given.set(key, '1');
  else throw fail(key === 'password' ? 'password= has to follow: doloop never asks for one' : `${key} has no value`);
}

function expand(path: string, env: Env): string {
  return path.startsWith('~/') ? join(env.HOME ?? homedir(), path.slice(2)) : path;
}
