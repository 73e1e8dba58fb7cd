/** How a loop is doing: what stats, watch and metrics print and exit with, and how they bear a server that goes away. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, database, fill, makeAccount, makeDatabase, makeLoop, type RowValues, rows } from './harness.js';
import { BIN, doloop, environment, failed, NOWHERE, serverUrl, startDoloop } from './run-doloop.js';

const root = await connect();
/** To come, whenever this is run. */
const FUTURE = 4_000_000_000;
const DAY = 86_400;
/** For what would never end if it were broken. */
const SOON = { timeout: 60_000 };

async function now(): Promise<number> {
  return (await rows(root, 'SELECT UNIX_TIMESTAMP() AS now'))[0]!.now as number;
}

/** So many rows with these times, ids from `first` up. */
function rowsFrom(first: number, n: number, ...times: (number | null)[]): RowValues[] {
  return Array.from({ length: n }, (_, i) => [first + i, ...times] as RowValues);
}

/** A loop of 1,320 ids, of every age, but for the last ones far from the ends of each; 600 are as fresh as can be. */
async function census(): Promise<string> {
  const { table } = await makeLoop(root);
  const at = await now();
  await fill(root, table, [
    ...rowsFrom(0, 600, FUTURE),
    ...rowsFrom(1000, 300, at - 1800),
    ...rowsFrom(2000, 40, at - DAY / 2),
    ...rowsFrom(3000, 30, at - 3 * DAY),
    ...rowsFrom(4000, 250, at - 30 * DAY),
    ...rowsFrom(5000, 97, null),
    ...rowsFrom(6000, 2, null, at - 3600),
    ...rowsFrom(7000, 1, null, at + 7205),
  ]);
  return table;
}

test('stats tell the numbers, the ages, and whether we keep up', async () => {
  const table = await census();
  const { code, stdout, stderr } = await doloop(['stats', table]);
  assert.deepEqual([code, stderr], [0, '']);
  const steady = stdout.replaceAll(/(1 h) \d+ s|(2 h)( \d+ s)?|(30 d)( \d+ s)?/g, '$1$2$4');
  assert.deepEqual(steady.split('\n'), [
    `${database}.${table}: 1,320 ids, 0 to 7000`,
    '  bumped                  2  waiting for 1 h',
    '  locked                  1  for another 2 h',
    '  updated             1,220  0 s to 30 d ago',
    '',
    'Last updated',
    `  under a minute ago    600  ${'█'.repeat(40)}`,
    `  to an hour            300  ${'█'.repeat(20)}`,
    `  to a day               40  ${'█'.repeat(2)}▋`,
    `  to a week              30  ${'█'.repeat(2)}`,
    `  longer ago            250  ${'█'.repeat(16)}▋`,
    `  never                 100  ${'█'.repeat(6)}▋`,
    '',
    'Do we keep up? In the last 5 min, 2 ids/s were updated.',
    'At this rate a whole loop takes 11 min.',
    '',
  ]);
});

test('stats --json: all numbers as they are', async () => {
  const table = await census();
  const { minBumpTime, maxBumpTime, minLockTime, maxLockTime, maxUpdateTime, ...rest } = JSON.parse(
    (await doloop(['stats', table, '--json'])).stdout,
  );
  assert.deepEqual(rest, {
    ...{ database, table, bumped: 2, locked: 1, minUpdateTime: 0, minId: 0, maxId: 7000, total: 1320 },
    ...{ neverUpdated: 100, delayed: { 60: 620, 300: 620, 3600: 320, [DAY]: 280, [7 * DAY]: 250 } },
    ...{ rate: 2, rateSeconds: 300, loopTime: 660 },
  });
  assert.ok(minBumpTime >= 3600 && minBumpTime === maxBumpTime && minLockTime === maxLockTime);
  assert.ok(minLockTime <= 7205 && maxUpdateTime >= 30 * DAY);
});

const SAID: [title: string, given: (at: number) => RowValues[], said: RegExp][] = [
  ['an empty loop', () => [], /: 0 ids\n$/],
  ['one id', () => [[1]], /: 1 id\n {2}bumped .*Do we keep up\? Nothing was updated in the last 5 min\.\n$/s],
  ['a loop that nobody updates', at => [[1, at - 4000], [2]], /\? Nothing was updated in the last 5 min\.\n$/], // biome-ignore format: a table
  ['a loop in which nothing is due', at => [[1, at - 1000], [2, at - 900]], /5 min\.\nNo id waits: all were updated within the last hour\.\n$/], // biome-ignore format: a table
  ['a loop that has just begun', at => [[1, FUTURE], [2, at - 90], [3]], /In the last 1 min 3\d s, 0\.02\d* ids\/s were updated\.\nAt this rate a whole loop takes 2 min \d+ s\.\n$/], // biome-ignore format: a table
];
for (const [title, given, said] of SAID) {
  test(`stats of ${title}`, async () => {
    const { table } = await makeLoop(root);
    await fill(root, table, given(await now()));
    assert.match((await doloop(['stats', table])).stdout, said);
  });
}

