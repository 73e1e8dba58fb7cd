/** A password may have any character, and is nowhere to be read: not in what is printed, in errors, in a log, by other processes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { create, DoLoop } from '../src/index.js';
import { connect, database, makeAccount, makePool, rows, server } from './harness.js';
import { quickOrLong } from './long.js';
import { doloop, type Env, folder, type Ran, serverUrl, startDoloop } from './run-doloop.js';

const root = await connect();
/** What a URL, an option file, a shell or a terminal might make something else of. */
const PASSWORD = 'S3cr3t %41 @:/?#[]&=+;\'"`\\n\\ $HOME {} <é用😀> *!~|^';
const { account, who } = await makeAccount('ALL PRIVILEGES');
await root.query(`ALTER USER ${account} IDENTIFIED BY ?`, [PASSWORD]);
await create(root, 'user_loop');
await root.query('CREATE TABLE users (id INT PRIMARY KEY)');

function urlOf(password: string, more: Partial<URL> = {}): string {
  const url = new URL(serverUrl({ database }));
  url.username = encodeURIComponent(who.user!);
  url.password = encodeURIComponent(password);
  return Object.assign(url, more).href.replaceAll("'", '%27');
}

/** An option file, in which a backslash and quotes have to be written so that they are themselves. */
function fileOf(password: string, more = ''): string {
  const path = join(folder, `${Math.random()}.cnf`);
  const { hostname, port } = new URL(server.url);
  const written = `"${password.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
  const user = `user=${who.user}\nprotocol=tcp\nhost=${hostname}\nport=${port}\ndatabase=${database}`;
  writeFileSync(path, `[client]\n${user}\npassword=${written}\n${more}`, { mode: 0o600 });
  return path;
}

/** Parts by which the password is known again, as it is and as a URL has it. */
const TRACES = ['S3cr3t', 'cr3t%20', '😀', encodeURIComponent('😀')];

function assertSilent(title: string, ...texts: string[]): void {
  for (const text of texts) {
    for (const trace of TRACES) assert.ok(!text.includes(trace), `${title}: ${text}`);
  }
}

/** The ways to say where to connect, with this password. */
const WAYS: Record<string, (password: string) => [args: string[], env: Env]> = {
  MYSQL_URL: password => [[], { MYSQL_URL: urlOf(password) }],
  DATABASE_URL: password => [[], { DATABASE_URL: urlOf(password) }],
  '--url': password => [['--url', urlOf(password)], {}],
  '--defaults-file': password => [['--defaults-file', fileOf(password)], {}],
};

test('a password of all kinds of characters lets in, by a URL and by an option file', async () => {
  const all = Object.entries(WAYS).map(async ([way, where]) => {
    const [args, env] = where(PASSWORD);
    const ran = await doloop(['list', '--json', ...args], env);
    assert.deepEqual([ran.code, ran.stderr], [0, ''], way);
    assertSilent(way, ran.stdout);
  });
  await Promise.all(all);
});

/** Every command that connects, with what it takes to get as far as that. */
const COMMANDS = [
  ...[
    'create user_loop --grant nobody_here',
    'drop user_loop --table',
    'list',
    'work user_loop --once -- true',
    'fill user_loop --from users.id',
  ],
  ...['follow user_loop --source users.id', 'stats user_loop', 'metrics user_loop', 'metrics', 'doctor user_loop'],
  ...[
    'add user_loop 1',
    'remove user_loop 1',
    'get user_loop',
    'did user_loop 1',
    'unlock user_loop 1',
    'bump user_loop 1',
  ],
  ...[
    'extend user_loop 1',
    'fail user_loop 1',
    'check user_loop 1',
    'list --json',
    'doctor user_loop --json',
    'add user_loop x --json',
  ],
];

/** What goes wrong on the way, by how the way is spoiled. */
const TROUBLE: Record<string, [args: string[], env: Env]> = {
  'another password': [[], { MYSQL_URL: urlOf(`${PASSWORD}x`) }],
  'another password in a file': [['--defaults-file', fileOf(`${PASSWORD}x`)], {}],
  'a port where nobody listens': [[], { MYSQL_URL: urlOf(PASSWORD, { port: '1' }) }],
  'a host that there is not': [[], { MYSQL_URL: urlOf(PASSWORD, { hostname: 'nowhere.invalid' }) }],
  'a database that there is not': [[], { MYSQL_URL: urlOf(PASSWORD, { pathname: '/nowhere' }) }],
  'a certificate that nobody knows': [[], { MYSQL_URL: urlOf(PASSWORD, { search: '?ssl-mode=VERIFY_CA' }) }],
  'a mode that there is not': [[], { MYSQL_URL: urlOf(PASSWORD, { search: '?ssl-mode=perhaps' }) }],
  'a certificate that is not there': [[], { MYSQL_URL: urlOf(PASSWORD, { search: '?ssl-ca=/nowhere.pem' }) }],
  'a password that is not encoded': [[], { MYSQL_URL: `mysql://me:${PASSWORD}@127.0.0.1/app` }],
  'one that is no URL': [['--url', `me:${PASSWORD}@127.0.0.1`], {}],
  'an option that there is not': [['--pasword', PASSWORD], {}],
  'an option of the console': [[`-p${PASSWORD}`], {}],
  'a file with a slip': [['--defaults-file', fileOf(PASSWORD, 'port=x')], {}],
  help: [['--help'], { MYSQL_URL: urlOf(PASSWORD) }],
};

