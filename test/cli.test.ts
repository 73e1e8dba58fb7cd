/** The setup script, run as a program: what it does, prints and exits with. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { scriptForCreate } from '../src/index.js';
import { connect, contents, database, rows, server } from './harness.js';
import {
  BIN,
  beginDoloop,
  doloop,
  done,
  type Env,
  ended,
  environment,
  failed,
  folder,
  NOWHERE,
  type Ran,
  serverUrl,
  shell,
} from './run-doloop.js';

const PROCEDURES = ['add', 'remove', 'get', 'did', 'unlock', 'bump', 'extend', 'fail', 'check', 'stats', 'next'];
const SECRET = 'hunter2';
const { version, bin } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

const root = await connect();

async function procedures(table: string): Promise<string[]> {
  const found = await rows(
    root,
    `SELECT routine_name AS name FROM information_schema.routines
      WHERE routine_schema = ? AND routine_name LIKE CONCAT(?, '\\_%')`,
    [database, table],
  );
  return found.map(({ name }) => name.slice(table.length + 1)).sort();
}

async function tableExists(table: string): Promise<boolean> {
  return (await rows(root, 'SHOW TABLES LIKE ?', [table])).length === 1;
}

/** All that there is of a loop: its table's definition and rows, and its procedures as they were made. */
async function everything(table: string): Promise<unknown[]> {
  return [
    await rows(root, `SHOW CREATE TABLE \`${table}\``),
    await rows(root, `SELECT * FROM \`${table}\` ORDER BY 1`),
    await rows(
      root,
      `SELECT routine_name, created, last_altered, routine_definition FROM information_schema.routines
        WHERE routine_schema = ? AND routine_name LIKE CONCAT(?, '\\_%') ORDER BY 1`,
      [database, table],
    ),
  ];
}

/** An account without rights, dropped in the end; its name is this run's own. */
async function makeAccount(t: TestContext, name: string): Promise<{ user: string; password: string }> {
  const user = `${database}_${name}`;
  await root.query(`CREATE USER '${user}'@'%' IDENTIFIED BY '${SECRET}'`);
  t.after(() => root.query(`DROP USER '${user}'@'%'`));
  return { user, password: SECRET };
}

async function makeDatabase(t: TestContext, name: string): Promise<string> {
  const full = `${database}_${name}`;
  await root.query(`CREATE DATABASE \`${full}\` CHARACTER SET utf8mb4`);
  t.after(() => root.query(`DROP DATABASE \`${full}\``));
  return full;
}

const ORIGINAL =
  'id INT PRIMARY KEY, last_updated INT DEFAULT NULL, lock_until INT DEFAULT NULL, KEY lock_until (lock_until, last_updated)';

test('create makes a table and its procedures, for each name', async () => {
  const made = await doloop(['create', 'one_loop', 'two_loop']);
  const line = (table: string) => `${database}.${table}: made, 11 procedures\n`;
  assert.deepEqual(made, done(line('one_loop') + line('two_loop')));
  for (const table of ['one_loop', 'two_loop']) {
    assert.deepEqual(await procedures(table), [...PROCEDURES].sort());
    await root.query(`CALL ${table}_add('[1, 2]', NULL)`);
    assert.equal((await contents(root, table)).length, 2);
  }
});

test('create run again changes nothing', async () => {
  await doloop(['create', 'again_loop', '-i', 'BIGINT UNSIGNED']);
  await root.query("CALL again_loop_add('[1, 2]', NULL)");
  const before = await everything('again_loop');
  assert.deepEqual(await doloop(['create', 'again_loop']), done(`${database}.again_loop: up to date\n`));
  assert.deepEqual(await everything('again_loop'), before);
});

test('create over an older version replaces the procedures, and keeps the rows and the grants', async t => {
  const account = await makeAccount(t, 'up');
  await doloop(['create', 'old_loop', '--grant', `${account.user}@%`]);
  await root.query("CALL old_loop_add('[1, 2]', NULL)");
  const grants = await rows(root, `SHOW GRANTS FOR '${account.user}'@'%'`);
  for (const [name, comment] of [
    ['add', 'doloop 0.0.1: older'],
    ['get', 'doloop 0.0.1+12345678: older'],
  ]) {
    await root.query(`ALTER PROCEDURE old_loop_${name} COMMENT '${comment}'`);
  }
  const [table, contained] = await everything('old_loop');
  assert.deepEqual(await doloop(['create', 'old_loop']), done(`${database}.old_loop: upgraded, 2 procedures\n`));
  assert.deepEqual((await everything('old_loop')).slice(0, 2), [table, contained]);
  const comments = await rows(
    root,
    `SELECT DISTINCT SUBSTRING_INDEX(SUBSTRING_INDEX(routine_comment, ':', 1), '+', 1) AS version
      FROM information_schema.routines WHERE routine_schema = ? AND routine_name LIKE 'old\\_loop\\_%'`,
    [database],
  );
  assert.equal(comments.length, 1, 'all are of one version');
  const sorted = (found: object[]) => found.map(row => Object.values(row)[0]).sort();
  assert.deepEqual(sorted(await rows(root, `SHOW GRANTS FOR '${account.user}'@'%'`)), sorted(grants));
});

