import assert from 'node:assert/strict';
import fs, { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inspect } from 'node:util';
import { type ConnectOptions, connect, connectionSettings, place, type Settings } from '../../scripts/connect.js';

const dir = mkdtempSync(join(tmpdir(), 'connect-'));
after(() => rmSync(dir, { recursive: true }));

const me = systemUser();
const SECRET = 'hunter2';

function systemUser(): string {
  try {
    return userInfo().username;
  } catch {
    return 'UNKNOWN_USER'; // of a container, say; these tests pass no USER
  }
}

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

const fromUrl = (url: string): Settings => connectionSettings({ url }, {});
/** What an option file gives: `text` follows [client] and a host, lest sockets of this machine play a part. */
const fromFile = (text: string, env = {}): Settings =>
  connectionSettings({ defaultsFile: file('some.cnf', `[client]\nhost=h\n${text}\n`) }, env);

/** Runs `body` on a machine where just these files exist, as far as existsSync knows. */
function withFiles<T>(paths: string[], body: () => T): T {
  const real = fs.existsSync;
  fs.existsSync = path => paths.includes(String(path));
  syncBuiltinESMExports();
  try {
    return body();
  } finally {
    fs.existsSync = real;
    syncBuiltinESMExports();
  }
}

function failure(options: ConnectOptions, env = {}): Error {
  try {
    connectionSettings(options, env);
  } catch (error) {
    assert(error instanceof Error);
    return error;
  }
  throw new assert.AssertionError({ message: `no error for ${inspect(options)} ${inspect(env)}` });
}

test('a URL gives all there is to know, percent-decoded', () => {
  assert.deepEqual(fromUrl('mysql://j%40e:p%3Aa%2Fs%23s@db.example:3307/my%20db'), {
    host: 'db.example',
    port: 3307,
    user: 'j@e',
    password: 'p:a/s#s',
    database: 'my db',
    charset: 'utf8mb4',
  });
  assert.deepEqual(fromUrl('MariaDB://h'), { host: 'h', port: 3306, user: me, charset: 'utf8mb4' });
  assert.equal(fromUrl('mysql://u@localhost/').host, 'localhost', 'a host of a URL is reached over TCP');
  assert.equal(fromUrl('mysql://u@[::1]:3307/db').host, '::1');
  const at = fromUrl('mysql://me@corp:p@ss:w@h');
  assert.deepEqual([at.user, at.password, at.host], ['me@corp', 'p@ss:w', 'h'], 'the last @ ends the password');
});

test('the first of --url, --defaults-file, MYSQL_URL, DATABASE_URL, option files decides alone', () => {
  const home = join(dir, 'home');
  mkdirSync(home);
  writeFileSync(join(home, '.my.cnf'), `[client]\nhost=home\npassword=${SECRET}\n`);
  const defaultsFile = file('only.cnf', '[client]\nhost=file\n');
  const env = { HOME: home, MYSQL_URL: 'mysql://u@mysql', DATABASE_URL: 'mariadb://u@database' };
  assert.equal(connectionSettings({ url: 'mysql://u@url' }, env).host, 'url');
  assert.equal(connectionSettings({ url: 'mysql://u@url' }, env).password, undefined, 'a URL stands alone');
  assert.equal(connectionSettings({ defaultsFile }, env).host, 'file');
  assert.equal(connectionSettings({ defaultsFile }, env).password, undefined, 'only that file is read');
  assert.equal(connectionSettings({}, env).host, 'mysql');
  assert.equal(connectionSettings({}, { ...env, MYSQL_URL: '' }).host, 'database');
  assert.equal(connectionSettings({}, { HOME: home }).host, 'home');
  assert.equal(connectionSettings({}, { HOME: home }).password, SECRET);
  assert.match(failure({ url: 'mysql://u@h', defaultsFile }).message, /not both/);
  assert.match(failure({ url: '' }, env).message, /^--url is not of the form/, 'an empty --url is not no --url');
});

test('a DATABASE_URL for another server is refused, where nothing before it decides', () => {
  const DATABASE_URL = `postgres://u:${SECRET}@h/db`;
  assert.match(failure({}, { DATABASE_URL }).message, /^DATABASE_URL is a postgres:\/\/ URL.*set MYSQL_URL/);
  assert.equal(connectionSettings({}, { DATABASE_URL, MYSQL_URL: 'mysql://h' }).host, 'h');
});

