import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import mysql, { type Connection } from 'mysql2/promise';
import {
  create,
  DoLoop,
  drop,
  type LoopId,
  list,
  type SqlOptions,
  scriptForCreate,
  sqlForCreate,
} from '../src/index.js';
import { PROCEDURES, VERSION } from '../src/render.js';
import { connect, contents, database, inConsole, rows, server, setClock, settingsOf } from './harness.js';

const root = await connect();

/** The ways to install. */
type Door = (table: string, options?: SqlOptions) => Promise<unknown>;
const byCreate: Door = (table, options) => inSession(session => create(session, table, options));
const byStatements: Door = (table, options) =>
  inSession(async session => {
    for (const statement of sqlForCreate(table, options)) await session.query(statement);
  });
const byScript: Door = async (table, options) =>
  assert.equal(inConsole(['--batch'], scriptForCreate(table, options)), '', 'the console has nothing to say');
const doors = Object.entries({ 'create()': byCreate, 'the statements': byStatements, 'the script': byScript });
/** Less the script, which is the statements for the console. */
const twoDoors = doors.filter(([, install]) => install !== byScript);

async function inSession<T>(work: (session: Connection) => Promise<T>): Promise<T> {
  const session = await connect();
  try {
    return await work(session);
  } finally {
    session.destroy();
  }
}

let tables = 0;
const newTable = () => {
  tables += 1;
  return `t${tables}`;
};

/** A table's columns and keys, however the server writes them. */
async function shapeOf(table: string): Promise<string[]> {
  const columns = await rows(root, `SHOW COLUMNS FROM \`${table}\``);
  const keys = await rows(root, `SHOW KEYS FROM \`${table}\``);
  const [{ engine }] = (await rows(
    root,
    `SELECT engine AS engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '${table}'`,
  )) as [{ engine: string }];
  return [
    ...columns.map(({ Field, Type, Null, Default }) =>
      [Field, Type.replace(/int\(\d+\)/, 'int'), Null === 'NO' ? 'not null' : 'null', Default].join(' ').trim(),
    ),
    ...keys.map(({ Key_name, Column_name, Non_unique }) => `${Key_name}: ${Column_name}${Non_unique ? '' : ' unique'}`),
    engine,
  ];
}

/** What information_schema knows of the loop's routines that stays the same if they do. */
async function routinesOf(table: string): Promise<Record<string, unknown>[]> {
  const found = await rows(
    root,
    `SELECT routine_name AS name, routine_type AS type, routine_definition AS body, routine_comment AS comment,
        created AS created, last_altered AS altered, sql_data_access AS access, security_type AS security,
        sql_mode AS mode, collation_connection AS collation, definer AS definer
      FROM information_schema.routines WHERE routine_schema = ? AND LEFT(routine_name, ?) = ? ORDER BY routine_name`,
    [database, table.length + 1, `${table}_`],
  );
  return found.map(one => ({ ...one }));
}

const contract = [
  'id int not null',
  'last_updated bigint null',
  'lock_until bigint null',
  'failures smallint unsigned not null 0',
  'PRIMARY: id unique',
  'lock_until: lock_until',
  'lock_until: last_updated',
  'InnoDB',
];

for (const [name, install] of doors) {
  test(`${name}: makes the table and the procedures, and again changes nothing`, async () => {
    const table = newTable();
    await install(table);
    assert.deepEqual(await shapeOf(table), contract);
    assert.deepEqual(
      (await routinesOf(table)).map(one => one.name),
      PROCEDURES.map(one => `${table}_${one}`).sort(),
    );
    const loop = new DoLoop(root, table);
    await loop.add([1, 2]);
    await loop.did(2);
    const before = await contents(root, table);
    await install(table);
    assert.deepEqual(await contents(root, table), before);
    assert.deepEqual(await shapeOf(table), contract);
    assert.deepEqual([...(await loop.get(5))], [1]);
  });
}