test("create adopts a table of the original's shape with all its rows and its INT times", async () => {
  await root.query(`CREATE TABLE biz_loop (${ORIGINAL})`);
  await root.query('INSERT INTO biz_loop VALUES (1, NULL, NULL), (2, 1600000000, NULL), (3, NULL, 1700000000)');
  assert.deepEqual(await doloop(['create', 'biz_loop']), done(`${database}.biz_loop: adopted, 11 procedures\n`));
  assert.deepEqual(await contents(root, 'biz_loop'), [
    { id: 1, last_updated: null, lock_until: null, failures: 0 },
    { id: 2, last_updated: 1600000000, lock_until: null, failures: 0 },
    { id: 3, last_updated: null, lock_until: 1700000000, failures: 0 },
  ]);
  const types = await rows(root, "SHOW COLUMNS FROM biz_loop LIKE 'l%'");
  for (const { Type } of types) assert.match(Type, /^int/);
  assert.deepEqual(await rows(root, 'CALL biz_loop_get(2, NULL, NULL)').then(got => got.map(({ id }) => id)), [3, 1]);
});

const TIMES = 'last_updated BIGINT, lock_until BIGINT';
const SHAPES: [name: string, definition: string, args: string[], difference: string][] = [
  ['more', `TABLE s_more (id INT PRIMARY KEY, ${TIMES}, email INT)`, [], 'no loop of INT: it has a column email'],
  ['few', 'TABLE s_few (id INT PRIMARY KEY)', [], 'no loop of INT: it has no last_updated or no lock_until'],
  ['key', `TABLE s_key (id INT, ${TIMES})`, [], 'no loop of INT: its primary key is (), not (id)'],
  ['no_id', 'TABLE s_no_id (a INT PRIMARY KEY)', [], 'no loop of INT: its primary key is (a), not (id)'],
  ['inexact', `TABLE s_inexact (id FLOAT PRIMARY KEY, ${TIMES})`, [], 'no loop of INT: its id is FLOAT'],
  ['other', `TABLE s_other (id INT PRIMARY KEY, ${TIMES})`, ['-i', 'BIGINT'], 'no loop of BIGINT: its id is INT'],
  [
    'engine',
    `TABLE s_engine (id INT PRIMARY KEY, ${TIMES}) ENGINE=MyISAM`,
    ['-e', 'InnoDB'],
    'no loop of INT: its engine is MyISAM, not InnoDB',
  ],
  ['view', 'VIEW s_view AS SELECT 1 AS id', [], 'no loop of INT: it is a VIEW'],
];
for (const [name, definition, args, difference] of SHAPES) {
  test(`create refuses a table of another shape, and names the difference: ${difference}`, async () => {
    const table = `s_${name}`;
    await root.query(`CREATE ${definition}`);
    const before = await everything(table);
    assert.deepEqual(await doloop(['create', table, ...args]), failed(1, `table: ${table} is ${difference}`));
    assert.deepEqual(await everything(table), before);
    assert.deepEqual(await procedures(table), []);
  });
}

test('create begins with nothing else when it refuses one of several tables, and tells what it made', async () => {
  await root.query('CREATE TABLE third (id INT PRIMARY KEY)');
  const { code, stdout, stderr } = await doloop(['create', 'first_loop', 'third', 'last_loop']);
  assert.equal(code, 1);
  assert.equal(stdout, `${database}.first_loop: made, 11 procedures\n`);
  assert.match(stderr, /^doloop: table: third is no loop.*\n$/);
  assert.equal(await tableExists('last_loop'), false);
});

test('--grant gives accounts EXECUTE on the procedures and nothing more; it may be repeated', async t => {
  const accounts = [await makeAccount(t, 'a'), await makeAccount(t, 'b')];
  const grants = accounts.flatMap(({ user }) => ['--grant', `'${user}'@'%'`]);
  await doloop(['create', 'granted_loop', ...grants]);
  for (const { user, password } of accounts) {
    const connection = await connect({ uri: serverUrl({ user, password }) });
    assert.deepEqual(
      (await rows(connection, "CALL granted_loop_add('[7]', NULL)"))[0]!.added,
      Number(user.endsWith('a')),
    );
    assert.equal((await rows(connection, "CALL granted_loop_check('[7]')"))[0]!.id, 7);
    for (const refused of [
      'SELECT * FROM granted_loop',
      'DELETE FROM granted_loop',
      'DROP PROCEDURE granted_loop_add',
    ]) {
      await assert.rejects(connection.query(refused), /denied/);
    }
    const has = (await rows(connection, 'SHOW GRANTS')).map(row => String(Object.values(row)[0]));
    assert.deepEqual(
      has
        .filter(grant => !grant.startsWith('GRANT USAGE ON *.* '))
        .map(grant => /^GRANT (.*) TO /.exec(grant)?.[1])
        .sort(),
      PROCEDURES.map(one => `EXECUTE ON PROCEDURE \`${database}\`.\`granted_loop_${one}\``).sort(),
    );
  }
});