test('--database goes before the URL and the file', () => {
  const defaultsFile = file('database.cnf', '[client]\ndatabase=one\n');
  assert.equal(connectionSettings({ defaultsFile }, {}).database, 'one');
  assert.equal(connectionSettings({ defaultsFile, database: 'two' }, {}).database, 'two');
  assert.equal(connectionSettings({ url: 'mysql://h/one', database: 'two' }, {}).database, 'two');
});

test('URL parameters: sockets, those of frameworks, and a refusal of any other', () => {
  assert.deepEqual(fromUrl('mysql://u@localhost/db?socket=%2Frun%2Fx.sock'), {
    socketPath: '/run/x.sock',
    user: 'u',
    database: 'db',
    charset: 'utf8mb4',
  });
  assert.equal(fromUrl('mysql://u@/db?socket=/run/x.sock').socketPath, '/run/x.sock');
  const ignored = 'connection_limit=5&pool_timeout=2&connectionLimit=5&schema=x&charset=latin1&timezone=Z';
  assert.deepEqual(fromUrl(`mysql://u@h/db?${ignored}`), fromUrl('mysql://u@h/db'));
  assert.match(failure({ url: 'mysql://u@h/db?ssl-mod=REQUIRED' }).message, /ssl-mod; there are socket, ssl-mode/);
  assert.match(failure({ url: 'mysql://u@h/db?multipleStatements=true' }).message, /no parameter multipleStatements/);
});

test('TLS is off unless asked for, by ssl-mode or by what implies it', () => {
  const [ca, cert, key] = ['ca', 'cert', 'key'].map(name => file(`${name}.pem`, name));
  const own = encodeURIComponent('{"rejectUnauthorized":true,"minVersion":"TLSv1.3"}');
  const encrypted = { rejectUnauthorized: false };
  const chain = { rejectUnauthorized: true };
  const identity = { rejectUnauthorized: true, verifyIdentity: true };
  const withCa = { ca: Buffer.from('ca') };
  const cases: [string, Settings['ssl']][] = [
    ['', undefined],
    ['ssl-mode=DISABLED', undefined],
    ['ssl-mode=PREFERRED', encrypted],
    ['ssl_mode=required', encrypted],
    ['ssl-mode=VERIFY_CA', chain],
    ['ssl-mode=VERIFY_IDENTITY', identity],
    ['ssl=1', encrypted],
    ['ssl=OFF', undefined],
    ['ssl-verify-server-cert=1', identity],
    ['ssl-verify-server-cert=0', undefined],
    ['ssl=0&ssl-verify-server-cert=1', identity],
    [`ssl-ca=${ca}`, { ...chain, ...withCa }],
    [`ssl-ca=${ca}&ssl=0`, undefined],
    [`ssl-ca=${ca}&ssl-mode=REQUIRED`, { ...encrypted, ...withCa }],
    [`ssl-ca=${ca}&ssl-mode=DISABLED`, undefined],
    [`ssl-cert=${cert}&ssl-key=${key}`, { ...encrypted, cert: Buffer.from('cert'), key: Buffer.from('key') }],
  ];
  for (const [options, ssl] of cases) {
    assert.deepEqual(fromUrl(`mysql://h?${options}`).ssl, ssl, `URL with ${options}`);
    assert.deepEqual(fromFile(options.replaceAll('&', '\n')).ssl, ssl, `file with ${options}`);
  }
  assert.deepEqual(fromUrl('mysql://h?ssl={"rejectUnauthorized":true}').ssl, chain);
  assert.deepEqual(fromUrl(`mysql://h?ssl=${own}&ssl-ca=${ca}`).ssl, { ...chain, minVersion: 'TLSv1.3', ...withCa });
  assert.deepEqual(fromUrl(`mysql://h?ssl=${own}&ssl-mode=REQUIRED`).ssl, { ...encrypted, minVersion: 'TLSv1.3' });
  assert.deepEqual(fromUrl('mysql://h?sslaccept=strict').ssl, identity);
  assert.deepEqual(fromUrl('mysql://h?sslmode=required').ssl, encrypted);
  for (const bare of ['ssl', 'enable-ssl', 'loose-ssl']) assert.deepEqual(fromFile(bare).ssl, encrypted, bare);
  assert.equal(fromFile('ssl\nskip-ssl').ssl, undefined);
});

