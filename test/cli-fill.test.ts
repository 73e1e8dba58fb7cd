/** `doloop fill`: ids from tables and from standard input, what it leaves out, and what it takes out. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DoLoop } from '../src/index.js';
import { connect, contents, database, makeAccount, makeDatabase, makeLoop, rows, waitsForRow } from './harness.js';
import { BIN, doloop, done, ended, environment, failed, NOWHERE, serverUrl } from './run-doloop.js';

const root = await connect();
const column = async (sql: string): Promise<unknown[]> => (await rows(root, sql)).map(row => Object.values(row)[0]);
const idsOf = (table: string) => column(`SELECT id FROM ${table} ORDER BY id`);

/** More than two pages. */
const MANY = 25_000;

/** The numbers n from 1 to MANY. */
before(async () => {
  const digits = Array.from({ length: 10 }, (_, i) => `SELECT ${i} AS d`).join(' UNION ALL ');
  await root.query('CREATE TABLE numbers (n INT PRIMARY KEY)');
  await root.query(
    `INSERT INTO numbers WITH ten AS (${digits}) SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d AS n
      FROM ten a, ten b, ten c, ten d, ten e HAVING n <= ${MANY}`,
  );
});

let sources = 0;

/** A new table with a column of this definition, and in it what the expression makes of the numbers n. */
async function makeSource(definition: string, expression = 'n', key = 'PRIMARY KEY'): Promise<string> {
  sources += 1;
  const table = `s${sources}`;
  await root.query(`CREATE TABLE ${table} (c ${definition}, note INT, ${key} (c))`);
  await root.query(`INSERT INTO ${table} SELECT ${expression}, n FROM numbers`);
  return table;
}

const TYPES: [type: string, expression: string][] = [
  ['INT', 'n * 7 - 100000'],
  ['BIGINT UNSIGNED', '18446744073709551615 - n'],
  [
    'DECIMAL(30,10)',
    "CAST('9007199254740993.0000000001' AS DECIMAL(30,10)) + n * CAST('0.0000000001' AS DECIMAL(30,10))",
  ],
  ['BINARY(8)', "UNHEX(CONCAT('ff00', LPAD(HEX(n), 12, '0')))"],
  ['CHAR(64) CHARACTER SET ascii COLLATE ascii_bin', 'SHA2(n, 256)'],
  ['VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_swedish_ci', "CONCAT('Ä\\\\ ''%', n, 'ß')"],
  ['VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci', "CONCAT('日', n, '😀')"],
  ['DATE', "'1950-01-01' + INTERVAL n DAY"],
  ['DATETIME(6)', "CAST('2026-01-31 23:59:59.999990' AS DATETIME(6)) + INTERVAL n MICROSECOND"],
];
for (const [type, expression] of TYPES) {
  test(`ids of ${type} are read page by page, each once and exactly`, async () => {
    const source = await makeSource(type, expression);
    const { table } = await makeLoop(root, { idType: type });
    assert.deepEqual(
      await doloop(['fill', table, '--from', `${source}.c`]),
      done(`${database}.${table}: 25,000 ids read, 25,000 added\n`),
    );
    assert.deepEqual(await column(`SELECT COUNT(*) FROM ${table} JOIN ${source} ON c = id`), [MANY]);
    assert.deepEqual(
      await doloop(['fill', table, '--from', `${source}.c`, '--prune', '--where', 'note <> 20000']),
      done(`${database}.${table}: 24,999 ids read, 0 added, 1 removed\n`),
    );
    assert.deepEqual(
      await column(`SELECT note FROM ${source} LEFT JOIN ${table} ON c = id WHERE id IS NULL`),
      [20_000],
    );
  });
}

test('what the collation of the source takes for one, and the loop does not, is not skipped where a page ends', async () => {
  const type = 'VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci';
  // The pages end within the m: there are more than a page of them.
  const spelling = "ELT(1 + n % 5, 'm', 'M', 'm ', 'M', 'm')";
  const source = await makeSource(
    type,
    `IF(n <= 9000, CONCAT('a', n), IF(n <= 22000, ${spelling}, CONCAT('z', n)))`,
    'KEY',
  );
  const { table } = await makeLoop(root, { idType: 'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin' });
  const { stdout } = await doloop(['fill', table, '--from', `${source}.c`]);
  assert.equal(stdout, `${database}.${table}: 12,003 ids read, 12,002 added\n`, '"m " is "m" to the loop');
  assert.deepEqual(await column(`SELECT COUNT(*) FROM ${table} WHERE id LIKE 'm%' OR id LIKE 'M%'`), [2]);
  assert.deepEqual(await column(`SELECT COUNT(*) FROM ${table}`), [12_002]);
});

