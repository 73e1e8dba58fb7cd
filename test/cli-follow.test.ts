/** `doloop follow`: what its triggers do to the loop, what it shows and asks, and what it refuses. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import { create } from '../src/index.js';
import {
  connect,
  connectFrozen,
  contents,
  database,
  inConsole,
  makeAccount,
  makeDatabase,
  makeLoop,
  NOW,
  put,
  row,
  rows,
  server,
} from './harness.js';
import { doloop, done, failed, NOWHERE, type Ran, serverUrl } from './run-doloop.js';

const root = await connect();
/** An application, whose clock stands still. */
let app: Connection;
before(async () => {
  app = await connectFrozen();
});

const COLUMNS = 'id INT PRIMARY KEY, name VARCHAR(20) CHARACTER SET latin1, score FLOAT, note TEXT';
let sources = 0;

/** A new source with rows 1, 2 and 3, and a loop that follows it. */
async function makeFollowed(...args: string[]): Promise<{ source: string; table: string; ran: Ran }> {
  sources += 1;
  const source = `s${sources}`;
  await root.query(`CREATE TABLE ${source} (${COLUMNS})`);
  await root.query(`INSERT INTO ${source} VALUES (1, 'a', 1, 'x'), (2, 'b', 2, NULL), (3, NULL, NULL, NULL)`);
  const { table } = await makeLoop(root);
  const ran = await doloop(['follow', table, '--source', `${source}.id`, '--yes', ...args]);
  assert.equal(ran.code, 0, ran.stderr);
  return { source, table, ran };
}

/** Which triggers there are on a table, and when they were made. */
async function triggersOn(table: string, schema = database): Promise<Record<string, unknown>[]> {
  return rows(
    root,
    `SELECT trigger_name AS name, created AS created, sql_mode AS mode FROM information_schema.triggers
      WHERE event_object_schema = ? AND event_object_table = ? ORDER BY trigger_name`,
    [schema, table],
  );
}
const namesOn = async (table: string, schema?: string) => (await triggersOn(table, schema)).map(({ name }) => name);
const threeOf = (table: string) => ['delete', 'insert', 'update'].map(event => `${table}_${event}`);

test('new rows join, rows that go leave, and a changed id does both; with the transaction, or not at all', async () => {
  const { source, table } = await makeFollowed();
  assert.deepEqual(await namesOn(source), threeOf(table));
  await app.query(`INSERT INTO ${source} (id) VALUES (4), (5)`);
  assert.deepEqual(await contents(root, table), [row(4), row(5)]);
  await put(root, table, [row(3, { updated: -9, until: 9, failures: 2 }), row(4), row(5, { updated: -5 })]);
  await app.query(`DELETE FROM ${source} WHERE id IN (1, 4)`);
  await app.query(`UPDATE ${source} SET id = 6 WHERE id = 5`);
  const after = [row(3, { updated: -9, until: 9, failures: 2 }), row(6)];
  assert.deepEqual(await contents(root, table), after);
  await app.beginTransaction();
  await app.query(`INSERT INTO ${source} (id) VALUES (7)`);
  await app.query(`DELETE FROM ${source} WHERE id = 3`);
  await app.rollback();
  assert.deepEqual(await contents(root, table), after);
});

for (const [table, source] of [
  ['t', 'k'],
  ['known', 'until'],
  ['new', 'old'],
] as const) {
  test(`a loop may be named ${table}, and follow a table named ${source}`, async () => {
    await root.query(`CREATE TABLE ${source} (${COLUMNS})`);
    await create(root, table);
    const ran = await doloop(['follow', table, '--source', `${source}.id`, '--bump-on', 'name', '--yes']);
    assert.equal(ran.code, 0, ran.stderr);
    await app.query(`INSERT INTO ${source} (id, name) VALUES (1, 'a'), (2, 'b')`);
    await app.query(`UPDATE ${source} SET name = 'c' WHERE id = 1`);
    await app.query(`UPDATE ${source} SET id = 3 WHERE id = 2`);
    assert.deepEqual(await contents(root, table), [row(1, { until: 0 }), row(3)]);
  });
}