test('an account that is not there is refused, not made', async () => {
  const { code, stderr } = await doloop(['create', 'ghost_loop', '--grant', 'ghost@nowhere']);
  assert.equal(code, 1);
  assert.match(stderr, /^doloop: grant: there is no account `ghost`@`nowhere`; CREATE USER makes it\n$/);
  assert.equal(await tableExists('ghost_loop'), false);
});

test('what create can not keep is a warning on standard error, and it is done', async t => {
  const account = await makeAccount(t, 'warned');
  await root.query(`GRANT ALL ON \`${database}\`.* TO '${account.user}'@'%'`);
  const env = { MYSQL_URL: serverUrl({ database, ...account }) };
  await doloop(['create', 'warned_loop'], env);
  await root.query("ALTER PROCEDURE warned_loop_add COMMENT 'doloop 0.0.1: older'");
  const ran = await doloop(['create', 'warned_loop', '--json'], env);
  assert.equal(ran.code, 0);
  const [{ warnings }] = JSON.parse(ran.stdout);
  // MariaDB replaces a procedure with its grants; on MySQL only who may read them can give them back.
  assert.equal(warnings.length, server.kind === 'mysql' ? 1 : 0);
  assert.equal(ran.stderr, warnings.map((text: string) => `doloop: ${database}.warned_loop: ${text}\n`).join(''));
});

const TOO_LONG = 'x'.repeat(58);
const BEFOREHAND: [what: string, args: string[], message: string][] = [
  [
    'a name of three parts',
    ['a.b.c'],
    `table: "a.b.c" is not a table's name, like user_loop, app.user_loop or \`app\`.\`user.loop\``,
  ],
  ['an empty name', [''], `table: "" is not a table's name, like user_loop, app.user_loop or \`app\`.\`user.loop\``],
  [
    "a name that leaves no room for its procedures' names in 64 characters",
    [TOO_LONG],
    `table: "${TOO_LONG}" has 58 characters; at most 57 leave room for the names of its procedures`,
  ],
  ['a URL in the place of a name', [`mysql://root:${SECRET}@h/app`], 'table: a URL goes behind --url'],
  ['an inexact id type', ['x', '-i', 'FLOAT'], 'id type: "FLOAT" is inexact'],
  [
    'an engine that can be none',
    ['x', '--engine', 'a b'],
    'engine: "a b" is not a storage engine\'s name, like InnoDB',
  ],
];
for (const [what, args, message] of BEFOREHAND) {
  test(`${what} is wrong usage, before anything is made or connected to`, async () => {
    assert.deepEqual(await doloop(['create', 'good_loop', ...args], NOWHERE), failed(2, message));
    assert.deepEqual(await doloop(['sql', 'good_loop', ...args], NOWHERE), failed(2, message));
    if (args.length === 1) assert.deepEqual(await doloop(['drop', ...args], NOWHERE), failed(2, message));
  });
}

test('an account that can be none is wrong usage, before anything is connected to', async () => {
  const ran = await doloop(['create', 'x', '--grant', 'app@%', '--grant', "'app"], NOWHERE);
  assert.deepEqual(ran, failed(2, `grant: "'app" is not an account, like 'app'@'%'`));
});

test('names with a database, and names that need quoting, work in every command', async t => {
  const other = await makeDatabase(t, 'a.b');
  const name = `\`${other}\`.\`it's a \`\`loop\`\`; -- x\``;
  assert.deepEqual(await doloop(['create', name]), done(`${name}: made, 11 procedures\n`));
  const piped = await shell('doloop sql "$NAME" | console', { NAME: name });
  assert.deepEqual(piped, done(''));
  const listed = await doloop(['list', '-D', other, '--json']);
  assert.deepEqual(
    JSON.parse(listed.stdout).map((loop: { table: string }) => loop.table),
    ["it's a `loop`; -- x"],
  );
  assert.match((await doloop(['list', '-D', other])).stdout, /\n`it's a ``loop``; -- x`\t0\t/);
  const dropped = await doloop(['drop', name, '--table', name]);
  assert.deepEqual(dropped, done(`${name}: procedures dropped, table dropped\n`));
  assert.deepEqual(await rows(root, `SHOW TABLES FROM \`${other}\``), []);
});

test('a name with its database needs no other one to be selected', async () => {
  const env = { MYSQL_URL: serverUrl() };
  const name = `${database}.named_loop`;
  assert.deepEqual(await shell(`doloop sql ${name} | console`), done(''));
  assert.deepEqual(
    await doloop(['drop', name, '--table', name], env),
    done(`${name}: procedures dropped, table dropped\n`),
  );
  assert.deepEqual(await doloop(['create', name], env), done(`${name}: made, 11 procedures\n`));
  assert.equal((await rows(root, 'CALL named_loop_stats(NULL)')).length, 1);
});