/** So many of these, whichever. */
function some<T>(all: readonly T[], count: number): T[] {
  const rest = [...all];
  return Array.from({ length: Math.min(count, all.length) }, () => rest.splice(Math.random() * rest.length, 1)[0]!);
}

test('no command prints the password, whether it works or not', async () => {
  const runs = [
    ...some(COMMANDS, quickOrLong(4, 99)).map(command => ({
      command,
      trouble: 'none',
      where: WAYS.MYSQL_URL!(PASSWORD),
    })),
    ...some(COMMANDS, quickOrLong(3, 99)).map(command => ({
      command,
      trouble: 'another password',
      where: TROUBLE['another password']!,
    })),
    ...some(Object.keys(TROUBLE), quickOrLong(5, 99)).map(trouble => ({
      command: 'list',
      trouble,
      where: TROUBLE[trouble]!,
    })),
  ];
  const one = async ({ command, trouble, where: [args, env] }: (typeof runs)[number]) => {
    const [name, ...rest] = command.split(' ');
    const ran = await doloop([name!, ...args, ...rest], { ...env, NODE_OPTIONS: '--trace-uncaught' }, '');
    assertSilent(`${command}, ${trouble}`, ran.stdout, ran.stderr);
    assert.ok(ran.code !== null && ran.code <= 2, `${command}, ${trouble}: ${ran.code}`);
    if (trouble !== 'none' && trouble !== 'help') assert.notEqual(ran.code, 0, `${command}, ${trouble}`);
  };
  for (let i = 0; i < runs.length; i += 4) await Promise.all(runs.slice(i, i + 4).map(one));
});

test('a command that work runs has the environment of work, and nothing added: the password is in it where it was before', async () => {
  const printed = async (args: string[], env: Env): Promise<Ran> => {
    await root.query('DELETE FROM user_loop');
    await root.query('INSERT INTO user_loop (id) VALUES (1)');
    const ran = await doloop(['work', 'user_loop', '--once', ...args, '--', 'env'], env);
    assert.equal(ran.code, 0, ran.stderr);
    return ran;
  };
  const lines = ({ stdout }: Ran) => stdout.split('\n').filter(Boolean).sort();
  const plain = { NODE_ENV: 'x' };
  const outside = [`HOME=${folder}`, 'NODE_ENV=x', `PATH=${process.env.PATH}`];
  assert.deepEqual(lines(await printed(['--defaults-file', fileOf(PASSWORD)], plain)), outside);
  assert.deepEqual(lines(await printed(['--url', urlOf(PASSWORD)], plain)), outside);
  const url = urlOf(PASSWORD);
  assert.deepEqual(lines(await printed([], { ...plain, MYSQL_URL: url })), [...outside, `MYSQL_URL=${url}`].sort());
});

test('a loop, what it answers and its errors show nothing of the connection, however they are looked at', async () => {
  const pool = makePool({ ...who, password: PASSWORD });
  const wrong = makePool({ ...who, password: `${PASSWORD}x` });
  const caught = async (work: () => Promise<unknown>) => work().catch((error: Error) => error);
  const loop = new DoLoop(pool, 'user_loop');
  for (const [title, one] of Object.entries({
    loop,
    batch: await loop.get(1),
    refused: await caught(() => loop.add('x' as never)),
    'no loop': await caught(() => new DoLoop(pool, 'no_loop').next()),
    denied: await caught(() => new DoLoop(wrong, 'user_loop').next()),
    'denied to install': await caught(() => create(wrong, 'user_loop')),
  })) {
    const text = `${inspect(one, { depth: 20, showHidden: true })} ${JSON.stringify(one)} ${(one as Error).stack}`;
    assertSilent(title, text);
  }
});