test('without --bump-on a change bumps nothing', async () => {
  const { source, table } = await makeFollowed();
  await put(root, table, [row(1), row(2)]);
  await app.query(`UPDATE ${source} SET name = 'new', score = 7, note = 'new'`);
  assert.deepEqual(await contents(root, table), [row(1), row(2)]);
});

test('--bump-on bumps by the rules of bump: where nothing has priority earlier; an id that is not in is added', async () => {
  const { source, table, ran } = await makeFollowed('--bump-on', 'name,NOTE');
  assert.match(
    ran.stdout,
    new RegExp(`\\n${database}.${table} follows ${database}.${source}.id, bumped on name, note\\n$`),
  );
  await app.query(`INSERT INTO ${source} VALUES (4, 'd', 4, NULL), (5, 'e', 5, NULL)`);
  await put(root, table, [
    row(1, { updated: -60 }),
    row(2, { updated: -60, until: 60, failures: 1 }),
    row(3, { until: -60 }),
    row(4, { until: 60 }),
  ]);
  await app.query(`UPDATE ${source} SET name = CONCAT(COALESCE(name, ''), '!') WHERE id <> 4`);
  await app.query(`UPDATE ${source} SET score = 9`);
  assert.deepEqual(await contents(root, table), [
    row(1, { updated: -60, until: 0 }),
    row(2, { updated: -60, until: 0, failures: 1 }),
    row(3, { until: -60 }),
    row(4, { until: 60 }),
    row(5, { until: 0 }),
  ]);
});

test('a change is one of bytes: case, a blank at the end, NULL; what is written as it was is none', async () => {
  const { source, table } = await makeFollowed('--bump-on', 'name, note,score');
  const changes = ["name = 'A'", "name = 'A '", 'name = NULL', "name = ''", "note = 'X'", 'note = NULL', 'score = 1.5'];
  for (const change of changes) {
    await put(root, table, [row(1)]);
    await app.query(`UPDATE ${source} SET ${change} WHERE id = 1`);
    assert.deepEqual(await contents(root, table), [row(1, { until: 0 })], change);
    await put(root, table, [row(1)]);
    await app.query(`UPDATE ${source} SET ${change}, id = 1 WHERE id = 1`);
    await app.query(`INSERT INTO ${source} (id) VALUES (1) ON DUPLICATE KEY UPDATE ${change}`);
    assert.deepEqual(await contents(root, table), [row(1)], `${change} again`);
  }
});

test('get goes on while a transaction that has changed rows is open, and gets what it has not', async () => {
  const { source, table } = await makeFollowed('--bump-on', 'name');
  await put(root, table, [row(1, { until: -2 }), row(2, { until: -1 }), row(3, { until: -3 })]);
  await app.beginTransaction();
  await app.query(`UPDATE ${source} SET name = 'new' WHERE id IN (1, 2)`);
  await app.query(`INSERT INTO ${source} (id) VALUES (4)`);
  const worker = await connectFrozen();
  await worker.query('SET innodb_lock_wait_timeout = 1');
  const get = async () => (await rows(worker, `CALL ${table}_get(10, NULL, NULL)`)).map(({ id }) => id);
  assert.deepEqual(await get(), [3]);
  await app.commit();
  assert.deepEqual(await get(), [1, 2, 4]);
});

test('who writes to the source needs no right on the loop', async () => {
  const { source, table } = await makeFollowed('--bump-on', 'name');
  const { account, who } = await makeAccount();
  await root.query(`GRANT INSERT, UPDATE, SELECT, DELETE ON ${database}.${source} TO ${account}`);
  const user = await connect(who);
  await user.query(`INSERT INTO ${source} (id) VALUES (9)`);
  await user.query(`UPDATE ${source} SET name = 'x' WHERE id = 1`);
  await user.query(`UPDATE ${source} SET id = 10 WHERE id = 9`);
  assert.deepEqual(
    (await contents(root, table)).map(({ id }) => id),
    [1, 10],
  );
});