test('a name of 57 characters leaves room for all procedures', async () => {
  const table = 'y'.repeat(57);
  assert.deepEqual(await doloop(['create', table]), done(`${database}.${table}: made, 11 procedures\n`));
});

test('sql writes, without connecting, the text of scriptForCreate, for each name', async () => {
  const both = await doloop(
    ['sql', 'a_loop', 'b_loop', '--id-type', 'CHAR(64) CHARSET ascii', '--engine', 'Aria'],
    NOWHERE,
  );
  const options = { idType: 'CHAR(64) CHARSET ascii', engine: 'Aria' };
  assert.deepEqual(both, done(`${scriptForCreate('a_loop', options)}\n${scriptForCreate('b_loop', options)}`));
  const short = await doloop(['sql', 'a_loop', '-i', options.idType, '-e', 'Aria'], NOWHERE);
  assert.equal(short.stdout, scriptForCreate('a_loop', options));
  assert.equal((await doloop(['sql', 'a_loop'], NOWHERE)).stdout, scriptForCreate('a_loop'));
});

test('what sql writes makes loops in the console of the server; run twice, it keeps their rows', async () => {
  const line = `doloop sql p_loop q_loop -i 'VARCHAR(20) CHARSET utf8mb4' | console ${database}`;
  assert.deepEqual(await shell(line), done(''));
  for (const table of ['p_loop', 'q_loop']) {
    assert.deepEqual(await procedures(table), [...PROCEDURES].sort());
    await root.query(`CALL ${table}_add('["Zoë", "b"]', NULL)`);
  }
  assert.deepEqual(await shell(line), done(''));
  for (const table of ['p_loop', 'q_loop']) {
    assert.deepEqual(await procedures(table), [...PROCEDURES].sort());
    assert.deepEqual(
      (await rows(root, `CALL ${table}_check('["Zoë", "b", "c"]')`)).map(({ id }) => id),
      ['b', 'Zoë'],
    );
  }
});

test('what sql writes is what create makes', async () => {
  assert.deepEqual(await shell(`doloop sql same_loop | console ${database}`), done(''));
  assert.deepEqual(await doloop(['create', 'same_loop']), done(`${database}.same_loop: up to date\n`));
});

test('what sql writes adopts, or refuses, like create', async () => {
  await root.query(`CREATE TABLE sql_original (${ORIGINAL})`);
  await root.query('INSERT INTO sql_original VALUES (5, 6, 7)');
  assert.deepEqual(await shell(`doloop sql sql_original | console ${database}`), done(''));
  assert.deepEqual(await contents(root, 'sql_original'), [{ id: 5, last_updated: 6, lock_until: 7, failures: 0 }]);
  await root.query('CREATE TABLE sql_other (id INT PRIMARY KEY, email INT)');
  const refused = await shell(`doloop sql sql_other | console ${database}`);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /table: sql_other is no loop of INT: it has a column email/);
});

test('create makes ids of the type and a table of the engine that are asked for, by the long and the short options', async () => {
  for (const [table, type, engine] of [
    ['long_loop', '--id-type', '--engine'],
    ['short_loop', '-i', '-e'],
  ] as const) {
    assert.equal((await doloop(['create', table, type, 'CHAR(64) CHARSET ascii', engine, 'MyISAM'])).code, 0);
    const [{ type: made, engine: used }] = (await rows(
      root,
      `SELECT CONCAT(column_type, ' ', character_set_name) AS type, engine AS engine
        FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema = ? AND table_name = ? AND column_name = 'id'`,
      [database, table],
    )) as [{ type: string; engine: string }];
    assert.deepEqual([made, used], ['char(64) ascii', 'MyISAM']);
  }
});

test('drop takes the procedures away and keeps the table; create brings them back', async () => {
  await doloop(['create', 'd_loop']);
  await root.query("CALL d_loop_add('[1]', NULL)");
  assert.deepEqual(await doloop(['drop', 'd_loop']), done(`${database}.d_loop: procedures dropped, table kept\n`));
  assert.deepEqual(await procedures('d_loop'), []);
  assert.deepEqual(await doloop(['drop', 'd_loop']), failed(1, `${database}.d_loop is no loop here`));
  await doloop(['create', 'd_loop']);
  assert.equal((await contents(root, 'd_loop')).length, 1);
});

test('drop --table drops nothing unless the name is repeated', async () => {
  await doloop(['create', 'keep_loop']);
  const before = await everything('keep_loop');
  const message = '--table has to repeat the name: --table keep_loop; nothing was dropped';
  for (const confirmation of [
    ['--table'],
    ['--table', 'keep'],
    ['--table', ''],
    ['--table', 'yes'],
    ['--table=KEEP_LOOP'],
  ]) {
    assert.deepEqual(await doloop(['drop', 'keep_loop', ...confirmation]), failed(2, message));
  }
  assert.equal((await doloop(['drop', '--table', 'keep_loop'])).code, 2, 'the name of the loop itself is missing');
  assert.deepEqual(await everything('keep_loop'), before);
});