test('what the server logs of installing, granting and calling has no password in it', async t => {
  const [before] = await rows(root, 'SELECT @@general_log AS is_on, @@log_output AS output');
  t.after(() => root.query(`SET GLOBAL general_log = ${before!.is_on}, GLOBAL log_output = '${before!.output}'`));
  await root.query("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = 1");
  const env = { MYSQL_URL: urlOf(PASSWORD) };
  for (const args of [
    ['create', 'logged_loop'],
    ['add', 'logged_loop', '1'],
  ]) {
    assert.equal((await doloop(args, env)).code, 0);
  }
  await new DoLoop(makePool({ ...who, password: PASSWORD }), 'logged_loop').did(1);
  const logged = (await rows(root, 'SELECT CONVERT(argument USING utf8mb4) AS said FROM mysql.general_log')).map(
    ({ said }) => String(said),
  );
  assert.ok(logged.some(said => said.includes('`logged_loop_did`')));
  assertSilent('log', ...logged.filter(said => !said.startsWith('ALTER USER')));
});

/** The command lines of all processes of this machine. */
function commandLines(): string[] {
  if (!existsSync('/proc/self/cmdline')) return execFileSync('ps', ['-Ao', 'args'], { encoding: 'utf8' }).split('\n');
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(pid => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return []; // it has ended
      }
    });
}

/** All that processes had for a command line, and sessions were doing, while this was done. */
async function seenDuring(work: () => Promise<unknown>): Promise<{ lines: string[]; statements: string[] }> {
  const lines = new Set<string>();
  const statements = new Set<string>();
  let over = false;
  const looking = (async () => {
    while (!over) {
      for (const line of commandLines()) lines.add(line);
      for (const { Info } of await rows(root, 'SHOW FULL PROCESSLIST')) statements.add(String(Info));
      await sleep(5);
    }
  })();
  try {
    await work();
  } finally {
    over = true;
    await looking;
  }
  return { lines: [...lines], statements: [...statements] };
}

test('neither processes nor the sessions of the server show the password to others; but a command with --url does', async () => {
  const commands = [
    ['create', 'seen_loop'],
    ['fill', 'seen_loop', '--from', 'users.id'],
    ['work', 'seen_loop', '--once', '--', 'sleep', '0.6'],
    ['doctor', 'seen_loop'],
  ];
  await root.query('INSERT INTO users VALUES (1)');
  const run = async (where: [args: string[], env: Env]) => {
    const [args, env] = where;
    for (const [command, ...rest] of commands) {
      const { code, stderr } = await doloop([command!, ...args, ...rest], env);
      assert.equal(code, 0, stderr);
    }
  };
  const { lines, statements } = await seenDuring(async () => {
    await run(WAYS.MYSQL_URL!(PASSWORD));
    await run(WAYS['--defaults-file']!(PASSWORD));
    await new DoLoop(makePool({ ...who, password: PASSWORD }), 'seen_loop').did(1);
  });
  assertSilent('command line', ...lines);
  assertSilent('session', ...statements);
  for (const [command] of commands)
    assert.ok(
      lines.some(line => line.includes(`doloop.js ${command}`)),
      command,
    );
  assert.ok(lines.includes('sleep 0.6 '));
  assert.ok(statements.some(statement => statement.includes('seen_loop')));
  if (server.console) {
    const servers = lines.filter(line => line.includes('--datadir='));
    assert.ok(servers.length > 0);
    assert.ok(!servers.some(line => line.includes(new URL(server.url).password)));
  }
  // As the guide says of it: so there are eyes to see.
  const { lines: told } = await seenDuring(() => run(WAYS['--url']!(PASSWORD)));
  assert.ok(told.some(line => TRACES.some(trace => line.includes(trace))));
});

test('metrics --listen serves no password, whether it gets in or not', async () => {
  for (const [password, status] of [
    [PASSWORD, 200],
    [`${PASSWORD}x`, 503],
  ] as const) {
    const { child, end, until } = startDoloop(['metrics', 'user_loop', '--listen', '0'], {
      MYSQL_URL: urlOf(password),
    });
    const [url] = await until('stderr', /http:.*\/metrics/);
    const answer = await fetch(url);
    assert.equal(answer.status, status);
    assertSilent(url, await answer.text(), inspect([...answer.headers]));
    child.kill('SIGTERM');
    const { stdout, stderr } = await end;
    assertSilent('metrics', stdout, stderr);
  }
});

test("the files of a private server, its password among them, are its user's alone", {
  skip: !server.console && 'not ours',
}, () => {
  const file = server.console!.at(-1)!.replace('--defaults-file=', '');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(statSync(dirname(file)).mode & 0o777, 0o700);
  assert.equal(statSync(join(dirname(file), 'init.sql')).mode & 0o777, 0o600);
  assert.ok(!server.console!.some(argument => argument.includes(new URL(server.url).password)));
});