test('a slip in a TLS option is an error, never a connection without TLS', () => {
  for (const slip of ['ssl-mode=REQUIERD', 'ssl-mode=', 'sslaccept=strikt', 'ssl-mode=verify-full']) {
    assert.match(failure({ url: `mysql://h?${slip}` }).message, /ssl-mode must be one of DISABLED, /, slip);
  }
  for (const slip of ['ssl=maybe', 'ssl=', 'ssl-verify-server-cert=yes']) {
    assert.match(failure({ url: `mysql://h?${slip}` }).message, /must be 1 or 0/, slip);
  }
  assert.match(failure({ url: 'mysql://h?ssl={true' }).message, /not valid JSON/);
  assert.match(failure({ url: 'mysql://h?ssl-ca=/no/such.pem' }).message, /\/no\/such\.pem/);
  assert.match(failure({ url: 'mysql://10.0.0.1?ssl-mode=VERIFY_IDENTITY' }).message, /by host name only/);
});

test('option files: groups, names, the last value wins', () => {
  const defaultsFile = file(
    'groups.cnf',
    `# comment
; comment
!garbage
[client]
host=one
USER=no
  user = client
unknown-option
unknown=5
default-character-set=latin1
[mysql ] trailing
loose_user=console
[client-mariadb]
port = 3307
[mariadb-client]
password=one
database=shop
[client-server]
password=two
[mysqld]
user=server
port=1
`,
  );
  assert.deepEqual(connectionSettings({ defaultsFile }, {}), {
    host: 'one',
    port: 3307,
    user: 'console',
    password: 'two',
    database: 'shop',
    charset: 'utf8mb4',
  });
  assert.equal(fromFile('user=x\nuser=').user, me, 'an empty value takes an earlier one back');
});

test('option files: comments, quotes and escapes, as my_print_defaults reads them', () => {
  const cases: [string, string][] = [
    ['joe # comment', 'joe'],
    ['joe#comment', 'joe'],
    ['"joe # no comment" # comment', 'joe # no comment'],
    ["'q\"r'", 'q"r'],
    ["it's#1", "it's#1"],
    ['"a\'', '"a\''],
    ['"', '"'],
    ['a=b', 'a=b'],
    ["'\\'#'", "'#"],
    [String.raw`a\sb\tc\nd\re\bf\\s\"\q\ `, 'a b\tc\nd\re\bf\\s"\\q\\'],
    ['joe\r', 'joe'],
  ];
  for (const [text, user] of cases) assert.equal(fromFile(`user = ${text}`).user, user, text);
});

test('option files include others, and directories of .cnf files in order', () => {
  const sub = join(dir, 'sub');
  mkdirSync(sub);
  file('sub/b.cnf', '[client]\nuser=b\n');
  file('sub/a.cnf', '[client]\nuser=a\nport=5\n');
  file('sub/c.txt', '[client]\nuser=c\n');
  assert.deepEqual([fromFile(`!includedir ${sub}`).user, fromFile(`!includedir ${sub}`).port], ['b', 5]);
  assert.equal(fromFile(`user=x\n!include ${join(sub, 'a.cnf')}`).user, 'a');
  assert.equal(fromFile('user=x\n!include ~/a.cnf', { HOME: sub }).user, 'a');
  assert.equal(fromFile(`!include ${join(sub, 'a.cnf')}\nuser=x`).user, 'x', 'the group goes on after an include');
  assert.equal(fromFile(`!include ${join(sub, 'none.cnf')}\nuser=x`).user, 'x');
  assert.equal(fromFile(`user=x\n!include ${join(dir, 'some.cnf')}`).user, 'x', 'an endless include ends');
});

test('option files that cannot be read or make no sense', t => {
  assert.match(failure({ defaultsFile: join(dir, 'none.cnf') }).message, /^--defaults-file: cannot read .*none\.cnf/);
  assert.match(
    failure({ defaultsFile: file('bad.cnf', `\npassword=${SECRET}`) }).message,
    /bad\.cnf, line 2: .*\[group\]/,
  );
  assert.match(failure({ defaultsFile: file('bad.cnf', '[client') }).message, /bad\.cnf, line 1: .*\]/);
  assert.match(failure({ defaultsFile: file('bad.cnf', '[client]\npassword') }).message, /line 2: password/);
  assert.match(failure({ defaultsFile: file('bad.cnf', '[client]\nhost') }).message, /line 2: host/);
  for (const port of ['0', '65536', 'x', '1.5']) {
    assert.match(failure({ defaultsFile: file('bad.cnf', `[client]\nport=${port}`) }).message, /port must be/, port);
  }
  assert.match(failure({ url: 'mysql://h:65536' }).message, /^--url: the port must be/);

  const warn = t.mock.method(console, 'warn', () => {});
  const path = file('open.cnf', '[client]\nhost=open\n');
  chmodSync(path, 0o666);
  assert.notEqual(connectionSettings({ defaultsFile: path }, {}).host, 'open');
  assert.deepEqual(warn.mock.calls[0]?.arguments, [`Warning: World-writable config file '${path}' is ignored`]);
});