test('create says what it did: made, kept with no procedure touched, one procedure replaced', async t => {
  const table = newTable();
  assert.deepEqual(await create(root, table), { table: 'made', procedures: [...PROCEDURES], warnings: [] });
  const before = await routinesOf(table);

  const later = await sessionOf(t);
  await setClock(later);
  assert.deepEqual(await create(later, table), { table: 'kept', procedures: [], warnings: [] });
  assert.deepEqual(await routinesOf(table), before);

  await root.query(`ALTER PROCEDURE ${table}_did COMMENT 'doloop 0.0.1+00000000: an old one'`);
  assert.deepEqual(await create(later, table), { table: 'kept', procedures: ['did'], warnings: [] });
  const after = await routinesOf(table);
  const replaced = after.filter((one, i) => String(one.created) !== String(before[i]!.created));
  assert.deepEqual(
    replaced.map(one => one.name),
    [`${table}_did`],
  );
  assert.deepEqual(
    after.map(one => [one.name, one.body, one.comment]),
    before.map(one => [one.name, one.body, one.comment]),
  );
});

async function sessionOf(t: TestContext): Promise<Connection> {
  const session = await connect();
  t.after(() => session.destroy());
  return session;
}

/** Each procedure's parameters, in their order: other programs call by position. */
const parameters: Record<string, string[]> = {
  add: ['IN in_ids longtext utf8mb4', 'IN in_updated tinyint'],
  remove: ['IN in_ids longtext utf8mb4'],
  get: ['IN in_max_ids bigint', 'IN in_lock_for bigint', 'IN in_min_loop_time bigint'],
  did: ['IN in_ids longtext utf8mb4', 'IN in_auto_add tinyint', 'IN in_lease bigint'],
  unlock: ['IN in_ids longtext utf8mb4', 'IN in_auto_add tinyint', 'IN in_lease bigint'],
  bump: ['IN in_ids longtext utf8mb4', 'IN in_lock_for bigint', 'IN in_auto_add tinyint'],
  extend: ['IN in_ids longtext utf8mb4', 'IN in_lock_for bigint', 'IN in_lease bigint'],
  fail: ['IN in_ids longtext utf8mb4', 'IN in_retry_in bigint', 'IN in_lease bigint'],
  check: ['IN in_ids longtext utf8mb4'],
  stats: ['IN in_delay_thresholds longtext utf8mb4'],
  next: ['IN in_min_loop_time bigint'],
};
const reading = ['check', 'stats', 'next'];
const sqlMode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION';

for (const [name, install] of doors) {
  test(`${name}: these are all routines that are installed, and all their parameters, in order`, async () => {
    const table = newTable();
    await install(table);
    const found = await rows(
      root,
      `SELECT specific_name AS routine, CONCAT_WS(' ', parameter_mode, parameter_name, data_type, character_set_name) AS parameter
        FROM information_schema.parameters WHERE specific_schema = ? AND specific_name LIKE '${table}\\_%'
        ORDER BY specific_name, ordinal_position`,
      [database],
    );
    const all: Record<string, string[]> = {};
    for (const { routine, parameter } of found) {
      const procedure = routine.slice(table.length + 1);
      all[procedure] = [...(all[procedure] ?? []), parameter];
    }
    assert.deepEqual(all, parameters);

    for (const one of await routinesOf(table)) {
      const procedure = String(one.name).slice(table.length + 1);
      assert.ok(procedure in parameters, procedure);
      assert.equal(one.type, 'PROCEDURE', procedure);
      assert.equal(one.security, 'DEFINER', procedure);
      assert.equal(one.access, reading.includes(procedure) ? 'READS SQL DATA' : 'MODIFIES SQL DATA', procedure);
      assert.equal(one.mode, sqlMode, procedure);
      assert.match(String(one.comment), new RegExp(`^doloop ${VERSION}[+][0-9a-f]{8}: \\S`), procedure);
    }
  });
}

/** Sessions that read SQL another way, or count, compare or return in another. */
const settings = [
  "sql_mode = ''",
  "sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE'",
  'NAMES latin1',
  'NAMES utf8mb4 COLLATE utf8mb4_spanish2_ci',
  'collation_connection = latin1_bin',
  'collation_connection = utf16_general_ci',
  'autocommit = 0',
  'sql_safe_updates = 1',
  'sql_select_limit = 1',
  'group_concat_max_len = 4',
  "time_zone = '+13:00'",
  'SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE',
];
for (const setting of settings) {
  test(`whoever installs, it is the same, and the session as it was: ${setting}`, async t => {
    const table = newTable();
    await create(root, table);
    const same = (all: Record<string, unknown>[]) => all.map(one => ({ ...one, created: 0, altered: 0 }));
    const before = same(await routinesOf(table));

    const session = await sessionOf(t);
    await session.query(`SET ${setting}`);
    const own = await settingsOf(session);
    await drop(session, table, { table: true });
    await create(session, table);
    assert.deepEqual(same(await routinesOf(table)), before);
    assert.deepEqual(await shapeOf(table), contract);
    assert.deepEqual(await settingsOf(session), own);

    await drop(session, table, { table: true });
    for (const statement of sqlForCreate(table)) await session.query(statement);
    assert.deepEqual(same(await routinesOf(table)), before);
    assert.deepEqual(await settingsOf(session), own);

    await assert.rejects(create(session, table, { idType: 'DATE' }), { code: 'REFUSED' });
    assert.deepEqual(await settingsOf(session), own);
  });
}