test('ids of other types: text of a collation, bytes, large numbers, a unique column that may be NULL', async () => {
  const types: [type: string, first: string, second: string][] = [
    ['VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin', "'ä'", "'Ä'"],
    ['BINARY(4)', "X'00ff00ff'", "X'00ff00fe'"],
    ['BIGINT UNSIGNED', '18446744073709551615', '9007199254740993'],
    ['DECIMAL(20,2)', '0.01', '9007199254740993.01'],
  ];
  for (const [i, [type, first, second]] of types.entries()) {
    const source = `typed${i}`;
    await root.query(`CREATE TABLE ${source} (n INT PRIMARY KEY, \`the id\` ${type} UNIQUE)`);
    const { table } = await makeLoop(root, { idType: type });
    const ran = await doloop(['follow', table, '--source', `${source}.the id`, '--bump-on', 'n', '--yes']);
    assert.equal(ran.code, 0, ran.stderr);
    await app.query(`INSERT INTO ${source} VALUES (1, ${first}), (2, NULL), (3, ${second})`);
    const same = async (n: number) => {
      const [{ all, found }] = (await rows(
        root,
        `SELECT (SELECT COUNT(*) FROM ${table}) AS \`all\`, COUNT(*) AS found FROM ${table} JOIN ${source} ON id = \`the id\``,
      )) as [{ all: number; found: number }];
      assert.deepEqual([all, found], [n, n], type);
    };
    await same(2);
    await app.query(`UPDATE ${source} SET \`the id\` = NULL, n = 4 WHERE n = 1`);
    await same(1);
    await app.query(`UPDATE ${source} SET \`the id\` = ${first} WHERE n = 2`);
    await same(2);
    await app.query(`DELETE FROM ${source} WHERE n IN (2, 4)`);
    await same(1);
  }
});

test('the loop may be in another database; names that need quoting', async () => {
  const other = await makeDatabase('CHARACTER SET latin1');
  const loop = `\`${other}\`.\`it's a \`\`loop\`\`; x\``;
  await doloop(['create', loop]);
  await root.query("CREATE TABLE `the ``t``; x` (`the ``id``` INT PRIMARY KEY, `a 'b'` VARCHAR(9))");
  const follow = ['follow', loop, '--source', '`the ``t``; x`.`the ``id```', '--bump-on', "a 'b'"];
  const shown = await doloop(follow);
  assert.equal(inConsole([], shown.stdout), '');
  await app.query('INSERT INTO `the ``t``; x` VALUES (1, NULL)');
  await app.query("UPDATE `the ``t``; x` SET `a 'b'` = 'x'");
  assert.deepEqual(await rows(root, `SELECT id, lock_until FROM ${loop}`), [{ id: 1, lock_until: NOW }]);
  for (const args of [follow, ['follow', loop, '--drop']]) {
    const { code, stderr } = await doloop([...args, '--yes']);
    assert.equal(code, 0, stderr);
  }
  assert.deepEqual(await namesOn('the `t`; x'), []);
});

test('without a terminal and without --yes it is only shown; the console takes it, and takes it again', async () => {
  const { table } = await makeLoop(root);
  await root.query(`CREATE TABLE shown (${COLUMNS})`);
  const follow = ['follow', table, '--source', 'shown.id', '--bump-on', 'name'];
  const shown = await doloop(follow);
  assert.deepEqual([shown.code, shown.stderr], [0, 'doloop: only shown: --yes runs it\n']);
  assert.deepEqual(await namesOn('shown'), []);
  const json = JSON.parse((await doloop([...follow, '--json'])).stdout);
  assert.deepEqual(
    { ...json, statements: json.statements.length },
    {
      ...{ database, table, source: { database, table: 'shown', column: 'id' } },
      ...{ bumpOn: ['name'], statements: 5, done: false },
    },
  );
  for (const statement of json.statements) assert.ok(shown.stdout.includes(`\n\n${statement}$$\n`));
  assert.equal(inConsole([], shown.stdout), '');
  assert.deepEqual(await namesOn('shown'), threeOf(table));
  const again = await doloop(['follow', table, '--source', 'shown.id', '--bump-on', 'name,note']);
  assert.equal(inConsole([], again.stdout), '');
  assert.equal(inConsole([], again.stdout), '');
  await app.query("INSERT INTO shown VALUES (1, 'a', 1, NULL)");
  await app.query("UPDATE shown SET note = 'x'");
  assert.deepEqual(await contents(root, table), [row(1, { until: 0 })]);
  const drop = await doloop(['follow', table, '--drop']);
  assert.deepEqual(await namesOn('shown'), threeOf(table));
  assert.equal(inConsole([], drop.stdout), '');
  assert.deepEqual(await namesOn('shown'), []);
});

