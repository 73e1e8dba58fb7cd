/** The procedures for people: what each command passes on, prints and exits with. */
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import type { LoopId } from '../src/index.js';
import { connect, contents, database, fill, makeAccount, makeLoop, type RowValues, rowsOf } from './harness.js';
import { BIN, doloop, done, environment, failed, NOWHERE, serverUrl } from './run-doloop.js';

const root = await connect();
/** Times that are past and to come whenever this is run: 2001 and 2096. */
const [PAST, FUTURE] = [1_000_000_000, 4_000_000_000];

/** A new loop with these rows. */
async function given(...rows: RowValues[]): Promise<string> {
  const { table } = await makeLoop(root);
  await fill(root, table, rows);
  return table;
}

async function now(): Promise<number> {
  const [[row]] = (await root.query('SELECT UNIX_TIMESTAMP() AS now')) as unknown as [{ now: number }[]];
  return row!.now;
}

/** The rows of a table, times of a call that was made since `begun` as `since`, and so many seconds later. */
async function state(table: string, begun: number): Promise<unknown[][]> {
  const ended = await now();
  const named = (value: unknown) => {
    if (typeof value !== 'number' || value === PAST || value === FUTURE || value < begun - 100_000) return value;
    const seconds = [-50, 0, 5, 60, 600, 3600].find(n => value - n >= begun && value - n <= ended);
    return seconds === undefined ? value : `now + ${seconds}`;
  };
  return (await rowsOf(root, table)).map(row => row.map(named));
}

const LOCKED: RowValues = [2, PAST, FUTURE, 3];
// biome-ignore format: a table
const CALLS: [name: string, options: string[], ids: string[], before: RowValues[], counted: string, after: unknown[][]][] = [
  ['add', [], ['1', '-2', '1'], [[1, PAST]], '1 added', [[-2, null, null, 0], [1, PAST, null, 0]]],
  ['add', ['--updated'], ['1'], [], '1 added', [[1, 'now + 0', null, 0]]],
  ['remove', [], ['1', '7'], [[1], [2]], '1 removed', [[2, null, null, 0]]],
  ['did', [], ['2', '7'], [LOCKED], '2 updated', [[2, 'now + 0', null, 0], [7, 'now + 0', null, 0]]],
  ['did', ['--no-auto-add'], ['7'], [], '0 updated', []],
  ['did', ['--lease', '17'], ['2'], [LOCKED], '1 updated', [[2, 'now + 0', FUTURE, 0]]],
  ['did', ['--lease', `${FUTURE}`], ['2'], [LOCKED], '1 updated', [[2, 'now + 0', null, 0]]],
  ['unlock', [], ['2', '7'], [LOCKED], '2 unlocked', [[2, PAST, null, 3], [7, null, null, 0]]],
  ['unlock', ['--no-auto-add'], ['2', '7'], [LOCKED], '1 unlocked', [[2, PAST, null, 3]]],
  ['unlock', ['--lease', '17'], ['2'], [LOCKED], '0 unlocked', [LOCKED]],
  ['bump', [], ['1', '7'], [[1]], '2 bumped', [[1, null, 'now + 0', 0], [7, null, 'now + 0', 0]]],
  ['bump', ['--lock-for', '600'], ['1'], [[1]], '1 bumped', [[1, null, 'now + 600', 0]]],
  ['bump', ['--lock-for', '-50'], ['1'], [[1]], '1 bumped', [[1, null, 'now + -50', 0]]],
  ['bump', ['--no-auto-add'], ['7'], [[1]], '0 bumped', [[1, null, null, 0]]],
  ['fail', [], ['1', '7'], [[1]], '1 failed', [[1, null, 'now + 60', 1]]],
  ['fail', ['--retry-in', '5'], ['1'], [[1]], '1 failed', [[1, null, 'now + 5', 1]]],
  ['fail', ['--lease', '17'], ['2'], [LOCKED], '0 failed', [LOCKED]],
];
for (const [name, options, ids, before, counted, after] of CALLS) {
  test(`${[name, ...options, ...ids].join(' ')}: ${counted}`, async () => {
    const table = await given(...before);
    const begun = await now();
    const ran = await doloop([name, table, ...options, ...ids]);
    assert.deepEqual(ran, done(`${database}.${table}: ${counted}\n`));
    assert.deepEqual(await state(table, begun), after);
    if (options.length > 0) return;

    await fill(root, table, before);
    const untouched = await rowsOf(root, table);
    const dry = await doloop([name, table, ...ids, '--dry-run']);
    assert.deepEqual(dry, done(`${database}.${table}: ${counted} (a dry run: nothing was changed)\n`));
    assert.deepEqual(await rowsOf(root, table), untouched);

    const again = await now();
    const [n, word] = counted.split(' ');
    const input = `${ids.join('\r\n\r\n')}\n`;
    assert.deepEqual(await doloop([name, table, '--json'], undefined, input), done(`{"${word}":${n}}\n`));
    assert.deepEqual(await state(table, again), after);
  });
}