test('stats, watch and metrics need EXECUTE and nothing else; metrics finds the loops by itself', async () => {
  const other = await makeDatabase('CHARACTER SET utf8mb4');
  const { account, who } = await makeAccount();
  for (const name of ['b_loop', '`a "\\loop`']) {
    await doloop(['create', name, '-D', other]);
    const table = name.replaceAll('`', '');
    await root.query(`CALL \`${other}\`.\`${table}_add\`('[1, 2]', NULL)`);
    for (const procedure of table === 'b_loop' ? ['stats'] : ['stats', 'get']) {
      await root.query(`GRANT EXECUTE ON PROCEDURE \`${other}\`.\`${table}_${procedure}\` TO ${account}`);
    }
  }
  await root.query(`CREATE PROCEDURE \`${other}\`.other_stats() SELECT 1`);
  const user = encodeURIComponent(who.user!);
  const env = { MYSQL_URL: serverUrl({ database: other, password: who.password! }).replace('//root', `//${user}`) };
  const { code, stdout, stderr } = await doloop(['metrics'], env);
  assert.deepEqual([code, stderr], [0, '']);
  assert.deepEqual(
    stdout.split('\n').filter(line => line.startsWith('doloop_never')),
    [
      `doloop_never_updated_ids{table="${other}.a \\"\\\\loop"} 2`,
      `doloop_never_updated_ids{table="${other}.b_loop"} 2`,
    ],
  );
  assert.match((await doloop(['stats', 'b_loop'], env)).stdout, /: 2 ids, 1 to 2\n/);
  const { child, end, until } = startDoloop(['watch', 'b_loop', '--json'], env);
  await until('stdout', /"total":2,/);
  child.kill();
  assert.deepEqual(await end.then(({ signal, stderr: said }) => [signal, said]), ['SIGTERM', '']);
});

/** A way to the server that can be closed, which cuts what goes on there, and opened again; where it leads to. */
async function makeWay(t: TestContext): Promise<{ url: string; open: () => Promise<void>; close: () => void }> {
  const url = new URL(serverUrl({ database }));
  const [host, target] = [url.hostname, Number(url.port)];
  const sockets = new Set<Socket>();
  let port = 0;
  const listener = createServer(socket => {
    for (const one of [socket, dial(target, host)]) {
      sockets.add(one.on('error', () => {}).on('close', () => sockets.delete(one)));
    }
    const onward = [...sockets].at(-1)!;
    socket.pipe(onward).pipe(socket);
  });
  const open = async () => {
    await once(listener.listen(port, '127.0.0.1'), 'listening');
    port = (listener.address() as { port: number }).port;
  };
  const close = () => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  };
  await open();
  t.after(close);
  [url.hostname, url.port] = ['127.0.0.1', `${port}`];
  return { url: url.href, open, close };
}

test('watch --json writes a line a look, with the rate since the one before', async () => {
  const { table } = await makeLoop(root);
  const at = await now();
  // Seven for each second, those to come, too, and one more without a time.
  const updated = Array.from({ length: 70 }, (_, second) => rowsFrom(second * 7, 7, at - 10 + second)).flat();
  await fill(root, table, [...updated, [1000]]);
  const { child, end, until } = startDoloop(['watch', table, '--json', '--interval', '1']);
  await until('stdout', /(.*\n){4}/);
  child.kill('SIGTERM');
  const { signal, stdout, stderr } = await end;
  assert.deepEqual([signal, stderr], ['SIGTERM', '']);
  const looks = stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));
  for (const { total, neverUpdated, delayed } of looks) {
    assert.deepEqual([total, neverUpdated, delayed[60]], [491, 1, 0]);
  }
  assert.deepEqual(
    looks.slice(1).map(({ rateNow }) => rateNow),
    looks.slice(1).map(() => 7),
  );
  const times = looks.map(({ time }) => Date.parse(time));
  for (let i = 1; i < times.length; i += 1) assert.ok(times[i]! - times[i - 1]! > 500);
});