const times = 'last_updated INT DEFAULT NULL, lock_until INT DEFAULT NULL';
const key = 'KEY lock_until (lock_until, last_updated)';

/** Tables of the original: ids, and what is defined behind them. */
interface Original {
  options: SqlOptions;
  ids: LoopId[];
  /** The ids in SQL, where they are written in another way there. */
  literals?: string[];
  rest?: string;
}
const texts = ['Abc', 'abd', 'x y'];
const numbers = { options: {}, ids: [-7, 8, 90] };
const originals: Record<string, Original> = {
  'ids INT': numbers,
  'ids BIGINT UNSIGNED': {
    options: { idType: 'BIGINT UNSIGNED' },
    ids: [1, 2n ** 63n, 2n ** 64n - 1n],
    literals: ['1', '9223372036854775808', '18446744073709551615'],
  },
  'ids CHAR(64) CHARSET ascii': { options: { idType: 'CHAR(64) CHARSET ascii' }, ids: texts },
  'ids of another collation': { options: { idType: 'VARCHAR(20) COLLATE latin1_bin' }, ids: texts },
  'ids of the collation of the database': { options: { idType: 'VARCHAR(20)' }, ids: texts },
  'ids DATE': { options: { idType: 'DATE' }, ids: ['1999-12-31', '2000-01-01', '2000-02-29'] },
  'ids BINARY(2)': {
    options: { idType: 'BINARY(2)' },
    ids: [Buffer.from([0, 0]), Buffer.from([0, 255]), Buffer.from([255, 0])],
    literals: ["X'0000'", "X'00ff'", "X'ff00'"],
  },
  'no key for the picking': { ...numbers, rest: times },
  'no key for the picking, but failures': {
    ...numbers,
    rest: `${times}, failures SMALLINT UNSIGNED NOT NULL DEFAULT 0`,
  },
  'a key more': { ...numbers, rest: `${times}, ${key}, KEY by_update (last_updated)` },
  'BIGINT times': { ...numbers, rest: `last_updated BIGINT, lock_until BIGINT, ${key}` },
  ...Object.fromEntries(
    { mysql: ['MyISAM'], mariadb: ['MyISAM', 'Aria'] }[server.kind].map(engine => [
      `engine ${engine}`,
      { ...numbers, options: { engine } },
    ]),
  ),
};

for (const [title, { options, ids, literals, rest = `${times}, ${key}` }] of Object.entries(originals)) {
  for (const [name, install] of twoDoors) {
    test(`${name}: adopts a table of the original's with ${title}, and keeps its rows and its times`, async () => {
      const table = newTable();
      const { idType = 'INT', engine = 'InnoDB' } = options;
      await root.query(`CREATE TABLE ${table} (id ${idType} NOT NULL, ${rest}, PRIMARY KEY (id)) ENGINE=${engine}`);
      const written = literals ?? ids.map(id => root.escape(id));
      await root.query(
        `INSERT INTO ${table} (id, last_updated, lock_until)
          VALUES (${written[0]}, 1700000000, NULL), (${written[1]}, NULL, 1700000001), (${written[2]}, 1600000000, 2147483647)`,
      );
      const seen = `SELECT HEX(id) AS id, last_updated, lock_until FROM ${table} ORDER BY id`;
      const [before, shape] = [await rows(root, seen), await shapeOf(table)];

      await install(table, name === 'create()' ? {} : options);
      assert.deepEqual(await rows(root, seen), before);
      const added = contract.filter(part => /^failures|^lock_until:/.test(part));
      assert.deepEqual((await shapeOf(table)).sort(), [...new Set([...shape, ...added])].sort());

      const loop = new DoLoop<LoopId>(root, table);
      assert.deepEqual([...(await loop.get(5))], [ids[1], ids[0]]);
      assert.equal(await loop.did(ids), 3);
      assert.deepEqual(
        (await loop.check(ids)).map(({ id, failures }) => [id, failures]),
        ids.map(id => [id, 0]),
      );
    });
  }
}