test('extend locks what is locked for longer, and tells the new lease', async () => {
  const table = await given([1, null, FUTURE], [2], [3, PAST, FUTURE]);
  let begun = await now();
  const { code, stdout } = await doloop(['extend', table, '1', '2', '--lock-for', '600']);
  const [[, , lease]] = (await rowsOf(root, table)) as [RowValues];
  assert.deepEqual([code, stdout], [0, `${database}.${table}: 1 extended, lease ${lease}\n`]);
  assert.deepEqual((await state(table, begun))[0], [1, null, 'now + 600', 0]);
  begun = await now();
  const json = JSON.parse((await doloop(['extend', table, '1', '3', '--lease', `${lease}`, '--json'])).stdout);
  const [[, , renewed]] = (await rowsOf(root, table)) as [RowValues];
  assert.deepEqual(json, { extended: 1, lease: renewed });
  assert.deepEqual((await state(table, begun))[0], [1, null, 'now + 3600', 0]);
  assert.deepEqual(await doloop(['extend', table, '2']), done(`${database}.${table}: 0 extended\n`));
});

test('get prints the ids that come first, one unless more are wanted, and locks them', async () => {
  const table = await given([1, PAST], [2], [3, PAST + 1], [4, PAST, FUTURE], [5, null, PAST]);
  assert.deepEqual(await doloop(['get', table, '--limit', '2', '--dry-run']), done('5\n2\n'));
  let begun = await now();
  assert.deepEqual(await doloop(['get', table]), done('5\n'));
  assert.deepEqual((await state(table, begun))[4], [5, null, 'now + 3600', 0]);
  begun = await now();
  const got = JSON.parse((await doloop(['get', table, '--limit', '2', '--lock-for', '600', '--json'])).stdout);
  assert.deepEqual(got, { ids: [2, 1], lease: (await contents(root, table))[0]!.lock_until });
  assert.deepEqual((await state(table, begun))[0], [1, PAST, 'now + 600', 0]);
  assert.deepEqual(await doloop(['get', table, '--min-loop-time', '2147483647']), done(''));
  assert.deepEqual(await doloop(['get', table, '--limit', '9']), done('3\n'));
  assert.deepEqual(await doloop(['get', table]), done(''));
  assert.deepEqual(await doloop(['get', table, '--json']), done('{"ids":[],"lease":null}\n'));
});

test('check tells of those that are in', async () => {
  const table = await given([1], [2, null, FUTURE, 3]);
  const lockedFor = async () => FUTURE - (await now());
  const [before, ran, after] = [
    await lockedFor(),
    await doloop(['check', table, '2', '1', '7', '2']),
    await lockedFor(),
  ];
  const found = /^id\tsince_updated\tlocked_for\tfailures\n1\tNULL\tNULL\t0\n2\tNULL\t(\d+)\t3\n$/.exec(ran.stdout);
  assert.ok(found && Number(found[1]) <= before && Number(found[1]) >= after, ran.stdout);
  const { stdout } = await doloop(['check', table, '--json', '-'], undefined, '1\n7\n');
  assert.deepEqual(JSON.parse(stdout), [{ id: 1, sinceUpdated: null, lockedFor: null, failures: 0 }]);
  const none = await doloop(['check', table, '7']);
  assert.deepEqual(none, { ...done(''), stderr: `doloop: ${database}.${table}: none of these ids is in\n` });
  assert.deepEqual(await doloop(['check', table, '7', '--json']), done('[]\n'));
});