test('a local server: its socket, a well-known one that exists, else TCP', () => {
  const read = (text: string) => connectionSettings({ defaultsFile: file('local.cnf', `[client]\n${text}\n`) }, {});
  const known = '/tmp/mysql.sock';
  const [user, charset] = [me, 'utf8mb4'];
  withFiles([known], () => {
    assert.deepEqual(read(''), { socketPath: known, user, charset });
    assert.deepEqual(read('host=localhost\nport=5'), { socketPath: known, user, charset });
    assert.deepEqual(read('socket=/x.sock'), { socketPath: '/x.sock', user, charset });
    assert.deepEqual(read('protocol=TCP\nsocket=/x.sock'), { host: '127.0.0.1', port: 3306, user, charset });
    assert.deepEqual(read('host=db\nsocket=/x.sock'), { host: 'db', port: 3306, user, charset });
    assert.deepEqual(fromUrl('mysql:///'), { socketPath: known, user, charset });
    assert.deepEqual(fromUrl('mysql://localhost'), { host: 'localhost', port: 3306, user, charset });
  });
  withFiles([], () => {
    assert.deepEqual(read('port=5'), { host: '127.0.0.1', port: 5, user, charset });
  });
});

test('no error holds the password: not its text, its stack, nor what inspect() shows', () => {
  const urls = [
    SECRET,
    `u:${SECRET}@h`,
    `mysql:u:${SECRET}@h`,
    `mysql:/u:${SECRET}@h`,
    `mysql://u:${SECRET}`,
    `mysql://u:${SECRET}@h:port/db`,
    `mysql://u:${SECRET}@h:99999/db`,
    `mysql://u:1/${SECRET}@h/db`,
    `mysql://u:1?${SECRET}@h/db`,
    `mysql://u:1#${SECRET}@h/db`,
    `mysql://u:/${SECRET}@h/db`,
    `mysql://u:x@1/${SECRET}@h/db`,
    `mysql://u:%${SECRET}@h/db`,
    `mysql://u:${SECRET}@[::1/db`,
    `mysql://u:${SECRET}@h/db#x`,
    `mysql://u:${SECRET}@h/a/b`,
    `mysql://u:${SECRET}@h/db?nope=1`,
    `mysql://u:${SECRET}@h/db?ssl-mode=nope`,
    `mysql://u:${SECRET}@h/db?ssl=nope`,
    `mysql://u:${SECRET}@h/db?ssl-ca=/no/such.pem`,
    `mysql://u@h/db?password=${SECRET}`,
    `mysql://u@h/db?ssl={"passphrase":"${SECRET}"`,
    `mysql://u@h/db?ssl=${SECRET}`,
    `postgres://u:${SECRET}@h/db`,
    `jdbc:mysql://u:${SECRET}@h/db`,
  ];
  const errors = urls.flatMap(url => [failure({ url }), failure({}, { MYSQL_URL: url })]);
  for (const text of [
    `password=${SECRET}`,
    `[client]\npassword=${SECRET}\nport=x`,
    `[client]\npassword ${SECRET}\nhost`,
  ]) {
    errors.push(failure({ defaultsFile: file('secret.cnf', text) }));
  }
  for (const error of errors) {
    const shown = `${error.message}\n${error.stack}\n${inspect(error, { depth: 9, showHidden: true })}`;
    assert(!shown.includes(SECRET), shown);
  }
});

test('a failed connection says where it tried and what may help, and keeps the cause', async () => {
  const socket = join(dir, 'none.sock');
  const url = `mysql://joe:${SECRET}@localhost/shop?socket=${socket}`;
  await assert.rejects(connect({ url }, {}), (error: Error) => {
    assert.match(error.message, /^Cannot connect to joe@localhost\/shop \(socket .*none\.sock\): connect ENOENT/);
    assert.match(error.message, /Is the server running\? Give --url mysql:\/\/user@host\/database, or set MYSQL_URL$/);
    assert.equal((error.cause as NodeJS.ErrnoException).code, 'ENOENT');
    assert(!inspect(error, { depth: 9, showHidden: true }).includes(SECRET));
    return true;
  });
  assert.equal(place(fromUrl(`mysql://joe:${SECRET}@h:5/db`)), 'joe@h:5/db');
  assert.equal(place(fromUrl('mysql://joe@[::1]')), 'joe@[::1]:3306');
});