test('drop --table with the name repeated drops the rows, too, also where the procedures are gone', async () => {
  for (const first of [[], ['gone_loop']]) {
    await doloop(['create', 'gone_loop']);
    for (const name of first) await doloop(['drop', name]);
    const dropped = await doloop(['drop', 'gone_loop', '--table', 'gone_loop']);
    assert.deepEqual(dropped, done(`${database}.gone_loop: procedures dropped, table dropped\n`));
    assert.equal(await tableExists('gone_loop'), false);
    assert.deepEqual(await procedures('gone_loop'), []);
  }
});

test('drop never drops a table that is no loop', async () => {
  await root.query('CREATE TABLE users (id INT PRIMARY KEY, email INT)');
  const ran = await doloop(['drop', 'users', '--table', 'users']);
  assert.deepEqual(ran, failed(1, `${database}.users is no loop here`));
  assert.equal(await tableExists('users'), true);
});

test('list shows the loops of a database with id type, version and rows, and nothing else', async t => {
  const other = await makeDatabase(t, 'list');
  const env = { MYSQL_URL: serverUrl({ database: other }) };
  assert.deepEqual(await doloop(['list'], env), { ...done(''), stderr: `doloop: ${other} has no loops\n` });
  assert.deepEqual(await doloop(['list', '--json'], env), done('[]\n'));

  await doloop(['create', 'b_loop'], env);
  await doloop(['create', 'a_loop', '-i', 'BIGINT UNSIGNED'], env);
  await root.query(`CREATE TABLE \`${other}\`.plain (id INT)`);
  await root.query(`CALL \`${other}\`.b_loop_add('[1, 2, 3]', NULL)`);
  assert.deepEqual(
    await doloop(['list'], env),
    done(`table\trows\tversion\tid type\na_loop\t0\t${version}\tBIGINT UNSIGNED\nb_loop\t3\t${version}\tINT\n`),
  );
  assert.deepEqual(JSON.parse((await doloop(['list', '--json'], env)).stdout), [
    { database: other, table: 'a_loop', idType: 'BIGINT UNSIGNED', version, rows: 0 },
    { database: other, table: 'b_loop', idType: 'INT', version, rows: 3 },
  ]);
});

test('without a database, every command says that there is none', async () => {
  const env = { MYSQL_URL: serverUrl() };
  const refusal = 'database: none is selected; connect to one, or name the table as DATABASE.x';
  assert.deepEqual(await doloop(['create', 'x'], env), failed(1, refusal));
  assert.deepEqual(await doloop(['drop', 'x'], env), failed(1, refusal));
  assert.deepEqual(await doloop(['list'], env), failed(1, 'no database was named: give --database NAME'));
});

test('--json: create, drop and list write one JSON value', async () => {
  const create = await doloop(['create', 'j_loop', 'k_loop', '--json']);
  const made = { outcome: 'made', procedures: PROCEDURES, warnings: [] };
  assert.deepEqual(JSON.parse(create.stdout), [
    { database, table: 'j_loop', ...made },
    { database, table: 'k_loop', ...made },
  ]);
  await root.query("ALTER PROCEDURE k_loop_get COMMENT 'doloop 0.0.1: older'");
  await root.query(`CREATE TABLE j_original (${ORIGINAL})`);
  await root.query('CREATE TABLE j_refused (id INT PRIMARY KEY)');
  const again = await doloop(['create', 'j_loop', 'k_loop', 'j_original', 'j_refused', '--json']);
  assert.deepEqual([again.code, again.stderr.split('\n').length], [1, 2]);
  assert.deepEqual(JSON.parse(again.stdout), [
    { database, table: 'j_loop', outcome: 'up to date', procedures: [], warnings: [] },
    { database, table: 'k_loop', outcome: 'upgraded', procedures: ['get'], warnings: [] },
    { database, table: 'j_original', outcome: 'adopted', procedures: PROCEDURES, warnings: [] },
  ]);
  const drop = await doloop(['drop', 'k_loop', '--json']);
  assert.deepEqual(drop, done(`${JSON.stringify({ database, table: 'k_loop', tableDropped: false })}\n`));
  const list = await doloop(['list', '--json']);
  assert.ok(JSON.parse(list.stdout).some((loop: { table: string }) => loop.table === 'j_loop'));
});

/** An option file that leads to the server. */
function optionFile(name: string, base = ''): string {
  const { hostname, port, username, password } = new URL(server.url);
  const path = join(folder, name);
  const lines = [
    '[client]',
    'protocol=tcp',
    `host=${hostname}`,
    `port=${port}`,
    `user=${username}`,
    `database=${base}`,
  ];
  writeFileSync(path, `${[...lines, `password="${decodeURIComponent(password)}"`].join('\n')}\n`, { mode: 0o600 });
  return path;
}