test('create says adopted where something was missing, and kept where nothing was', async () => {
  const table = newTable();
  await root.query(`CREATE TABLE ${table} (id INT PRIMARY KEY, ${times})`);
  assert.equal((await create(root, table)).table, 'adopted');
  assert.equal((await create(root, table)).table, 'kept');
});

test("the original's own statements go on in an adopted table", async () => {
  const table = newTable();
  await root.query(`CREATE TABLE ${table} (id INT NOT NULL, ${times}, PRIMARY KEY (id), ${key})`);
  await create(root, table);
  for (const statement of [
    `LOCK TABLES ${table} WRITE`,
    `INSERT IGNORE INTO ${table} (id) VALUES (1), (2)`,
    `UPDATE ${table} SET lock_until = UNIX_TIMESTAMP() + 60 WHERE id IN (1)`,
    `UPDATE ${table} SET last_updated = UNIX_TIMESTAMP(), lock_until = NULL WHERE id IN (2)`,
    `SELECT lock_until - UNIX_TIMESTAMP() FROM ${table}`,
    'UNLOCK TABLES',
  ]) {
    await root.query(statement);
  }
  assert.deepEqual([...(await new DoLoop(root, table).get(9, { minLoopTime: 0 }))], [2]);
});

/** Tables (and a view) that are no loop: their definition, what is asked for, and the difference that is named. */
const strangers: [definition: string, options: SqlOptions, difference: string][] = [
  ['(id INT PRIMARY KEY, last_updated INT)', {}, 'it has no last_updated or no lock_until'],
  ['(id INT PRIMARY KEY, lock_until INT)', {}, 'it has no last_updated or no lock_until'],
  [`(id INT PRIMARY KEY, ${times}, email TEXT)`, {}, 'it has a column email'],
  [`(page INT PRIMARY KEY, ${times})`, {}, 'its primary key is (page), not (id)'],
  [
    '(id INT, last_updated INT, lock_until INT NOT NULL, PRIMARY KEY (id, lock_until))',
    {},
    'its primary key is (id, lock_until), not (id)',
  ],
  [`(id INT, ${times})`, {}, 'its primary key is (), not (id)'],
  [`(id INT NOT NULL UNIQUE, ${times})`, {}, 'its primary key is (), not (id)'],
  [`(id VARCHAR(90), ${times}, PRIMARY KEY (id(10)))`, {}, 'its primary key is (id(10)), not (id)'],
  [`(id INT PRIMARY KEY, ${times}, UNIQUE KEY one (last_updated))`, {}, 'it has a unique key one'],
  [`(id INT PRIMARY KEY, ${times}, UNIQUE ${key})`, {}, 'it has a unique key lock_until'],
  [`(id INT PRIMARY KEY, ${times}, KEY lock_until (lock_until))`, {}, 'its key lock_until is (lock_until)'],
  [
    `(id INT PRIMARY KEY, ${times}, KEY lock_until (last_updated, lock_until))`,
    {},
    'its key lock_until is (last_updated, lock_until)',
  ],
  [`(id INT PRIMARY KEY, ${times})`, { idType: 'BIGINT' }, 'its id is INT'],
  [`(id INT UNSIGNED PRIMARY KEY, ${times})`, { idType: 'INT' }, 'its id is INT UNSIGNED'],
  [`(id CHAR(9) CHARSET ascii PRIMARY KEY, ${times})`, { idType: 'CHAR(10) CHARSET ascii' }, 'its id is CHAR(9)'],
  [`(id CHAR(9) CHARSET ascii PRIMARY KEY, ${times})`, { idType: 'CHAR(9) CHARSET latin1' }, 'its id is CHAR(9)'],
  [
    `(id CHAR(9) COLLATE ascii_bin PRIMARY KEY, ${times})`,
    { idType: 'CHAR(9) COLLATE ascii_general_ci' },
    'COLLATE ascii_bin',
  ],
  [`(id FLOAT PRIMARY KEY, ${times})`, {}, 'its id is FLOAT'],
  [`(id TIMESTAMP(0) DEFAULT '2000-01-01 00:00:00' PRIMARY KEY, ${times})`, {}, 'its id is TIMESTAMP'],
  [`(id ENUM('a') PRIMARY KEY, ${times})`, {}, 'its id is ENUM'],
  [`(id INT AUTO_INCREMENT PRIMARY KEY, ${times})`, {}, 'its id is INT AUTO_INCREMENT'],
  ['(id INT PRIMARY KEY, last_updated INT UNSIGNED, lock_until INT)', {}, 'its last_updated is no BIGINT or INT'],
  ['(id INT PRIMARY KEY, last_updated INT, lock_until BIGINT UNSIGNED)', {}, 'its lock_until is no BIGINT or INT'],
  ['(id INT PRIMARY KEY, last_updated INT NOT NULL, lock_until INT)', {}, 'its last_updated is no BIGINT or INT'],
  ['(id INT PRIMARY KEY, last_updated INT, lock_until INT DEFAULT 0)', {}, 'its lock_until is no BIGINT or INT'],
  ['(id INT PRIMARY KEY, last_updated DATETIME, lock_until INT)', {}, 'its last_updated is no BIGINT or INT'],
  [`(id INT PRIMARY KEY, ${times}, failures INT)`, {}, 'its failures is no SMALLINT UNSIGNED NOT NULL DEFAULT 0'],
  ['AS SELECT 1 AS id, 2 AS last_updated, 3 AS lock_until', {}, 'it is a VIEW'],
  [`(id INT PRIMARY KEY, ${times})`, { engine: 'MyISAM' }, 'its engine is InnoDB, not MyISAM'],
  [`(id INT PRIMARY KEY, ${times}) ENGINE=MyISAM`, { engine: 'InnoDB' }, 'its engine is MyISAM, not InnoDB'],
];