test('watch and metrics --listen bear a server that goes away and comes back, and say so once', async t => {
  const { table, loop } = await makeLoop(root);
  await loop.add([1, 2]);
  const way = await makeWay(t);
  const watch = startDoloop(['watch', table, '--json', '--interval', '1'], { MYSQL_URL: way.url });
  const metrics = startDoloop(['metrics', '--listen', '0'], { MYSQL_URL: way.url });
  const [, url] = await metrics.until('stderr', /^doloop: (http:\/\/127\.0\.0\.1:\d+\/metrics)\n$/);
  await watch.until('stdout', /"total":2,/);
  assert.equal((await fetch(url!)).status, 200);

  way.close();
  await watch.until('stderr', /^doloop: .*; trying again\n/);
  await watch.until('stderr', /doloop: Cannot connect to .*ECONNREFUSED.*; trying again\n$/);
  await fetch(url!); // the connection it has was cut
  const away = await fetch(url!);
  assert.equal(away.status, 503);
  assert.match(await away.text(), /^Cannot connect to root@127\.0\.0\.1:\d+\/.*ECONNREFUSED.*\n$/);
  await fetch(url!);

  await loop.add(3);
  await way.open();
  await watch.until('stdout', /"total":3,.*\n$/);
  const back = await fetch(url!);
  assert.equal(back.status, 200);
  assert.match(await back.text(), new RegExp(`^doloop_ids{table="${database}\\.${table}",state="unlocked"} 3$`, 'm'));

  for (const { child, end } of [watch, metrics]) {
    child.kill('SIGINT');
    const { signal, stderr } = await end;
    assert.equal(signal, 'SIGINT');
    assert.equal(stderr.match(/Cannot connect/g)?.length, 1, stderr);
  }
});

test('watch and metrics --listen end at once by a signal, though the server does not answer', SOON, async () => {
  const { table } = await makeLoop(root);
  const runs = [
    startDoloop(['watch', table, '--json', '--interval', '1']),
    startDoloop(['metrics', table, '--listen', '0']),
  ];
  await runs[0]!.until('stdout', /\n/);
  const [, url] = await runs[1]!.until('stderr', /(http.*)\n/);
  await root.query(`LOCK TABLES \`${table}\` WRITE`);
  try {
    const scrape = fetch(url!).catch(() => {});
    while ((await waiting()) < 2) await sleep(20);
    for (const { child } of runs) child.kill('SIGTERM');
    for (const { end } of runs) assert.equal((await end).signal, 'SIGTERM');
    await scrape;
  } finally {
    await root.query('UNLOCK TABLES');
  }
});

/** How many connections wait for the lock of a table. */
async function waiting(): Promise<number> {
  const found = await rows(
    root,
    `SELECT id FROM information_schema.processlist WHERE db = '${database}' AND state LIKE 'Waiting for table%'`,
  );
  return found.length;
}

test('who reads the lines of watch may stop', SOON, async () => {
  const { table } = await makeLoop(root);
  const { child, end, until } = startDoloop(['watch', table, '--json', '--interval', '1']);
  await until('stdout', /\n/);
  child.stdout!.destroy();
  assert.deepEqual(await end.then(({ code, stderr }) => [code, stderr]), [0, '']);
});

const METRICS = (
  table: string,
  took: string,
) => `# HELP doloop_ids Ids in the loop: locked; bumped, or with priority since their lock ran out; neither of these.
# TYPE doloop_ids gauge
doloop_ids{table="${table}",state="unlocked"} 1317
doloop_ids{table="${table}",state="locked"} 1
doloop_ids{table="${table}",state="bumped"} 2
# HELP doloop_never_updated_ids Ids that were never updated, whatever their state.
# TYPE doloop_never_updated_ids gauge
doloop_never_updated_ids{table="${table}"} 100
# HELP doloop_delayed_ids Ids that were last updated longer ago than so many seconds; the never updated are not among them.
# TYPE doloop_delayed_ids gauge
doloop_delayed_ids{table="${table}",seconds="60"} 620
doloop_delayed_ids{table="${table}",seconds="300"} 620
doloop_delayed_ids{table="${table}",seconds="3600"} 320
doloop_delayed_ids{table="${table}",seconds="86400"} 280
doloop_delayed_ids{table="${table}",seconds="604800"} 250
# HELP doloop_updated_ids_per_second Ids updated a second, each counted once, over the last five minutes.
# TYPE doloop_updated_ids_per_second gauge
doloop_updated_ids_per_second{table="${table}"} 2
# HELP doloop_newest_update_seconds Time since the freshest id was updated; none before the first update.
# TYPE doloop_newest_update_seconds gauge
doloop_newest_update_seconds{table="${table}"} 0
# HELP doloop_oldest_update_seconds Time since the stalest id was updated, of those that ever were; none before the first update.
# TYPE doloop_oldest_update_seconds gauge
doloop_oldest_update_seconds{table="${table}"} 259200N
# HELP doloop_oldest_bump_seconds The longest time for which an id has had priority; 0 where none has.
# TYPE doloop_oldest_bump_seconds gauge
doloop_oldest_bump_seconds{table="${table}"} 36NN
# HELP doloop_look_seconds How long it took to read these numbers.
# TYPE doloop_look_seconds gauge
doloop_look_seconds{table="${table}"} ${took}
`;