const WAYS: [title: string, args: () => string[], env: () => Env][] = [
  ['--url goes before MYSQL_URL', () => ['--url', serverUrl({ database })], () => NOWHERE],
  [
    'MYSQL_URL goes before DATABASE_URL',
    () => [],
    () => ({ MYSQL_URL: serverUrl({ database }), DATABASE_URL: NOWHERE.MYSQL_URL }),
  ],
  ['DATABASE_URL goes before ~/.my.cnf', () => [], () => ({ DATABASE_URL: serverUrl({ database }) })],
  ['--defaults-file goes before MYSQL_URL', () => ['--defaults-file', optionFile('own.cnf', database)], () => NOWHERE],
  ['~/.my.cnf is read', () => [], () => ({ HOME: join(optionFile('.my.cnf', database), '..') })],
  [
    '--database goes before the one of the URL',
    () => ['--database', database],
    () => ({ MYSQL_URL: serverUrl({ database: 'mysql' }) }),
  ],
  ['-D adds to a file', () => ['-D', database, '--defaults-file', optionFile('bare.cnf')], () => ({})],
];
for (const [title, args, env] of WAYS) {
  test(`where to connect: ${title}`, async () => {
    await doloop(['create', 'way_loop']);
    const listed = await doloop(['list', ...args()], env());
    assert.deepEqual([listed.code, listed.stderr], [0, '']);
    assert.match(listed.stdout, /^way_loop\t/m);
  });
}

test('where to connect is said to create and drop as it is to list', async () => {
  for (const where of [
    ['--url', serverUrl(), '-D', database],
    ['--defaults-file', optionFile('same.cnf'), '--database', database],
  ]) {
    const made = await doloop(['create', 'same_way_loop', ...where], NOWHERE);
    assert.deepEqual(made, done(`${database}.same_way_loop: made, 11 procedures\n`));
    const dropped = await doloop(['drop', 'same_way_loop', '--table', 'same_way_loop', ...where], NOWHERE);
    assert.deepEqual(dropped, done(`${database}.same_way_loop: procedures dropped, table dropped\n`));
  }
});

const BAD_CONNECTIONS: [what: string, args: string[], env: Env, code: number, stderr: RegExp][] = [
  [
    'a server that is not there',
    [],
    NOWHERE,
    1,
    /^doloop: Cannot connect to root@127\.0\.0\.1:1\/app: connect ECONNREFUSED.*Is the server running\?.*\n$/,
  ],
  [
    'an option file that is not there',
    ['--defaults-file', '/no/such'],
    {},
    1,
    /^doloop: --defaults-file: cannot read \/no\/such\n$/,
  ],
  [
    'a URL of another kind',
    ['--url', 'postgres://h/db'],
    {},
    2,
    /^doloop: --url is a postgres:\/\/ URL, not mysql:\/\/.*\n$/,
  ],
  [
    'a mode of TLS that there is not',
    ['--url', `${serverUrl()}?ssl-mode=perhaps`],
    {},
    2,
    /^doloop: --url: ssl-mode must be one of DISABLED, .*\n$/,
  ],
  [
    'a URL and a file',
    ['--url', 'mysql://h', '--defaults-file', 'f'],
    {},
    2,
    /^doloop: option '--url <url>' cannot be used with option '--defaults-file <file>'\n$/,
  ],
];
for (const [what, args, env, code, stderr] of BAD_CONNECTIONS) {
  test(`${what} is told in one line, with exit code ${code}`, async () => {
    const ran = await doloop(['list', ...args], env);
    assert.match(ran.stderr, stderr);
    assert.deepEqual([ran.code, ran.stdout], [code, '']);
  });
}

test('no password is ever printed', async t => {
  const { user } = await makeAccount(t, 'pw');
  const wrong = serverUrl({ user, password: `${SECRET}-wrong`, database });
  const file = join(folder, 'wrong.cnf');
  const { hostname, port } = new URL(wrong);
  writeFileSync(
    file,
    `[client]\nprotocol=tcp\nhost=${hostname}\nport=${port}\nuser=${user}\npassword=${SECRET}\ndatabase=mysql\n`,
  );
  chmodSync(file, 0o600);
  const cases: [args: string[], env: Env, code: number][] = [
    [['list', '--url', wrong], {}, 1],
    [['list'], { MYSQL_URL: wrong }, 1],
    [['list'], { DATABASE_URL: wrong }, 1],
    [['list', '--defaults-file', file], {}, 1],
    [['list', '--url', `mysql://u:${SECRET}@h:x`], {}, 2],
    [['list', '--url', `mysql://u:a/${SECRET}@h`], {}, 2],
    [['list', `--ulr=${wrong}`], {}, 2],
    [['list', wrong], {}, 2],
    [['create', wrong], {}, 2],
    [[wrong], {}, 2],
    [['list', `-p${SECRET}`], {}, 2],
    [['list', `--password=${SECRET}`], {}, 2],
    [['drop', 'x', '--table', wrong], {}, 2],
  ];
  for (const [args, env, code] of cases) {
    const ran = await doloop(args, env);
    assert.equal(ran.code, code, args.join(' '));
    assert.doesNotMatch(ran.stdout + ran.stderr, new RegExp(SECRET));
    assert.match(ran.stderr, /^doloop: .*\n$/);
  }
});