// One that can't keep a loop; MariaDB has it as a plugin.
if (server.kind === 'mysql') {
  strangers.push([`(id INT PRIMARY KEY, ${times}) ENGINE=BLACKHOLE`, {}, 'its engine is BLACKHOLE, not InnoDB']);
}

for (const [name, install] of twoDoors) {
  for (const [definition, options, difference] of strangers) {
    const asked = Object.keys(options).length > 0 ? ` asked for as ${JSON.stringify(options)}` : '';
    test(`${name}: refuses ${definition}${asked}: ${difference}; nothing is changed`, async () => {
      const table = newTable();
      await root.query(`CREATE ${definition.startsWith('(') ? 'TABLE' : 'VIEW'} ${table} ${definition}`);
      const seen = async () => [
        await rows(root, `SHOW CREATE TABLE ${table}`),
        await rows(root, `SELECT * FROM ${table}`),
      ];
      const before = await seen();
      await assert.rejects(install(table, options), ({ errno, cause, message }) => {
        assert.equal((cause ?? { errno }).errno, 1644);
        assert.match(message, new RegExp(`^table: ${table} is no loop of \\S+: `));
        assert.ok(message.replace('(11)', '').includes(difference), message);
        return true;
      });
      assert.deepEqual(await seen(), before);
      const left = (await routinesOf(table)).map(one => one.name);
      assert.deepEqual(left, name === 'create()' ? [] : [`${table}_adopt`]);
    });
  }
}

for (const engine of ['NDB', 'ndbcluster', 'SPIDER', 'Federated', 'BLACKHOLE']) {
  test(`engine ${engine}, which can't keep a loop, is refused at each door, and nothing is made`, async () => {
    const table = newTable();
    const refusal = { name: 'RangeError', message: new RegExp(`^engine: ${engine} can't keep a loop: it \\w+ `) };
    await assert.rejects(create(root, table, { engine }), refusal);
    assert.throws(() => sqlForCreate(table, { engine }), refusal);
    assert.throws(() => scriptForCreate(table, { engine }), refusal);
    assert.deepEqual(await rows(root, `SHOW TABLES LIKE '${table}'`), []);
  });
}