const TYPES: [idType: string, ids: LoopId[], lines: string[], json: (number | string)[]][] = [
  ['BIGINT UNSIGNED', [7n, 2n ** 64n - 1n], ['7', '18446744073709551615'], [7, '18446744073709551615']],
  ['DECIMAL(4,1)', ['-0.5', '12.0'], ['-0.5', '12.0'], ['-0.5', '12.0']],
  ['DATETIME', ['2026-01-31 23:59:59'], ['2026-01-31 23:59:59'], ['2026-01-31 23:59:59']],
  ['VARBINARY(4)', [Buffer.from('00ff', 'hex'), Buffer.from('0a', 'hex')], ['00ff', '0a'], ['00ff', '0a']],
  [
    'VARCHAR(20) CHARSET utf8mb4 COLLATE utf8mb4_bin',
    ['', ' x ', '"', '"a"', '-', '--json', '42', 'a\nb', 'ü😀', "it's \\"],
    ['""', '" x "', '"\\""', '"\\"a\\""', '-', '--json', '42', '"a\\nb"', 'ü😀', "it's \\"],
    ['', ' x ', '"', '"a"', '-', '--json', '42', 'a\nb', 'ü😀', "it's \\"],
  ],
];
for (const [idType, ids, lines, json] of TYPES) {
  test(`ids of ${idType} are printed as they can be typed`, async () => {
    const { table, loop } = await makeLoop<LoopId>(root, { idType });
    await loop.add(ids);
    const { stdout } = await doloop(['get', table, '--limit', '100']);
    assert.deepEqual(stdout.trimEnd().split('\n').sort(), lines.toSorted());
    const piped = await doloop(['did', table, '--no-auto-add'], undefined, stdout);
    assert.deepEqual(piped, done(`${database}.${table}: ${ids.length} updated\n`));
    const typed = lines.map(line => (line === '-' ? '"-"' : line));
    const removed = await doloop(['bump', table, '--no-auto-add', '--', ...typed]);
    assert.deepEqual(removed, done(`${database}.${table}: ${ids.length} bumped\n`));
    const got = await doloop(['get', table, '--limit', '100', '--json']);
    assert.deepEqual(JSON.parse(got.stdout).ids.sort(), json.toSorted());
    const checked = await doloop(['check', table, '--json'], undefined, stdout);
    assert.deepEqual(
      JSON.parse(checked.stdout)
        .map(({ id }: { id: unknown }) => id)
        .sort(),
      json.toSorted(),
    );
  });
}

test('ids of standard input go in pieces of 10,000: what is wrong ends it, and what was passed on is told', async () => {
  const table = await given();
  const numbers = Array.from({ length: 25_000 }, (_, i) => i);
  const whole = await doloop(['add', table], undefined, numbers.join('\n'));
  assert.deepEqual(whole, done(`${database}.${table}: 25,000 added\n`));
  const rule = 'is not a whole number from -2147483648 to 2147483647';
  const removed = await doloop(['remove', table], undefined, [...numbers, 'x'].join('\n'));
  assert.deepEqual(removed, failed(1, `ids: "x" ${rule}; the 20,000 ids before were passed on`));
  assert.equal((await contents(root, table)).length, 5000);
  const quoted = await doloop(['remove', table], undefined, `${numbers.slice(20_000).join('\n')}\n"x\n`);
  assert.deepEqual(quoted, failed(2, 'ids: "x begins with a quote and is no JSON string'));
  assert.equal((await contents(root, table)).length, 5000);
});

test('a loop that is not there is told, though no id was given', async () => {
  for (const name of ['add', 'get', 'extend', 'check']) {
    const ran = await doloop([name, 'no_loop']);
    assert.deepEqual(ran, failed(1, 'no_loop is no loop here; `npx doloop create no_loop` makes it'));
  }
});