test('an id that stands in many rows is read once; NULLs are left out', async () => {
  const source = await makeSource('INT', 'IF(n % 10 = 0, NULL, IF(n < 15000, 3, n))', 'KEY');
  const { table } = await makeLoop(root);
  const { stdout } = await doloop(['fill', table, '--from', `${source}.c`, '--json']);
  assert.deepEqual(JSON.parse(stdout), { read: 9001, added: 9001, removed: 0 });
  assert.deepEqual(await column(`SELECT COUNT(DISTINCT c) FROM ${source} JOIN ${table} ON c = id`), [9001]);
});

test('fill may be repeated: it adds what is new, and changes nothing of what is there', async () => {
  await root.query('CREATE TABLE repeated (id INT PRIMARY KEY)');
  await root.query('INSERT INTO repeated VALUES (1), (2), (3)');
  const { table } = await makeLoop(root);
  await root.query(`INSERT INTO ${table} VALUES (2, 100, 200, 3)`);
  const line = (added: number) => done(`${database}.${table}: 3 ids read, ${added} added\n`);
  assert.deepEqual(await doloop(['fill', table, '--from', 'repeated.id']), line(2));
  assert.deepEqual((await contents(root, table))[1], { id: 2, last_updated: 100, lock_until: 200, failures: 3 });
  assert.deepEqual(await doloop(['fill', table, '--from', 'repeated.id']), line(0));
});

test('--where is the SQL of who gives it, with its own OR and comments; what is wrong with it the server says', async () => {
  await root.query('CREATE TABLE accounts (id INT PRIMARY KEY, last_updated INT, closed INT)');
  await root.query('INSERT INTO accounts VALUES (1, 5, 0), (2, 6, 1), (3, 7, NULL), (9, 9, 1)');
  const { table } = await makeLoop(root);
  await root.query(`INSERT INTO ${table} (id) VALUES (2), (7)`);
  const where = 'closed = 0 OR accounts.last_updated > 6 -- )';
  assert.deepEqual(
    await doloop(['fill', table, '--from', 'accounts.id', '--where', where, '--prune']),
    done(`${database}.${table}: 3 ids read, 3 added, 2 removed\n`),
  );
  assert.deepEqual(await idsOf(table), [1, 3, 9]);
  const wrong = await doloop(['fill', table, '--from', 'accounts.id', '--where', 'nix = 1', '--prune']);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /^doloop: Unknown column 'nix'.*\n$/);
  assert.equal(wrong.stdout, '');
});

test('names with a database, and names that need quoting', async () => {
  const other = await makeDatabase('CHARACTER SET utf8mb4');
  await root.query(`CREATE TABLE \`${other}\`.\`it's.a \`\`t\` (\`the "id"\` INT PRIMARY KEY)`);
  await root.query(`INSERT INTO \`${other}\`.\`it's.a \`\`t\` VALUES (1), (2)`);
  const { table } = await makeLoop(root);
  const from = `${other}.\`it's.a \`\`t\`.the "id"`;
  const env = { MYSQL_URL: serverUrl() };
  assert.deepEqual(
    await doloop(['fill', `${database}.${table}`, '--from', from, '--prune'], env),
    done(`${database}.${table}: 2 ids read, 2 added, 0 removed\n`),
  );
});

test('--prune removes nothing where nothing was read: rather a slip than what was meant', async () => {
  await root.query('CREATE TABLE emptied (id INT PRIMARY KEY)');
  const { table } = await makeLoop(root);
  await root.query(`INSERT INTO ${table} (id) VALUES (1)`);
  const ran = await doloop(['fill', table, '--from', 'emptied.id', '--prune']);
  assert.deepEqual(ran, failed(1, `prune: no id was read from ${database}.emptied.id; nothing was removed`));
  assert.deepEqual(await idsOf(table), [1]);
});

/** Until somebody waits for a row. */
async function untilWaiting(): Promise<void> {
  const sessions = `SELECT id FROM information_schema.processlist WHERE db = '${database}'`;
  const waits = async () => waitsForRow(...(await rows(root, sessions)).map(row => Object.values(row)[0] as number));
  for (let tries = 200; !(await waits()); tries -= 1) {
    assert.notEqual(tries, 0, 'nobody waits');
    await sleep(50);
  }
}

test('--prune keeps an id whose row comes while it looks', async () => {
  await root.query('CREATE TABLE coming (id INT PRIMARY KEY)');
  await root.query('INSERT INTO coming VALUES (1)');
  const { table, loop } = await makeLoop(root);
  await loop.add([1, 2, 3]);
  const app = await connect();
  await app.beginTransaction();
  await app.query('INSERT INTO coming VALUES (2)');
  assert.equal(await new DoLoop(app, table).add(2), 0);
  const running = doloop(['fill', table, '--from', 'coming.id', '--prune']);
  await untilWaiting(); // it has found neither 2 nor 3
  await app.commit();
  assert.deepEqual(await running, done(`${database}.${table}: 1 id read, 0 added, 1 removed\n`));
  assert.deepEqual(await idsOf(table), [1, 2]);
});