for (const procedure of ['did', 'adopt']) {
  test(`a procedure ${procedure} of the loop's name that is not of doloop is not replaced, and nothing else is made`, async () => {
    const table = newTable();
    await root.query(`CREATE PROCEDURE ${table}_${procedure}() COMMENT 'mine' SELECT 42 AS answer`);
    const message = `procedure: ${table}_${procedure} is there already, and is not doloop's`;
    await assert.rejects(create(root, table), { code: 'REFUSED', message });
    await assert.rejects(drop(root, table), { code: 'REFUSED', message });
    assert.deepEqual(await rows(root, `CALL ${table}_${procedure}()`), [{ answer: 42 }]);
    assert.equal((await routinesOf(table)).length, 1);
    assert.deepEqual(await rows(root, `SHOW TABLES LIKE '${table}'`), []);
  });
}

const other = `${database}_other`;
/** Names as they are written, and the table's. */
const names: [written: string, table: string, database?: string][] = [
  [`${other}.in_database`, 'in_database', other],
  [`\`${other}\`.\`with.dot\``, 'with.dot', other],
  ['my-loop', 'my-loop'],
  ['用户_loop', '用户_loop'],
  ['`tick``ed`', 'tick`ed'],
  ['`a.b`', 'a.b'],
  ['with some spaces', 'with some spaces'],
  ['x'.repeat(57), 'x'.repeat(57)],
  ['42', '42'],
  ['select', 'select'],
  ['%', '%'],
  ['$$', '$$'],
  ['//', '//'],
  [';', ';'],
  ["it's", "it's"],
  ['"double"', '"double"'],
  ["'{{loop}}'", "'{{loop}}'"],
  ['back\\slash\\', 'back\\slash\\'],
  ['-- no comment', '-- no comment'],
  ['# no comment', '# no comment'],
  ['{{engine}}', '{{engine}}'],
  ['{{loop}}_add', '{{loop}}_add'],
  ['```{{id}}```', '`{{id}}`'],
];

for (const [written, table, schema = database] of names) {
  test(`a loop may have the name ${written}`, async t => {
    await root.query(`CREATE DATABASE IF NOT EXISTS ${other} CHARACTER SET utf8mb4`);
    t.after(() => root.query(`DROP DATABASE IF EXISTS ${other}`));
    for (const install of [byCreate, byScript]) {
      await install(written);
      const loop = new DoLoop(root, written);
      assert.equal(await loop.add([1, 2]), 2);
      assert.deepEqual([...(await loop.get(1))], [1]);
      const listed = (await list(root, schema)).filter(one => one.table === table);
      assert.deepEqual(listed, [{ table, idType: 'INT', version: VERSION, rows: 2 }]);
      await drop(root, written, { table: true });
      await assert.rejects(loop.add(1), { code: 'NO_LOOP' });
    }
  });
}