test('metrics writes the numbers of the loops it is given, as text for Prometheus or as JSON', async () => {
  const table = await census();
  const { table: empty } = await makeLoop(root);
  const { code, stdout, stderr } = await doloop(['metrics', table]);
  assert.deepEqual([code, stderr], [0, '']);
  const steady = stdout.replace(/ 25920\d\d\n/, ' 259200N\n').replace(/ 36\d\d\n/, ' 36NN\n');
  const [, took] = /_look_seconds{.*} (0\.\d+)\n/.exec(stdout)!;
  assert.equal(steady, METRICS(`${database}.${table}`, took!));
  const both = (await doloop(['metrics', empty, table, '--json'])).stdout;
  assert.deepEqual(
    JSON.parse(both).map((look: { total: number }) => look.total),
    [0, 1320],
  );
  const text = (await doloop(['metrics', empty])).stdout;
  assert.deepEqual(text.match(/^doloop_(newest|oldest)_\w+{.*$/gm), [
    `doloop_oldest_bump_seconds{table="${database}.${empty}"} 0`,
  ]);
});

test('metrics --listen answers GET /metrics, everybody at once with one look', async () => {
  const table = await census();
  const { child, end, until } = startDoloop(['metrics', table, '--listen', '127.0.0.1:0']);
  const [, url] = await until('stderr', /(http.*)\n/);
  const answer = await fetch(`${url}?a=b`);
  assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  assert.match(await answer.text(), /^# HELP doloop_ids .*_look_seconds{.*} 0\.\d+\n$/s);
  const { origin } = new URL(url!);
  for (const [path, method] of [
    ['/', 'GET'],
    ['//', 'GET'],
    ['/metrics/x', 'GET'],
    ['/metrics', 'POST'],
  ]) {
    assert.equal((await fetch(origin + path, { method: method! })).status, 404);
  }
  await root.query(`LOCK TABLES \`${table}\` WRITE`);
  const scrapes = Array.from({ length: 5 }, () => fetch(url!).then(async one => `${one.status} ${await one.text()}`));
  while ((await waiting()) < 1) await sleep(20);
  await sleep(100);
  assert.equal(await waiting(), 1);
  await root.query('UNLOCK TABLES');
  const [first, ...others] = await Promise.all(scrapes);
  assert.match(first!, /^200 # HELP/);
  assert.deepEqual(others, Array(4).fill(first));
  child.kill('SIGTERM');
  assert.equal((await end).signal, 'SIGTERM');
});

test('metrics --listen says what is wrong with a loop to who asks, and a port that is taken at once', async () => {
  const { end, child, until } = startDoloop(['metrics', 'no_loop', '--listen', '0']);
  const [, url, port] = await until('stderr', /(http.*:(\d+)\/metrics)\n/);
  const answer = await fetch(url!);
  const message = 'no_loop is no loop here; `npx doloop create no_loop` makes it';
  assert.deepEqual([answer.status, await answer.text()], [503, `${message}\n`]);
  const taken = await doloop(['metrics', 'no_loop', '--listen', port!]);
  assert.deepEqual(taken, failed(1, `listen EADDRINUSE: address already in use 127.0.0.1:${port}`));
  child.kill();
  assert.equal((await end).stderr, `doloop: ${url}\ndoloop: ${message}; trying again\n`);
});

test('what can not be done is told in one line', async () => {
  const noDatabase = { MYSQL_URL: serverUrl() };
  const none = failed(1, 'no database was named: give --database NAME');
  assert.deepEqual(await doloop(['metrics'], noDatabase), none);
  assert.deepEqual(await doloop(['metrics', '--listen', '0'], noDatabase), none);
  assert.deepEqual(await doloop(['metrics', 'x', '--listen', '0'], noDatabase), none);
  for (const args of [
    ['stats', 'no_loop'],
    ['watch', 'no_loop', '--json'],
    ['metrics', 'no_loop'],
  ]) {
    assert.deepEqual(await doloop(args), failed(1, 'no_loop is no loop here; `npx doloop create no_loop` makes it'));
  }
  const terminal = 'watch draws on a terminal; with --json it writes one line a look, and stats looks once';
  const wrong: [string[], string | RegExp][] = [
    [['watch', 'x'], terminal],
    [['watch', 'x', '--json', '--interval', '0'], /'0' is invalid/],
    [['stats', 'a.b.c'], /^doloop: table: "a\.b\.c" is not/],
    [['metrics', 'a.b.c'], /^doloop: table: "a\.b\.c" is not/],
    [
      ['metrics', '--listen', 'here'],
      /'here' is invalid\. It is not an address, like 9464, 0\.0\.0\.0:9464 or \[::1\]:9464\.\n$/,
    ],
    [['metrics', '--listen', '65536'], /'65536' is invalid/],
    [['metrics', '--listen', '0', '--json'], /cannot be used with/],
  ];
  for (const [args, message] of wrong) {
    const { code, stdout, stderr } = await doloop(args, NOWHERE);
    assert.deepEqual([code, stdout], [2, ''], args.join(' '));
    if (typeof message === 'string') assert.equal(stderr, `doloop: ${message}\n`);
    else assert.match(stderr, message);
    assert.equal(stderr.split('\n').length, 2);
  }
});

/** Runs the script on a terminal of this size, and types Ctrl-C when it has written this so often. */
async function onTerminal(args: string[], [columns, lines]: number[], text: string, times: number) {
  const line = `stty cols ${columns} rows ${lines}; exec ${[process.execPath, BIN, ...args].map(word => `'${word}'`).join(' ')}`;
  const child = spawn('script', ['-qec', line, '/dev/null'], { env: { ...environment(), TERM: 'xterm' } });
  let written = '';
  child.stdout.setEncoding('utf8').on('data', chunk => {
    const before = written.split(text).length;
    written += chunk;
    if (before <= times && written.split(text).length > times) child.stdin.write('\u0003');
  });
  const [code] = await once(child, 'close');
  return { code, written };
}

/** What a terminal takes for commands and colours. */
const CODES = new RegExp(`${'\x1b'}\\[[\\d?]*[a-zA-Z]`, 'g');

const NO_TERMINAL =
  spawnSync('script', ['-qec', 'true', '/dev/null']).status !== 0 && 'there is no `script` of util-linux';

test('watch draws within the terminal, and gives it back', { skip: NO_TERMINAL }, async () => {
  const table = await census();
  const [enter, leave] = ['\x1b[?1049h\x1b[?25l\x1b[?7l', '\x1b[?7h\x1b[?25h\x1b[?1049l'];
  for (const size of [
    [80, 24],
    [60, 9],
  ]) {
    const { code, written } = await onTerminal(['watch', table, '--interval', '1'], size, `${table}: 1,320 ids`, 3);
    assert.equal(code, 130);
    const [before, frames, after] = written.replace(leave, enter).split(enter);
    assert.ok(written.startsWith(enter) && written.includes(leave), JSON.stringify(written));
    assert.deepEqual([before, after!.replace('^C', '').trim()], ['', '']);
    const [first, ...all] = frames!.split('\x1b[H');
    assert.equal(first, '');
    assert.ok(all.length >= 3);
    for (const frame of all) {
      const plain = frame.replaceAll(CODES, '').trimEnd().split('\r\n');
      assert.ok(plain.length <= size[1]!, `${plain.length} lines`);
      if (size[0]! >= 80) for (const line of plain) assert.ok(line.length <= 80, line);
    }
    if (size[1]! >= 24) assert.match(all.at(-1)!, /Ids updated a second: 0 now.*, every 1 s; Ctrl-C ends/s);
  }
});

test('--help of each has its options and examples', async () => {
  for (const name of ['stats', 'watch', 'metrics']) {
    const { code, stdout } = await doloop([name, '--help'], NOWHERE);
    assert.equal(code, 0);
    assert.match(stdout, /--json.*--url <url>.*--defaults-file <file>.*-D, --database <name>/s);
    assert.ok(stdout.split('\nExamples:\n')[1]!.trimEnd().split('\n').length >= 2);
  }
});