const WRONG_USAGE: [args: string[], message: string][] = [
  [['create', 'x', '--grnat', 'a'], "unknown option '--grnat' (Did you mean --grant?)"],
  [['sql', 'x', '--json'], "unknown option '--json'"],
  [['sql', 'x', '-D', 'app'], "unknown option '-D'"],
  [['create'], "missing required argument 'table'"],
  [['drop', 'x', 'y'], "too many arguments for 'drop'. Expected 1 argument but got 2."],
  [['list', 'x'], "too many arguments for 'list'. Expected 0 arguments but got 1."],
  [['lsit'], "unknown command 'lsit' (Did you mean list?)"],
  [['create', 'x', '--id-type'], "option '-i, --id-type <type>' argument missing"],
  [['--frob'], "unknown option '--frob'"],
];
for (const [args, message] of WRONG_USAGE) {
  test(`wrong usage is told in one line, with exit code 2: ${args.join(' ')}`, async () => {
    assert.deepEqual(await doloop(args, NOWHERE), failed(2, message));
  });
}

test('--help of every command has its options and examples; the examples are no wrong usage', async () => {
  for (const command of ['', 'create', 'sql', 'drop', 'list']) {
    const { code, stdout, stderr } = await doloop([command, '--help'].filter(Boolean), NOWHERE);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, new RegExp(`^Usage: doloop ${command}`));
    assert.equal(
      /--url <url>.*--defaults-file <file>.*-D, --database <name>/s.test(stdout),
      /create|drop|list/.test(command),
    );
    const examples = stdout.split('\nExamples:\n')[1]!.trimEnd().split('\n');
    assert.ok(examples.length >= 2);
    for (const example of examples) {
      const { stderr: said } = await shell(example.replace('npx ', '').replace(/ \| .*| --url \S+/, ''), NOWHERE);
      assert.match(said, /^$|^doloop: Cannot connect to root@127\.0\.0\.1:1/, example);
    }
  }
  assert.equal((await doloop(['help', 'create'])).stdout, (await doloop(['create', '-h'])).stdout);
  const bare = await doloop([]);
  assert.deepEqual([bare.code, bare.stdout, bare.stderr], [2, '', (await doloop(['--help'])).stdout]);
});

test('every command has a help with examples, and --json, but for sql, whose output is for machines', async () => {
  const { stdout } = await doloop(['--help'], NOWHERE);
  const commands = [...stdout.matchAll(/^ {2}(\w+) \[options\]/gm)].map(([, name]) => name!);
  assert.ok(commands.includes('work') && commands.includes('check'));
  for (const command of commands) {
    const help = (await doloop([command, '--help'], NOWHERE)).stdout;
    assert.match(help, new RegExp(`\\nExamples:\\n( {2}npx doloop ${command} .*\\n?)+$`), command);
    assert.equal(/ --json /.test(help), command !== 'sql', command);
  }
});

test('--version, of every command, is the one of the package', async () => {
  for (const args of [['--version'], ['create', '-V']]) {
    assert.deepEqual(await doloop(args, NOWHERE), done(`${version}\n`));
  }
});

test("npm makes the file of package.json's bin a program: it begins with how to run it", () => {
  assert.equal(fileURLToPath(new URL(`../../${bin.doloop}`, import.meta.url)), BIN);
  assert.match(readFileSync(BIN, 'utf8'), /^#!\/usr\/bin\/env node\n/);
});

test('a reader that stops early is no error, and what was begun goes on', async () => {
  for (const args of [['sql', 'e1_loop', 'e2_loop'], ['create', 'e1_loop', 'e2_loop'], ['list'], ['--help']]) {
    const child = beginDoloop(args);
    child.stdout!.destroy();
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', chunk => {
      stderr += chunk;
    });
    const [code] = await once(child, 'close');
    assert.deepEqual([code, stderr], [0, ''], args.join(' '));
  }
  assert.deepEqual(await procedures('e2_loop'), [...PROCEDURES].sort());
  const head = await shell('doloop sql e1_loop | head -1');
  assert.deepEqual(head, done(`${scriptForCreate('e1_loop').split('\n')[0]}\n`));
});

/** Starts the script and resolves when it waits for a lock on the table, which this test holds until `free`. */
async function blocked(
  table: string,
  args: string[],
): Promise<{ child: ChildProcess; end: Promise<Ran>; free: () => Promise<unknown> }> {
  const holder = await connect();
  await holder.query('START TRANSACTION');
  await holder.query(`SELECT * FROM ${table}`);
  const child = beginDoloop(args);
  const end = ended(child);
  while ((await waiting()) === 0) {
    assert.equal(child.exitCode, null, 'it does not end before it has waited');
    await sleep(20);
  }
  return { child, end, free: () => holder.query('COMMIT') };
}

/** How many connections to this file's database wait for the lock of a table. */
async function waiting(): Promise<number> {
  const found = await rows(
    root,
    "SELECT id FROM information_schema.processlist WHERE db = ? AND state = 'Waiting for table metadata lock'",
    [database],
  );
  return found.length;
}

