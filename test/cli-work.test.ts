/** `doloop work`, run as a program: what its command is given, what becomes of the ids, and how it ends. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { connect as connectTo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseId } from '../scripts/cli/ids.js';
import type { LoopId } from '../src/index.js';
import { connect, contents, database, makeLoop, rows } from './harness.js';
import { beginDoloop, doloop, ended, failed, folder, NOWHERE, type Ran, serverUrl, shell } from './run-doloop.js';
import { until } from './until.js';

const root = await connect();

/** A new loop with these ids. */
async function loopOf<Id extends LoopId>(ids: Id[], idType = 'INT'): Promise<string> {
  const { table, loop } = await makeLoop<Id>(root, { idType });
  await loop.add(ids);
  return table;
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

const lines = (text: string) => text.split('\n').slice(0, -1);

const byNumber = (a: string, b: string) => Number(a) - Number(b);

const summary = (...parts: string[]) => new RegExp(`^doloop: ${parts.join(', ')} in [\\d.]+ s \\([\\d,.]+ ids/s\\)$`);

/** It has ended with 0, and said this. */
function assertDone({ code, signal, stderr }: Ran, ...said: (string | RegExp)[]): void {
  const told = lines(stderr);
  assert.equal(told.length, said.length, stderr);
  for (const [i, expected] of said.entries()) {
    if (typeof expected === 'string') assert.equal(told[i], `doloop: ${expected}`);
    else assert.match(told[i]!, expected);
  }
  assert.deepEqual([code, signal], [0, null]);
}

/** Ids by what became of them: done, locked for so many seconds (to within 5), with so many failures; else untouched. */
async function states(table: string): Promise<Record<string, string>> {
  const now = (await rows(root, 'SELECT UNIX_TIMESTAMP() AS now'))[0]!.now as number;
  const all = await contents(root, table);
  return Object.fromEntries(
    all.map(({ id, last_updated, lock_until, failures }) => {
      const parts = [
        last_updated !== null && 'done',
        lock_until !== null && `locked ${Math.ceil((lock_until - now) / 5) * 5}`,
        failures > 0 && `failures ${failures}`,
      ];
      return [String(id), parts.filter(Boolean).join(', ')];
    }),
  );
}

const all = (ids: LoopId[], state: string) => Object.fromEntries(ids.map(id => [String(id), state]));

/** Resolves when the process has written this so many times; with all it has written to its standard output by then. */
async function written(
  child: ChildProcess,
  what: string,
  times = 1,
  stream: 'stdout' | 'stderr' = 'stdout',
): Promise<string> {
  let text = '';
  return new Promise((resolve, reject) => {
    child[stream]!.setEncoding('utf8').on('data', chunk => {
      text += chunk;
      if (text.split(what).length > times) resolve(text);
    });
    child.on('close', () => reject(new Error(`it ended without ${what}: ${text}`)));
  });
}

/** For a shell: waits for this file, for 20 s at most. */
const waitFor = (file: string) => `n=0; until test -e '${file}' || test $((n = n + 1)) -gt 400; do sleep 0.05; done`;

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('ids come on standard input, one a line, each once, as many at a time as --limit says', async () => {
  const ids = numbers(250);
  const table = await loopOf(ids);
  const ran = await doloop(['work', table, '--once', '--limit', '100', '--', 'sh', '-c', 'cat; echo .']);
  const out = lines(ran.stdout);
  assert.deepEqual(out.filter(line => line !== '.').sort(byNumber), ids.map(String));
  assert.equal(out.filter(line => line === '.').length, 3);
  assertDone(ran, summary('250 done', '0 failed', '0 lost'));
  assert.deepEqual(await states(table), all(ids, 'done'));
  const again = await doloop(['work', table, '--once', '--', 'cat']);
  assert.equal(again.stdout, '', 'they were updated less than --min-loop-time ago');
  assertDone(again, summary('0 done', '0 failed', '0 lost'));
});

test('with {} a process is run for each id, which stands in each argument; its standard input is empty', async () => {
  const ids = numbers(60);
  const table = await loopOf(ids);
  const args = ['--once', '--limit', '25', '--concurrency', '20'];
  const ran = await doloop(['work', table, ...args, '--', 'sh', '-c', 'cat; echo "$# $*"', 'sh', '{}', '{}-{}', '$&']);
  assert.deepEqual(lines(ran.stdout).sort(), ids.map(id => `3 ${id} ${id}-${id} $&`).sort());
  assertDone(ran, summary('60 done', '0 failed', '0 lost'));
  assert.deepEqual(await states(table), all(ids, 'done'));
});

test('several workers get each id once', async () => {
  const ids = numbers(300);
  const table = await loopOf(ids);
  const worker = () => doloop(['work', table, '--once', '--limit', '10', '--concurrency', '3', '--', 'cat']);
  const ran = await Promise.all([worker(), worker()]);
  assert.deepEqual(lines(ran.map(({ stdout }) => stdout).join('')).sort(byNumber), ids.map(String));
  assert.deepEqual(await states(table), all(ids, 'done'));
});

const ODD: [idType: string, ids: LoopId[]][] = [
  [
    'VARCHAR(40) CHARSET utf8mb4',
    [
      ...['-x', '--once', '{}', ' a b ', "it's", '"quoted"', '"', '\\', '$(echo no)', '`echo no`', '$&', '*', ';', ''],
      ...['two\nlines', 'tab\t', 'Zoë', '漢字', '🙂', '%s', 'true', '12'],
    ],
  ],
  ['BIGINT UNSIGNED', [0, 9007199254740991, 9007199254740993n, 18446744073709551615n]],
  ['BINARY(3)', [Buffer.from('000aff', 'hex'), Buffer.from('2d7800', 'hex')]],
  ['DECIMAL(30,2)', ['-0.10', '1234567890123456789012345678.90']],
  ['DATETIME', ['2026-01-31 23:59:59']],
];
for (const [idType, ids] of ODD) {
  const texts = ids.map(id => (Buffer.isBuffer(id) ? id.toString('hex') : String(id))).sort();

  test(`ids of ${idType} arrive as they are in arguments, and can be read from lines`, async () => {
    const table = await loopOf(ids, idType);
    const tell = 'console.log(JSON.stringify(process.argv[1]))';
    const asArgument = await doloop(['work', table, '--once', '--', process.execPath, '-e', tell, '--', '{}']);
    assertDone(asArgument, summary(`${ids.length} done`, '0 failed', '0 lost'));
    assert.deepEqual(
      lines(asArgument.stdout)
        .map(line => JSON.parse(line))
        .sort(),
      texts,
    );
    await root.query(`UPDATE ${table} SET last_updated = 1`);
    const asLines = await doloop(['work', table, '--once', '--', 'cat']);
    assertDone(asLines, summary(`${ids.length} done`, '0 failed', '0 lost'));
    assert.deepEqual(lines(asLines.stdout).map(parseId).sort(), texts);
    assert.ok((await contents(root, table)).every(row => row.last_updated! > 1 && row.lock_until === null));
  });
}

test('an id that can be no argument has failed, and the others are done', async () => {
  const table = await loopOf(['a\0b', 'c'], 'VARCHAR(9) CHARSET utf8mb4');
  const ran = await doloop(['work', table, '--once', '--', 'echo', '{}']);
  assert.equal(ran.stdout, 'c\n');
  assertDone(ran, /^doloop: id "a\\u0000b": not started: .*null bytes/, summary('1 done', '1 failed', '0 lost'));
  assert.deepEqual(await states(table), { 'a\0b': 'locked 60, failures 1', c: 'done' });
});

test('a command that does not read its standard input does well all the same', async () => {
  const ids = numbers(4_000).map(id => String(id).padStart(60, '0')); // more than a pipe holds
  const table = await loopOf(ids, 'CHAR(60) CHARSET ascii');
  for (const command of [['true'], ['sh', '-c', 'exec <&-; sleep 0.2'], ['head', '-n', '1']]) {
    await root.query(`UPDATE ${table} SET last_updated = NULL`);
    const ran = await doloop(['work', table, '--once', '--limit', '4000', '--', ...command]);
    assertDone(ran, summary('4,000 done', '0 failed', '0 lost'));
  }
});

const FAILURES: [how: string, script: string, told: string][] = [
  ['another exit code than 0', 'exit 3', 'ended with exit code 3'],
  ['a signal', 'kill -KILL $$', 'ended by SIGKILL'],
];
for (const [how, script, told] of FAILURES) {
  test(`a process that ends with ${how} has failed: its ids are tried again later`, async () => {
    const table = await loopOf([1, 2, 3]);
    const each = await doloop(['work', table, '--once', '--', 'sh', '-c', `test $1 -ne 2 || ${script}`, 'sh', '{}']);
    assertDone(each, `id 2: ${told}`, summary('2 done', '1 failed', '0 lost'));
    assert.deepEqual(await states(table), { 1: 'done', 2: 'locked 60, failures 1', 3: 'done' });
    await root.query(`UPDATE ${table} SET last_updated = NULL, lock_until = NULL`);
    const batch = await doloop(['work', table, '--once', '--retry-in', '600', '--', 'sh', '-c', script]);
    assertDone(batch, `3 ids: ${told}`, summary('0 done', '3 failed', '0 lost'));
    const later = 'locked 600, failures';
    assert.deepEqual(await states(table), { 1: `${later} 1`, 2: `${later} 2`, 3: `${later} 1` });
  });
}

test('--on-failure unlock gives failed ids back, to be tried again as soon as any', async () => {
  const table = await loopOf([1]);
  const tried = join(folder, 'tried');
  const script = `test -e '${tried}' || { touch '${tried}'; exit 1; }`;
  const args = ['work', table, '--poll-interval', '1', '--on-failure', 'unlock', '--', 'sh', '-c', script];
  const child = beginDoloop(args);
  const end = ended(child);
  await until('the id is done', async () => (await states(table))[1] === 'done');
  child.kill('SIGTERM');
  const [failure, , sum] = lines((await end).stderr);
  assert.equal(failure, 'doloop: 1 id: ended with exit code 1');
  assert.match(sum!, summary('1 done', '0 failed', '0 lost', '1 given back'));
});

test('--on-failure leave leaves failed ids locked', async () => {
  const table = await loopOf([1]);
  const ran = await doloop(['work', table, '--once', '--on-failure', 'leave', '--lock-for', '900', '--', 'false']);
  assertDone(ran, '1 id: ended with exit code 1', summary('0 done', '0 failed', '0 lost', '1 left locked'));
  assert.deepEqual(await states(table), { 1: 'locked 900' });
});

test('a program that goes away meanwhile: what comes then has failed', async () => {
  const program = join(folder, 'goes');
  writeFileSync(program, '#!/bin/sh\nrm "$0"\n', { mode: 0o755 });
  const table = await loopOf([1, 2]);
  const ran = await doloop(['work', table, '--once', '--', program, '{}']);
  assertDone(ran, `id 2: not started: spawn ${program} ENOENT`, summary('1 done', '1 failed', '0 lost'));
  assert.deepEqual(await states(table), { 1: 'done', 2: 'locked 60, failures 1' });
});

test('--json writes what became of the ids; what the command writes is on standard error', async () => {
  const table = await loopOf([1, 2]);
  const ran = await doloop([
    'work',
    table,
    '--once',
    '--json',
    '--',
    'sh',
    '-c',
    'echo $1; exit $(($1 - 1))',
    'sh',
    '{}',
  ]);
  assert.match(ran.stdout, /^\{.*\}\n$/);
  const { seconds, ...counts } = JSON.parse(ran.stdout);
  assert.deepEqual(counts, { did: 1, failed: 1, unlocked: 0, left: 0, lost: 0 });
  assert.ok(seconds > 0 && seconds < 60);
  assert.equal(ran.stderr, '1\n2\ndoloop: id 2: ended with exit code 1\n');
});

test('the locks of work that takes long are extended', async () => {
  const table = await loopOf([1, 2]);
  const child = beginDoloop(['work', table, '--once', '--lock-for', '2', '--', 'sh', '-c', 'echo begun; sleep 4; cat']);
  const end = ended(child);
  await written(child, 'begun');
  const others: number[] = [];
  for (let i = 0; i < 12; i += 1) {
    others.push(...(await rows(root, `CALL ${table}_get(10, 1, 0)`)).map(({ id }) => id));
    await sleep(250);
  }
  assert.deepEqual(others, []);
  assertDone(await end, summary('2 done', '0 failed', '0 lost'));
  assert.deepEqual(await states(table), all([1, 2], 'done'));
});

test('ids that somebody took away meanwhile are told of as lost', async () => {
  const table = await loopOf([1, 2]);
  const go = join(folder, 'go');
  const child = beginDoloop(['work', table, '--once', '--', 'sh', '-c', `echo begun; ${waitFor(go)}; exit 1`]);
  const end = ended(child);
  await written(child, 'begun');
  await root.query(`CALL ${table}_remove(2)`);
  writeFileSync(go, '');
  const said = ['2 ids: ended with exit code 1', /^doloop: lost 1 id, .*: 2$/];
  assertDone(await end, ...said, summary('0 done', '1 failed', '1 lost'));
  assert.deepEqual(await states(table), { 1: 'locked 60, failures 1' });
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test(`${signal}: what runs is asked to end; what it has done is marked, all else is given back, and it ends by the signal`, async () => {
    const table = await loopOf([1, 2, 3, 4, 5]);
    // The first two begin; asked to end, the first has done its work, and the second has not.
    const script = [
      'exec 2> /dev/null', // where the shell tells how its sleep has ended
      'trap "echo asked; exit $(($1 - 1))" TERM',
      'trap "echo wrong" INT HUP',
      `echo begun; ${waitFor(join(folder, 'never'))}`,
    ];
    const command = ['sh', '-c', script.join('\n'), 'sh', '{}'];
    const child = beginDoloop(['work', table, '--concurrency', '2', '--', ...command]);
    const end = ended(child);
    await written(child, 'begun', 2);
    child.kill(signal);
    const ran = await end;
    assert.deepEqual([ran.code, ran.signal, ran.stdout], [null, signal, 'begun\nbegun\nasked\nasked\n']);
    const [stopping, sum, ...rest] = lines(ran.stderr);
    assert.equal(stopping, 'doloop: stopping: what runs has 30 s to end; once more kills it');
    assert.match(sum!, summary('1 done', '0 failed', '0 lost', '4 given back'));
    assert.deepEqual(rest, []);
    assert.deepEqual(await states(table), { 1: 'done', ...all([2, 3, 4, 5], '') });
  });
}

test('a signal while nothing is due ends it at once', async () => {
  const table = await loopOf([1]);
  const child = beginDoloop(['work', table, '--poll-interval', '600', '--', 'cat']);
  const end = ended(child);
  await written(child, '1\n');
  await until('the id is done', async () => (await states(table))[1] === 'done');
  child.kill('SIGTERM');
  const { signal, stderr } = await end;
  assert.equal(signal, 'SIGTERM');
  assert.match(lines(stderr)[1]!, summary('1 done', '0 failed', '0 lost'));
});

const STUBBORN = 'trap "" TERM; echo "begun $$"; sleep 30';

/** The processes that have told who they are. */
const pids = (text: string) => [...text.matchAll(/begun (\d+)/g)].map(([, pid]) => Number(pid));

test('processes that do not end within --grace are killed with all they have begun, and their ids given back', async () => {
  const table = await loopOf([1, 2, 3]);
  const child = beginDoloop(['work', table, '--grace', '1', '--concurrency', '2', '--', 'sh', '-c', STUBBORN, '{}']);
  const end = ended(child); // only when nobody holds its output open any more: not the sleeping ones either
  const running = pids(await written(child, '\n', 2));
  child.kill('SIGTERM');
  const { signal, stderr } = await end;
  assert.deepEqual(running.map(isAlive), [false, false]);
  assert.equal(signal, 'SIGTERM');
  assert.match(lines(stderr)[1]!, summary('0 done', '0 failed', '0 lost', '3 given back'));
  assert.deepEqual(await states(table), all([1, 2, 3], ''));
});

test('a second signal kills what runs, and ends it at once: those ids stay locked', async () => {
  const table = await loopOf([1, 2]);
  const child = beginDoloop(['work', table, '--', 'sh', '-c', STUBBORN, '{}']);
  const end = ended(child);
  const [pid] = pids(await written(child, '\n'));
  child.kill('SIGTERM');
  await written(child, 'stopping', 1, 'stderr');
  child.kill('SIGINT');
  const { signal } = await end;
  await until('the end of the process', () => !isAlive(pid!));
  assert.equal(signal, 'SIGINT');
  assert.equal((await states(table))[1], 'locked 3600');
});

test('kill -9 loses nothing: the ids stay locked until their time, and then come first', async () => {
  const table = await loopOf([1, 2, 3]);
  const child = beginDoloop([
    'work',
    table,
    '--limit',
    '2',
    '--',
    'sh',
    '-c',
    'echo "begun $$"; cat > /dev/null; sleep 30',
  ]);
  const [pid] = pids(await written(child, '\n'));
  child.kill('SIGKILL');
  await until('its end', () => child.signalCode !== null);
  assert.ok(isAlive(pid!), 'its process goes on');
  process.kill(-pid!, 'SIGKILL');
  const left = await states(table);
  const locked = Object.keys(left).filter(id => left[id] === 'locked 3600'); // perhaps those it got ahead, too
  assert.deepEqual(locked.slice(0, 2), ['1', '2']);
  await root.query(`UPDATE ${table} SET lock_until = lock_until - 3601`);
  const ran = await doloop(['work', table, '--once', '--', 'cat']);
  assert.deepEqual(lines(ran.stdout).slice(0, locked.length).sort(), locked);
  assertDone(ran, summary('3 done', '0 failed', '0 lost'));
});

/** A way to the server that can be blocked. */
class Way {
  readonly #sockets = new Set<Socket>();
  readonly #target = new URL(serverUrl({ database }));
  #server: Server | undefined;
  #port = 0;

  get url(): string {
    const url = new URL(this.#target);
    url.port = String(this.#port);
    return url.href;
  }

  async open(): Promise<void> {
    this.#server = createServer(socket => {
      const onward = connectTo(Number(this.#target.port), this.#target.hostname);
      for (const [from, to] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.#sockets.add(from);
        from.on('error', () => {}).on('close', () => to.destroy());
        from.pipe(to);
      }
    });
    await new Promise<void>(resolve => this.#server!.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as { port: number }).port;
  }

  block(): void {
    this.#server!.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }
}

test('a server that is away for a while loses nothing: it is told once, and that it works again', async t => {
  const table = await loopOf(numbers(20));
  const way = new Way();
  await way.open();
  t.after(() => way.block());
  const go = join(folder, 'away');
  const args = ['work', table, '--once', '--limit', '10', '--', 'sh', '-c', `cat; ${waitFor(go)}`];
  const child = beginDoloop(args, { MYSQL_URL: way.url });
  const end = ended(child);
  await written(child, '\n');
  // No get is under way, whose answer would be lost, and its ids locked until their time.
  await until('the next batch', async () => Object.values(await states(table)).every(state => state === 'locked 3600'));
  way.block();
  writeFileSync(go, '');
  await written(child, 'trying again', 1, 'stderr');
  await sleep(300); // it is tried more than once
  await way.open();
  const ran = await end;
  const away = /^doloop: \w+: connect ECONNREFUSED 127\.0\.0\.1:\d+; trying again until it works$/;
  assertDone(ran, away, 'it works again', summary('20 done', '0 failed', '0 lost'));
  assert.deepEqual(lines(ran.stdout).sort(byNumber), numbers(20).map(String));
  assert.deepEqual(await states(table), all(numbers(20), 'done'));
});

test('connections that are killed are not even told of', async () => {
  const table = await loopOf([1, 2]);
  const go = join(folder, 'killed');
  const child = beginDoloop(['work', table, '--once', '--', 'sh', '-c', `echo begun; ${waitFor(go)}; cat`]);
  const end = ended(child);
  await written(child, 'begun');
  const its = await rows(root, 'SELECT id FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID()', [
    database,
  ]);
  assert.notEqual(its.length, 0);
  for (const { id } of its) await root.query(`KILL ${id}`);
  writeFileSync(go, '');
  assertDone(await end, summary('2 done', '0 failed', '0 lost'));
  assert.deepEqual(await states(table), all([1, 2], 'done'));
});

const WRONG: [args: string[], message: string][] = [
  [['work', 'x', '--', 'no-such-program'], 'command: there is no program "no-such-program"'],
  [['work', 'x', '--', './no/such'], 'command: there is no program "./no/such"'],
  [['work', 'x', '--', folder], `command: there is no program ${JSON.stringify(folder)}`],
  [['work', 'x', '--', '{}'], 'command: there is no program "{}"'],
  [['work', 'x', '--', ''], 'command: there is no program ""'],
  [['work', 'x'], "missing required argument 'command'"],
  [['work', 'x', 'ls', '-l'], "unknown option '-l'"],
  [
    ['work', 'a.b.c', '--', 'cat'],
    `table: "a.b.c" is not a table's name, like user_loop, app.user_loop or \`app\`.\`user.loop\``,
  ],
  [
    ['work', 'x', '--on-failure', 'leave', '--retry-in', '5', '--', 'cat'],
    '--retry-in: it goes with --on-failure fail, not leave',
  ],
  [
    ['work', 'x', '--once', '--min-loop-time', '0', '--', 'cat'],
    '--once: with --min-loop-time 0 what was done is due again at once, without end',
  ],
  [
    ['work', 'x', '--limit', '0', '--', 'cat'],
    "option '--limit <n>' argument '0' is invalid. It is not a whole number from 1 to 2147483647.",
  ],
  [
    ['work', 'x', '--on-failure', 'cry', '--', 'cat'],
    "option '--on-failure <what>' argument 'cry' is invalid. Allowed choices are fail, unlock, leave.",
  ],
];
for (const [args, message] of WRONG) {
  test(`wrong usage, before anything is connected to: ${args.join(' ')}`, async () => {
    assert.deepEqual(await doloop(args, NOWHERE), failed(2, message));
  });
}

test('what is wrong from the beginning is told at once, with exit code 1', async () => {
  const missing = 'no_loop is no loop here; `npx doloop create no_loop` makes it';
  assert.deepEqual(await doloop(['work', 'no_loop', '--', 'cat']), failed(1, missing));
  const none = 'no database was named: give --database NAME';
  assert.deepEqual(await doloop(['work', 'x', '--', 'cat'], { MYSQL_URL: serverUrl() }), failed(1, none));
  const { code, stderr } = await doloop(['work', 'x', '--', 'cat'], NOWHERE);
  assert.equal(code, 1);
  assert.match(stderr, /^doloop: Cannot connect to root@127\.0\.0\.1:1\/app: .*\n$/);
});

test('a loop of another database is worked on under its full name', async () => {
  const table = await loopOf([7]);
  const ran = await doloop(['work', `${database}.${table}`, '--once', '--', 'cat'], { MYSQL_URL: serverUrl() });
  assert.equal(ran.stdout, '7\n');
});

test('options of the command are its own', async () => {
  const table = await loopOf([1]);
  const ran = await doloop(['work', table, '--once', '--', 'echo', '--help', '-V', '--', '--once', '{}']);
  assert.equal(ran.stdout, '--help -V -- --once 1\n');
});

test('--help has examples, which are no wrong usage', async () => {
  const { code, stdout } = await doloop(['work', '--help'], NOWHERE);
  assert.equal(code, 0);
  assert.match(stdout, /^Usage: doloop work \[options\] <table> -- <command\.\.\.>\n/);
  for (const program of ['update-users', 'curl']) writeFileSync(join(folder, program), '', { mode: 0o755 });
  const examples = lines(stdout.split('\nExamples:\n')[1]!);
  assert.ok(examples.length >= 2);
  for (const example of examples) {
    const line = `cd '${folder}'; PATH=$PATH:. ${example.replace('npx ', '')}`;
    assert.match((await shell(line, NOWHERE)).stderr, /^doloop: Cannot connect/, example);
  }
});