test('run again, it changes nothing; with other columns it replaces the triggers; --drop takes them away', async () => {
  const { source, table } = await makeFollowed('--bump-on', 'name');
  const follow = ['follow', table, '--source', `${source}.id`, '--yes'];
  const before = await triggersOn(source);
  const outcome = `${database}.${table} follows ${database}.${source}.id`;
  assert.deepEqual(await doloop([...follow, '--bump-on', 'name']), done(`${outcome}, bumped on name\n`));
  assert.deepEqual(await triggersOn(source), before);
  const replaced = await doloop(follow);
  assert.ok(replaced.stdout.endsWith(`\n${outcome}\n`));
  assert.notDeepEqual(await triggersOn(source), before);
  await put(root, table, [row(1)]);
  await app.query(`UPDATE ${source} SET name = 'new'`);
  assert.deepEqual(await contents(root, table), [row(1)]);
  const dropped = await doloop(['follow', table, '--drop', '--yes', '--json']);
  assert.deepEqual([dropped.code, JSON.parse(dropped.stdout).done], [0, true]);
  assert.deepEqual(await namesOn(source), []);
  assert.deepEqual(
    await doloop(['follow', table, '--drop', '--yes']),
    failed(1, `${database}.${table} follows no table here, or this account has no TRIGGER on it`),
  );
});

test('no write goes unseen while the triggers are replaced', async () => {
  const { source, table } = await makeFollowed();
  let over = false;
  const writing = (async () => {
    let id = 1000;
    for (; !over; id += 1) {
      await app.query(`INSERT INTO ${source} (id) VALUES (${id})`);
      if (id % 2 === 0) await app.query(`DELETE FROM ${source} WHERE id = ${id}`);
      await sleep(1);
    }
  })();
  for (const column of ['name', 'note', 'score']) {
    const { code } = await doloop(['follow', table, '--source', `${source}.id`, '--yes', '--bump-on', column]);
    assert.equal(code, 0);
  }
  over = true;
  await writing;
  const all = (from: string) => rows(root, `SELECT id FROM ${from} WHERE id >= 1000 ORDER BY id`);
  assert.deepEqual(await all(table), await all(source));
});

test('the sql_mode of the triggers is its own, whatever that of who makes them', async () => {
  const { source } = await makeFollowed();
  for (const { mode } of await triggersOn(source)) assert.match(mode as string, /^STRICT_ALL_TABLES/);
});

test('what is advised: to fill, and of foreign keys whose cascades fire no triggers', async () => {
  await root.query('CREATE TABLE parent (id INT PRIMARY KEY)');
  await root.query(
    'CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT of_parent FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)',
  );
  const { table } = await makeLoop(root);
  const { stderr } = await doloop(['follow', table, '--source', 'child.id', '--yes']);
  const from = `${database}.${table} --from ${database}.child.id --prune`;
  assert.equal(
    stderr,
    `doloop: now put in what was there before: npx doloop fill ${from}\n` +
      'doloop: rows that are deleted with theirs of parent (of_parent, ON DELETE CASCADE) fire no triggers: only fill --prune sees them gone\n',
  );
  await root.query('INSERT INTO parent VALUES (1)');
  await root.query('INSERT INTO child VALUES (1, 1), (2, NULL)');
  await root.query('DELETE FROM parent');
  assert.equal((await contents(root, table)).length, 2, 'a cascade fires none');
  await doloop(['fill', table, '--from', 'child.id', '--prune']);
  assert.deepEqual(await contents(root, table), [row(2)]);
});