test('Ctrl-C ends it after the page at hand, and says how far it got; run again, it does the rest', async () => {
  const source = await makeSource('INT');
  const { table } = await makeLoop(root);
  const app = await connect();
  await app.beginTransaction();
  await app.query(`INSERT INTO ${table} (id) VALUES (15000)`);
  const child = spawn(process.execPath, [BIN, 'fill', table, '--from', `${source}.c`, '--prune'], {
    env: environment(),
  });
  const running = ended(child);
  await untilWaiting(); // in its second page
  child.kill('SIGINT');
  await sleep(100);
  await app.commit();
  assert.deepEqual(await running, {
    code: null,
    signal: 'SIGINT',
    stdout: `${database}.${table}: 20,000 ids read, 19,999 added, 0 removed\n`,
    stderr: 'doloop: stopped early: what was done stays, and the same command begins anew\n',
  });
  assert.deepEqual(await column(`SELECT COUNT(*) FROM ${table}`), [20_000]);
  const again = await doloop(['fill', table, '--from', `${source}.c`]);
  assert.equal(again.stdout, `${database}.${table}: 25,000 ids read, 5,000 added\n`);
});

test('ids from standard input, one a line, of any type', async () => {
  const cases: [idType: string, input: string, ids: unknown[]][] = [
    ['INT', '3\n-1\r\n\n3\n2', [-1, 2, 3]],
    ['BIGINT UNSIGNED', '18446744073709551615\n', ['18446744073709551615']],
    [
      'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
      'it\'s\n"two\\nlines"\n-x\n',
      ['-x', "it's", 'two\nlines'],
    ],
    ['VARBINARY(4)', '00ff\n', [Buffer.from([0, 255])]],
    ['DECIMAL(30,10)', '9007199254740993.0000000001\n', ['9007199254740993.0000000001']],
    ['INT', '', []],
  ];
  const exact = await connect({ supportBigNumbers: true });
  for (const [idType, input, ids] of cases) {
    const { table } = await makeLoop(root, { idType });
    const { code, stdout } = await doloop(['fill', table, '--json'], undefined, input);
    const { read, added } = JSON.parse(stdout) as { read: number; added: number };
    assert.deepEqual([code, added], [0, ids.length]);
    assert.equal(read, input.split('\n').filter(line => line.trim() !== '').length);
    assert.deepEqual(
      (await rows(exact, `SELECT id FROM ${table} ORDER BY id`)).map(({ id }) => id),
      ids,
    );
  }
});

test('an id that is none ends it; the pages before are in', async () => {
  const { table } = await makeLoop(root);
  const input = `${Array.from({ length: 10_000 }, (_, i) => i).join('\n')}\n10001\nabc\n`;
  const ran = await doloop(['fill', table], undefined, input);
  assert.deepEqual(ran, {
    code: 1,
    signal: null,
    stdout: `${database}.${table}: 10,000 ids read, 10,000 added\n`,
    stderr: 'doloop: ids: "abc" is not a whole number from -2147483648 to 2147483647\n',
  });
  assert.deepEqual(await column(`SELECT COUNT(*) FROM ${table}`), [10_000]);
});

test('Ctrl-C ends it though nothing comes from standard input', async () => {
  const { table } = await makeLoop(root);
  const child = spawn(process.execPath, [BIN, 'fill', table], { env: environment() });
  const running = ended(child);
  child.stdin.write(`${Array.from({ length: 10_001 }, (_, i) => i).join('\n')}\n`);
  while ((await column(`SELECT COUNT(*) FROM ${table}`))[0] === 0) await sleep(20);
  child.kill('SIGINT');
  assert.deepEqual(await running, {
    code: null,
    signal: 'SIGINT',
    stdout: `${database}.${table}: 10,000 ids read, 10,000 added\n`,
    stderr: 'doloop: stopped early: what was done stays, and the same command begins anew\n',
  });
});

test('a lost connection is an error that says how far it got', async () => {
  const { table } = await makeLoop(root);
  const child = spawn(process.execPath, [BIN, 'fill', table], { env: environment() });
  const running = ended(child);
  const piece = `${Array.from({ length: 10_000 }, (_, i) => i).join('\n')}\n`;
  child.stdin.write(piece);
  while ((await column(`SELECT COUNT(*) FROM ${table}`))[0] === 0) await sleep(20);
  const [id] = await column(
    `SELECT id FROM information_schema.processlist WHERE db = '${database}' AND id <> CONNECTION_ID() ORDER BY id DESC LIMIT 1`,
  );
  await root.query(`KILL ${id}`);
  child.stdin.on('error', () => {});
  child.stdin.write(piece);
  const { code, stdout, stderr } = await running;
  assert.deepEqual([code, stdout], [1, `${database}.${table}: 10,000 ids read, 10,000 added\n`]);
  assert.match(stderr, /^doloop: .+\n$/);
});