test('in a session whose text is bytes (SET NAMES binary) nothing is made, listed or dropped, and it is told why', async () => {
  const session = await connect();
  await create(session, 'kept_loop');
  await session.query('SET NAMES binary');
  for (const refused of [() => create(session, 'kept_loop'), () => list(session), () => drop(session, 'kept_loop')]) {
    const error = { code: 'REFUSED', message: /this session's character set is binary/ };
    await assert.rejects(refused, error);
  }
  await session.query('SET NAMES utf8mb4');
  assert.deepEqual((await create(session, 'kept_loop')).procedures, []);
});

test('a name that leaves no room for the names of the procedures is refused before anything is made', async () => {
  const before = await rows(root, 'SHOW TABLES');
  const name = 'x'.repeat(58);
  for (const refused of [() => create(root, name), async () => sqlForCreate(name), async () => scriptForCreate(name)]) {
    await assert.rejects(refused, { name: 'RangeError', message: /has 58 characters; at most 57/ });
  }
  assert.deepEqual(await rows(root, 'SHOW TABLES'), before);
});

test('without a database selected, create refuses a bare name and takes one with a database', async t => {
  const session = await mysql.createConnection({ uri: server.url });
  t.after(() => session.destroy());
  const table = newTable();
  await assert.rejects(create(session, table), {
    code: 'REFUSED',
    message: `database: none is selected; connect to one, or name the table as DATABASE.${table}`,
  });
  assert.equal((await create(session, `${database}.${table}`)).table, 'made');
  assert.equal(await new DoLoop(session, `${database}.${table}`).add(1), 1);
  await drop(session, `${database}.${table}`, { table: true });
});

test('drop takes the procedures and leaves the rows, which another create takes up again', async () => {
  const table = newTable();
  await create(root, table);
  await new DoLoop(root, table).add([1, 2]);
  const before = await contents(root, table);
  await root.query(`CREATE PROCEDURE ${table}_adopt() COMMENT 'doloop 0.0.1: left behind' SELECT 1`);
  await drop(root, table);
  assert.deepEqual(await routinesOf(table), []);
  assert.deepEqual(await contents(root, table), before);
  await assert.rejects(drop(root, table), { code: 'NO_LOOP', message: `${database}.${table} is no loop here` });
  assert.equal((await create(root, table)).table, 'kept');
  assert.deepEqual(await contents(root, table), before);
});

test('drop with the table takes that, too, and also where the procedures are gone already', async () => {
  for (const first of [async () => {}, (table: string) => drop(root, table)]) {
    const table = newTable();
    await create(root, table);
    await first(table);
    await drop(root, table, { table: true });
    assert.deepEqual(await rows(root, `SHOW TABLES LIKE '${table}'`), []);
    assert.deepEqual(await routinesOf(table), []);
    await assert.rejects(drop(root, table, { table: true }), { code: 'NO_LOOP' });
  }
});

test('drop never takes a table that is no loop, even if it has got the place of one', async () => {
  const table = newTable();
  await root.query(`CREATE TABLE ${table} (id INT PRIMARY KEY, email TEXT)`);
  await assert.rejects(drop(root, table, { table: true }), { code: 'NO_LOOP' });
  await root.query(`RENAME TABLE ${table} TO ${table}_users`);
  await create(root, table);
  await root.query(`DROP TABLE ${table}`);
  await root.query(`RENAME TABLE ${table}_users TO ${table}`);
  await assert.rejects(drop(root, table, { table: true }), {
    code: 'REFUSED',
    message: `table: ${database}.${table} is no loop, and was not dropped`,
  });
  assert.equal((await rows(root, `SHOW TABLES LIKE '${table}'`)).length, 1);
  assert.equal((await routinesOf(table)).length, PROCEDURES.length);
});

test('list has the loops of a database by name, with their ids counted, and no other tables', async t => {
  await root.query(`CREATE DATABASE ${other} CHARACTER SET latin1`);
  t.after(() => root.query(`DROP DATABASE ${other}`));
  assert.deepEqual(await list(root, other), []);
  await create(root, `${other}.b_loop`);
  await create(root, `${other}.a_loop`, { idType: 'varchar(9)' });
  await root.query(`CREATE TABLE ${other}.users (id INT PRIMARY KEY)`);
  await root.query(`CREATE PROCEDURE ${other}.users_get() SELECT 1`);
  await new DoLoop(root, `${other}.b_loop`).add([1, 2, 3]);
  const session = await connect({ database: other });
  const loops = [
    { table: 'a_loop', idType: 'VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_swedish_ci', version: VERSION, rows: 0 },
    { table: 'b_loop', idType: 'INT', version: VERSION, rows: 3 },
  ];
  assert.deepEqual(await list(root, other), loops);
  assert.deepEqual(await list(session), loops);
});

test('several create() at once make a loop, and bring it up to date, as one would', async () => {
  const table = newTable();
  const createEach = () => Promise.all(Array.from({ length: 4 }, () => inSession(session => create(session, table))));
  await createEach();
  await root.query(`ALTER PROCEDURE ${table}_did COMMENT 'doloop 0.0.1+00000000: an old one'`);
  await createEach();
  assert.deepEqual(await shapeOf(table), contract);
  assert.deepEqual(
    (await routinesOf(table)).map(one => one.name),
    PROCEDURES.map(one => `${table}_${one}`).sort(),
  );
  assert.equal(await new DoLoop(root, table).add([1, 2]), 2);
});

for (const engine of { mysql: ['MyISAM'], mariadb: ['MyISAM', 'Aria'] }[server.kind]) {
  test(`engine ${engine}, which has no row locks: several that get at once never get the same id`, async () => {
    const table = newTable();
    await create(root, table, { engine });
    await new DoLoop(root, table).add(Array.from({ length: 600 }, (_, i) => i));
    const got: number[] = [];
    const worker = async (session: Connection) => {
      const loop = new DoLoop(session, table);
      for (let batch = await loop.get(7); batch.length > 0; batch = await loop.get(7)) got.push(...batch);
    };
    await Promise.all(Array.from({ length: 6 }, () => inSession(worker)));
    assert.equal(got.length, 600);
    assert.equal(new Set(got).size, 600);
  });
}