/** The environment of an account that may do this on the file's database. */
async function envOf(...privileges: string[]): Promise<{ account: string; env: { MYSQL_URL: string } }> {
  const { account, who } = await makeAccount(...privileges);
  return { account, env: { MYSQL_URL: serverUrl({ database, user: who.user!, password: who.password! }) } };
}

test('where the binary log is on it takes SUPER, says so, and leaves what was there', async () => {
  const { account, env } = await envOf('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRIGGER', 'LOCK TABLES');
  const message =
    'the binary log of this server is on, so that triggers take SUPER: GRANT SUPER ON *.* TO this account, use one that ' +
    'has it, or SET GLOBAL log_bin_trust_function_creators = 1; nothing was changed\n';
  await root.query(`CREATE TABLE logged (${COLUMNS})`);
  const { table: fresh } = await makeLoop(root);
  const refused = await doloop(['follow', fresh, '--source', 'logged.id', '--yes'], env);
  assert.deepEqual([refused.code, refused.stderr], [1, `doloop: ${message}`]);
  assert.deepEqual(await namesOn('logged'), []);

  const { source, table } = await makeFollowed();
  const before = await triggersOn(source);
  const again = await doloop(['follow', table, '--source', `${source}.id`, '--bump-on', 'name', '--yes'], env);
  assert.deepEqual([again.code, again.stderr], [1, `doloop: ${message}`]);
  assert.deepEqual(await triggersOn(source), before);

  await root.query(`GRANT SUPER ON *.* TO ${account}`);
  for (const columns of ['name', 'note']) {
    const ran = await doloop(['follow', fresh, '--source', 'logged.id', '--bump-on', columns, '--yes'], env);
    assert.equal(ran.code, 0, ran.stderr);
  }
  assert.equal((await doloop(['follow', fresh, '--drop', '--yes'], env)).code, 0);
});

test('an account that may not write to the loop makes no triggers that would fail in its name', async () => {
  const { account, env } = await envOf('SELECT', 'TRIGGER');
  await root.query(`GRANT SUPER ON *.* TO ${account}`);
  await root.query(`CREATE TABLE unwritten (${COLUMNS})`);
  const { table } = await makeLoop(root);
  const ran = await doloop(['follow', table, '--source', 'unwritten.id', '--yes'], env);
  assert.equal(ran.code, 1);
  assert.match(ran.stderr, /^doloop: DELETE command denied to user .*\n$/);
  assert.deepEqual(await namesOn('unwritten'), []);
});

test('what can not be followed is refused with the reason', async () => {
  await root.query(
    `CREATE TABLE odd (id INT PRIMARY KEY, big BIGINT UNIQUE, twice INT, pair INT, f FLOAT UNIQUE, t VARCHAR(20) UNIQUE,
      KEY (twice), UNIQUE KEY (pair, id))`,
  );
  await root.query('CREATE VIEW odd_view AS SELECT id FROM odd');
  const { table } = await makeLoop(root);
  const { table: general } = await makeLoop(root, { idType: 'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin' });
  const unique = (column: string) =>
    `source: ${database}.odd.${column} is not unique: of several rows with one id, the first to go would take it out`;
  const cases: [loop: string, args: string[], message: string | RegExp][] = [
    [table, ['odd.nix'], `source: ${database}.odd.nix is not there, or this account has no SELECT on it`],
    [table, ['odd_view.id'], `source: ${database}.odd_view.id is of a VIEW, not of a table`],
    [table, ['odd.twice'], unique('twice')],
    [table, ['odd.pair'], unique('pair')],
    [table, ['odd.f'], `source: ${database}.odd.f is FLOAT, which ids can't be`],
    [
      table,
      ['odd.big'],
      new RegExp(`^doloop: source: ${database}.odd.big is BIGINT, the ids of ${database}.${table} are INT: `),
    ],
    [
      general,
      ['odd.t'],
      / CHARACTER SET utf8mb4 COLLATE .*, the ids of .* CHARACTER SET utf8mb4 COLLATE utf8mb4_bin: /,
    ],
    [table, ['odd.id', '--bump-on', 't,nix'], `bump-on: ${database}.odd has no column nix`],
    [table, [`${table}.id`], `source: ${database}.${table}.id is the loop itself`],
    ['odd', ['odd.id'], `${database}.odd is no loop here, or this account has no SELECT on it`],
  ];
  for (const [loop, args, message] of cases) {
    const ran = await doloop(['follow', loop, '--yes', '--source', ...args]);
    if (typeof message === 'string') assert.deepEqual(ran, failed(1, message));
    else assert.match(ran.stderr, message);
    assert.equal(ran.code, 1);
  }
  assert.deepEqual(await namesOn('odd'), []);
});