test('EXECUTE is enough for all of them', async () => {
  const table = await given([1], [2]);
  const { who } = await makeAccount('EXECUTE');
  const user = encodeURIComponent(who.user!);
  const env = { MYSQL_URL: serverUrl({ database, password: who.password! }).replace('//root', `//${user}`) };
  for (const name of ['add', 'did', 'unlock', 'bump', 'extend', 'fail', 'check', 'remove']) {
    const { code, stderr } = await doloop([name, table, '1'], env);
    assert.deepEqual([code, stderr], [0, ''], name);
  }
  assert.deepEqual(await doloop(['get', table], env), done('2\n'));
});

const WRONG: [args: string[], message: RegExp][] = [
  [['add'], /^doloop: missing required argument 'table'\n$/],
  [['add', 'a.b.c', '1'], /^doloop: table: "a\.b\.c" is not a table's name/],
  [['add', 'x', '"1'], /^doloop: ids: "1 begins with a quote and is no JSON string\n$/],
  [['add', 'x', '1', '--lease', '1'], /^doloop: unknown option '--lease'/],
  [['get', 'x', '17'], /^doloop: too many arguments for 'get'/],
  [['get', 'x', '--limit', '0'], /'0' is invalid\. It is not a whole number from 1 to 2147483647\.\n$/],
  [['get', 'x', '--lock-for', '1.5'], /'1\.5' is invalid\. It is not a whole number from 1 to 2147483647\.\n$/],
  [['extend', 'x', '1', '--lock-for', '0'], /'0' is invalid/],
  [['fail', 'x', '1', '--retry-in', '-1'], /'-1' is invalid/],
  [['did', 'x', '1', '--lease', 'now'], /'now' is invalid/],
  [['bump', 'x', '1', '--lock-for', '99999999999'], /'99999999999' is invalid/],
];
for (const [args, message] of WRONG) {
  test(`wrong usage is told in one line, with exit code 2: ${args.join(' ')}`, async () => {
    const { code, stdout, stderr } = await doloop(args, NOWHERE);
    assert.deepEqual([code, stdout, stderr.split('\n').length], [2, '', 2]);
    assert.match(stderr, message);
  });
}

/** Runs the script with a terminal as its standard input. */
function onTerminal(args: string[], input: string): SpawnSyncReturns<string> {
  const line = [process.execPath, BIN, ...args].map(word => `'${word}'`).join(' ');
  return spawnSync('script', ['-qec', line, '/dev/null'], {
    input,
    encoding: 'utf8',
    env: { ...environment(), NO_COLOR: '1' },
  });
}

const NO_TERMINAL = onTerminal(['--version'], '').status !== 0 && 'there is no `script` of util-linux';

test('on a terminal ids are not waited for, unless asked for by -; and who gets none is told', {
  skip: NO_TERMINAL,
}, async () => {
  const table = await given();
  for (const name of ['add', 'check']) {
    const { status, stdout } = onTerminal([name, table], '1\n\u0004');
    assert.match(stdout, /doloop: ids: none was given; - lets you type them, one a line\r\n$/);
    assert.equal(status, 2);
  }
  assert.match(onTerminal(['add', table, '-'], '1\n2\n\u0004').stdout, /: 2 added\r\n$/);
  assert.match(onTerminal(['get', table, '--limit', '3'], '').stdout, /^1\r\n2\r\n$/);
  assert.match(onTerminal(['get', table], '').stdout, /: nothing is due\r\n$/);
});

test('--help of each has its options and examples, which are no wrong usage', async () => {
  for (const name of ['add', 'remove', 'get', 'did', 'unlock', 'bump', 'extend', 'fail', 'check']) {
    const { code, stdout } = await doloop([name, '--help'], NOWHERE);
    assert.equal(code, 0);
    assert.match(stdout, /--json.*--url <url>.*--defaults-file <file>.*-D, --database <name>/s);
    const examples = stdout.split('\nExamples:\n')[1]!.trimEnd().split('\n');
    assert.ok(examples.length >= 2);
    const all = examples.map(example => example.replace('  npx doloop ', '').replace(' < ids', '').split(' '));
    for (const { stderr } of await Promise.all(all.map(args => doloop(args, NOWHERE, '1\n')))) {
      assert.match(stderr, /^doloop: Cannot connect to root@127\.0\.0\.1:1/);
    }
  }
});