/** Sends the signal and resolves when the script has said that it has heard, or has ended. */
async function interrupt(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal);
  await Promise.race([once(child.stderr!, 'data'), once(child, 'close')]);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} lets the loop at hand be finished, begins no other, and ends by the signal`, async () => {
    const [adopted, never] = [`${signal}_loop`, `${signal}_never_loop`];
    await root.query(`CREATE TABLE ${adopted} (${ORIGINAL})`);
    const { child, end, free } = await blocked(adopted, ['create', adopted, never]);
    await interrupt(child, signal);
    await free();
    assert.deepEqual(await end, {
      code: null,
      signal,
      stdout: `${database}.${adopted}: adopted, 11 procedures\n`,
      stderr: 'doloop: finishing what was begun; once more ends it at once\n',
    });
    assert.deepEqual(await procedures(adopted), [...PROCEDURES].sort());
    assert.equal(await tableExists(never), false);
  });
}

test('a second signal ends it at once, on the server, too: a table is not dropped later', async () => {
  await doloop(['create', 'i_loop']);
  const { child, end, free } = await blocked('i_loop', ['drop', 'i_loop', '--table', 'i_loop']);
  await interrupt(child, 'SIGINT');
  child.kill('SIGINT');
  const ran = await end;
  assert.deepEqual([ran.signal, ran.stdout], ['SIGINT', '']);
  assert.match(ran.stderr, /^(doloop: .*\n)+$/);
  while ((await waiting()) > 0) await sleep(20);
  await free();
  assert.equal(await tableExists('i_loop'), true);
  assert.deepEqual(await doloop(['create', 'i_loop']), done(`${database}.i_loop: upgraded, 11 procedures\n`));
});

/** Runs a line on a terminal of its own, with what is typed there once something is written. */
async function onTerminal(
  args: string[],
  typed: string,
  more: Env = {},
): Promise<{ code: number | null; text: string }> {
  const line = [process.execPath, BIN, ...args].map(word => `'${word}'`).join(' ');
  const env = { ...environment(), TERM: 'xterm', ...more };
  const child = spawn('script', ['-qec', line, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout!.setEncoding('utf8').on('data', chunk => {
    if (!text.includes('its name: ') && (text + chunk).includes('its name: ')) child.stdin!.write(typed);
    text += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, text };
}

const NO_TERMINAL =
  spawnSync('script', ['-qec', 'true', '/dev/null']).status !== 0 && 'there is no `script` of util-linux';

test('on a terminal, drop --table asks for the name, and anything else drops nothing', {
  skip: NO_TERMINAL,
}, async () => {
  await doloop(['create', 't_loop']);
  for (const typed of ['y\r', '\r', '\u0003', '\u0004']) {
    const { code, text } = await onTerminal(['drop', 't_loop', '--table'], typed);
    assert.equal(code, 1);
    assert.match(text, /Drop t_loop with all its rows, at .*\? Type its name: /);
    assert.match(text, /its name was not repeated; nothing was dropped\r\n$/);
  }
  assert.deepEqual(await procedures('t_loop'), [...PROCEDURES].sort());
  const { code, text } = await onTerminal(['drop', 't_loop', '--table'], 't_loop\r');
  assert.equal(code, 0);
  assert.ok(text.endsWith(`${database}.t_loop: procedures dropped, table dropped\r\n`));
  assert.equal(await tableExists('t_loop'), false);
});

test('on a terminal, list is aligned; there are colours, but not with NO_COLOR', { skip: NO_TERMINAL }, async t => {
  const other = await makeDatabase(t, 'tty');
  const env = { MYSQL_URL: serverUrl({ database: other }) };
  await doloop(['create', 'x', 'longer_loop'], env);
  await root.query(`CALL \`${other}\`.x_add('[1,2,3,4,5,6,7,8,9,10,11]', NULL)`);
  const plain = [
    'table        rows  version  id type',
    'longer_loop     0  0.0.0    INT',
    'x              11  0.0.0    INT',
    '',
  ];
  const fixed = (text: string) => text.replaceAll(/\d+\.\d+\.\d+/g, '0.0.0').split('\r\n');
  assert.deepEqual(fixed((await onTerminal(['list'], '', { ...env, NO_COLOR: '1' })).text), plain);
  const bold = `\u001b[1m${plain[0]}\u001b[22m`;
  assert.deepEqual(fixed((await onTerminal(['list'], '', env)).text), [bold, ...plain.slice(1)]);
  assert.ok((await onTerminal(['frob'], '')).text.startsWith('\u001b[31mdoloop:\u001b[39m unknown command'));
  assert.match((await onTerminal(['frob'], '', { NO_COLOR: '1' })).text, /^doloop: unknown command/);
});

test('colours are on a terminal only, whatever else asks for them', async () => {
  for (const args of [['list'], ['frob']]) {
    const { stdout, stderr } = await doloop(args, { MYSQL_URL: serverUrl({ database }), FORCE_COLOR: '1' });
    assert.equal((stdout + stderr).includes('\u001b'), false);
    assert.notEqual(stdout + stderr, '');
  }
});