test("a loop follows one table; another's triggers are left alone", async () => {
  const { source, table } = await makeFollowed();
  await root.query(`CREATE TABLE second (${COLUMNS})`);
  assert.deepEqual(
    await doloop(['follow', table, '--source', 'second.id', '--yes']),
    failed(
      1,
      `${database}.${table} follows ${database}.${source}; doloop follow ${database}.${table} --drop ends that`,
    ),
  );
  const { table: taken } = await makeLoop(root);
  await root.query(`CREATE TRIGGER ${taken}_insert BEFORE INSERT ON second FOR EACH ROW SET NEW.name = 'x'`);
  assert.deepEqual(
    await doloop(['follow', taken, '--source', 'second.id', '--yes']),
    failed(1, `a trigger ${taken}_insert is there already, on second, and is not this loop's`),
  );
  assert.deepEqual(await namesOn('second'), [`${taken}_insert`]);
});

test('a table is not dropped while it follows another, whose writes would fail', async () => {
  const { source, table } = await makeFollowed();
  const drop = ['drop', table, '--table', table];
  assert.deepEqual(
    await doloop(drop),
    failed(
      1,
      `table: ${database}.${table} follows ${database}.${source}, where all writes would fail; ` +
        `\`npx doloop follow ${database}.${table} --drop\` ends that`,
    ),
  );
  await doloop(['follow', table, '--drop', '--yes']);
  assert.equal((await doloop(drop)).code, 0);
  await app.query(`DELETE FROM ${source}`);
});

test('a loop of 57 characters leaves room for the names of its triggers', async () => {
  const table = 'y'.repeat(57);
  await doloop(['create', table]);
  await root.query(`CREATE TABLE long_named (${COLUMNS})`);
  assert.equal((await doloop(['follow', table, '--source', 'long_named.id', '--yes'])).code, 0);
  assert.deepEqual(await namesOn('long_named'), threeOf(table));
});

const WRONG: [args: string[], message: string][] = [
  [[], 'what does it follow? Give --source COLUMN, or --drop'],
  [['--drop', '--source', 'a.b'], '--drop takes no --source and no --bump-on'],
  [['--drop', '--bump-on', 'a'], '--drop takes no --source and no --bump-on'],
  [['--source', 'users'], 'source: "users" is not a column\'s name, like users.id, app.users.id or `app`.`users`.`id`'],
  [['--source', 'users.id', '--bump-on', 'name,'], 'bump-on: give names of columns, like name,email'],
];
for (const [args, message] of WRONG) {
  test(`wrong usage is told before anything is connected to: ${args.join(' ')}`, async () => {
    assert.deepEqual(await doloop(['follow', 'user_loop', ...args], NOWHERE), failed(2, message));
  });
}

test('the help says what privilege a server with a binary log asks for', async () => {
  const { stdout } = await doloop(['follow', '--help'], NOWHERE);
  assert.match(stdout, /SUPER, too, unless log_bin_trust_function_creators is 1/);
  assert.match(stdout, /Examples:/);
  assert.ok(server.kind);
});