test('it takes EXECUTE on the loop and SELECT on the source, and --prune SELECT on the loop, said beforehand', async () => {
  const { table } = await makeLoop(root);
  const { table: other } = await makeLoop(root);
  await root.query('CREATE TABLE mine (id INT PRIMARY KEY)');
  await root.query('INSERT INTO mine VALUES (1), (2)');
  const { account, who } = await makeAccount('EXECUTE');
  await root.query(`GRANT SELECT ON ${database}.mine TO ${account}`);
  const env = { MYSQL_URL: serverUrl({ database, user: who.user!, password: who.password! }) };
  const prune = ['fill', table, '--from', 'mine.id', '--prune'];
  const refusal = `prune: ${database}.${table}.id is not there, or this account has no SELECT on it`;
  assert.deepEqual(await doloop(prune, env), failed(1, refusal));
  assert.deepEqual(
    await doloop(['fill', table, '--from', 'mine.id'], env),
    done(`${database}.${table}: 2 ids read, 2 added\n`),
  );
  await root.query(`INSERT INTO ${table} (id) VALUES (3)`);
  await root.query(`GRANT SELECT ON ${database}.${table} TO ${account}`);
  assert.deepEqual(await doloop(prune, env), done(`${database}.${table}: 2 ids read, 0 added, 1 removed\n`));
  const hidden = await doloop(['fill', table, '--from', `${other}.id`], env);
  assert.deepEqual(
    hidden,
    failed(1, `from: ${database}.${other}.id is not there, or this account has no SELECT on it`),
  );
});

test('what can not be read by pages, or pruned, is refused with what would mend it', async () => {
  const { table } = await makeLoop(root);
  const { table: text } = await makeLoop(root, { idType: 'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin' });
  await root.query(
    `CREATE TABLE odd (id INT PRIMARY KEY, plain INT, f FLOAT, second INT, t VARCHAR(20) CHARACTER SET latin1,
      KEY (f), KEY both_of (id, second), KEY (t), KEY beginning (t(5)))`,
  );
  await root.query('CREATE VIEW odd_view AS SELECT id FROM odd');
  const cases: [loop: string, args: string[], message: string][] = [
    [table, ['odd.nix'], `from: ${database}.odd.nix is not there, or this account has no SELECT on it`],
    [table, ['nix.id'], `from: ${database}.nix.id is not there, or this account has no SELECT on it`],
    [
      table,
      ['odd.plain'],
      `from: ${database}.odd.plain has no index; CREATE INDEX \`plain\` ON \`${database}\`.\`odd\` (\`plain\`)`,
    ],
    [
      table,
      ['odd.second'],
      `from: ${database}.odd.second has no index; CREATE INDEX \`second\` ON \`${database}\`.\`odd\` (\`second\`)`,
    ],
    [table, ['odd.f'], `from: ${database}.odd.f is FLOAT, which ids can't be`],
    [table, ['odd_view.id'], `from: ${database}.odd_view.id is of a VIEW, not of a table`],
    [
      text,
      ['odd.id', '--prune'],
      `prune: ids of VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin can't be compared with ${database}.odd.id, which is INT`,
    ],
    ['nix_loop', ['odd.id'], 'nix_loop is no loop here; `npx doloop create nix_loop` makes it'],
  ];
  for (const [loop, args, message] of cases) {
    assert.deepEqual(await doloop(['fill', loop, '--from', ...args]), failed(1, message));
  }
});

const WRONG: [args: string[], message: string][] = [
  [['--where', 'a = 1'], '--where needs --from'],
  [['--prune'], '--prune needs --from'],
  [['--from', 'users'], 'from: "users" is not a column\'s name, like users.id, app.users.id or `app`.`users`.`id`'],
  [['--from', 'a.b.c.d'], 'from: "a.b.c.d" is not a column\'s name, like users.id, app.users.id or `app`.`users`.`id`'],
  [['--from', `${'x'.repeat(65)}.id`], `from: table: "${'x'.repeat(65)}" has 65 characters, more than 64`],
];
for (const [args, message] of WRONG) {
  test(`wrong usage is told before anything is connected to: ${args.join(' ').slice(0, 30)}`, async () => {
    assert.deepEqual(await doloop(['fill', 'user_loop', ...args], NOWHERE), failed(2, message));
  });
}

test('a reader that closes the pipe is no error', async () => {
  const { table } = await makeLoop(root);
  const child = spawn(process.execPath, [BIN, 'fill', table], {
    env: environment(),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdout.destroy();
  child.stdin.end('1\n');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  assert.deepEqual(await idsOf(table), [1]);
});
