import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConnectionOptions } from 'mysql2/promise';
import { parseAccount, quoteAccount } from '../src/account.js';
import { create, DoLoop, drop, list, sqlForCreate } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import { PROCEDURES } from '../src/render.js';
import { connect, contents, database, makeAccount, makeLoop, makePool, rows } from './harness.js';

const root = await connect();
/** What an account may do, less what lets it in. */
async function grantsOf(account: string): Promise<string[]> {
  const grants = (await rows(root, `SHOW GRANTS FOR ${account}`)).map(row => String(Object.values(row)[0]));
  return grants.filter(grant => !grant.startsWith('GRANT USAGE ON *.*')).sort();
}

const exists = async (account: string) =>
  (await rows(root, `SELECT 1 FROM mysql.user WHERE CONCAT("'", user, "'@'", host, "'") = "${account}"`)).length > 0;

/** As SHOW GRANTS writes it. */
const shown = (account: string) => quoteAccount(parseAccount(account));

/** All that stands in the database: tables, views and routines. */
async function objects(): Promise<string[]> {
  const found = await rows(
    root,
    `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = '${database}'
      UNION ALL SELECT routine_name FROM information_schema.routines WHERE routine_schema = '${database}'`,
  );
  return found.map(({ name }) => name).sort();
}

/** Calls every procedure in every way it has. */
async function useAll(loop: DoLoop): Promise<void> {
  assert.equal(await loop.add([1, 2, 3]), 3);
  const batch = await loop.get(2);
  assert.deepEqual([...batch], [1, 2]);
  assert.equal((await loop.extend(batch)).extended, 2);
  assert.equal(await loop.did(1), 1);
  assert.equal(await loop.did(1, { autoAdd: false }), 1);
  assert.equal(await loop.unlock(2), 1);
  assert.equal(await loop.unlock(2, { autoAdd: false }), 0);
  assert.equal(await loop.bump(2), 1);
  assert.equal(await loop.bump(3, { autoAdd: false, lockFor: -1 }), 1);
  assert.equal(await loop.fail(3), 1);
  assert.equal((await loop.check([1, 2, 3])).length, 3);
  assert.equal((await loop.stats({ delayThresholds: [60] })).total, 3);
  assert.equal(await loop.next(), 0);
  assert.equal(await loop.remove([1, 2, 3], { dryRun: true }), 3);
  assert.equal(await loop.remove([1, 2, 3]), 3);
}

test('an account with EXECUTE on the procedures alone does everything, by the client and by CALL', async () => {
  const { account, who } = await makeAccount();
  const { table } = await makeLoop(root, { grant: [account] });
  assert.deepEqual(
    await grantsOf(account),
    PROCEDURES.map(one => `GRANT EXECUTE ON PROCEDURE \`${database}\`.\`${table}_${one}\` TO ${shown(account)}`).sort(),
  );
  const pool = makePool(who);
  await useAll(new DoLoop(pool, table));
  await useAll(new DoLoop(await connect(who), `${database}.${table}`));
  const many = Array.from({ length: 4000 }, (_, i) => i + 1e6);
  assert.equal(await new DoLoop(pool, table).add(many), 4000);
  assert.deepEqual(await rows(pool, `CALL ${table}_remove('[1000000, 5]')`), [{ removed: 1 }]);
});

test('such an account can neither read nor write the table, nor drop procedures, nor call those of other loops', async () => {
  const { account, who } = await makeAccount();
  const { table } = await makeLoop(root, { grant: [account] });
  const { loop } = await makeLoop(root);
  await root.query(`CALL ${table}_add('[1]', NULL)`);
  const session = await connect(who);
  for (const statement of [
    `SELECT id FROM ${table}`,
    `INSERT INTO ${table} (id) VALUES (2)`,
    `UPDATE ${table} SET failures = 1`,
    `DELETE FROM ${table}`,
    `ALTER TABLE ${table} ADD COLUMN a INT`,
    `DROP TABLE ${table}`,
  ]) {
    await assert.rejects(session.query(statement), { errno: 1142 }, statement);
  }
  await assert.rejects(session.query(`DROP PROCEDURE ${table}_add`), { errno: 1370 });
  const other = new DoLoop(session, loop.table);
  for (const refused of [() => other.add(1), () => other.get(1), () => other.stats()]) {
    await assert.rejects(refused, { code: 'NOT_ALLOWED', message: new RegExp(`may not use ${loop.table};.*--grant`) });
  }
});

test('an account that does not exist is refused before anything is made, and is not made either', async () => {
  const before = await objects();
  for (const account of [`'${database}_nobody'@'%'`, `'${database}_nobody'@'localhost'`]) {
    await assert.rejects(create(root, 'never_loop', { grant: [account] }), {
      name: 'DoLoopError',
      code: 'REFUSED',
      message: `grant: there is no account ${shown(account)}; CREATE USER makes it`,
    });
    assert.equal(await exists(account), false);
  }
  assert.deepEqual(await objects(), before);
});

/** What it takes to make a loop and to keep it, by what each is needed for. */
const needed: Record<string, string> = {
  CREATE: 'make the table',
  ALTER: 'adopt a table that lacks something',
  'CREATE ROUTINE': 'make procedures',
  'ALTER ROUTINE': 'replace procedures',
  SELECT: 'be the account whose rights the procedures have',
  INSERT: 'be the account whose rights the procedures have',
  UPDATE: 'be the account whose rights the procedures have',
  DELETE: 'be the account whose rights the procedures have',
};

/** Makes, uses, changes and drops loops as an account that may not do much. */
async function install(who: ConnectionOptions): Promise<void> {
  const session = await connect(who);
  await create(session, 'own_loop');
  await useAll(new DoLoop(session, 'own_loop'));
  await root.query("ALTER PROCEDURE own_loop_add COMMENT 'doloop 0.0.1+00000000: an old one'");
  assert.deepEqual((await create(session, 'own_loop')).procedures, ['add']);
  for (const statement of sqlForCreate('own_loop')) await session.query(statement);
  await useAll(new DoLoop(session, 'own_loop'));
  await root.query('CREATE TABLE old_loop (id INT PRIMARY KEY, last_updated INT, lock_until INT)');
  await create(session, 'old_loop');
  await useAll(new DoLoop(session, 'old_loop'));
  const names = (await list(session)).map(({ table }) => table);
  assert.ok(['old_loop', 'own_loop'].every(name => names.includes(name)));
  for (const table of ['old_loop', 'own_loop']) await drop(session, table);
}

async function cleanUp(): Promise<void> {
  for (const table of ['old_loop', 'own_loop']) {
    await drop(root, table).catch(() => {});
    await root.query(`DROP TABLE IF EXISTS ${table}`);
    await root.query(`DROP PROCEDURE IF EXISTS ${table}_adopt`);
  }
}

test(`an account with ${Object.keys(needed).join(', ')} on the database makes, uses, replaces and adopts loops: no SUPER`, async t => {
  t.after(cleanUp);
  const { who } = await makeAccount(...Object.keys(needed));
  await install(who);
});

for (const [privilege, purpose] of Object.entries(needed)) {
  test(`it takes ${privilege} to ${purpose}`, async t => {
    t.after(cleanUp);
    const { who } = await makeAccount(...Object.keys(needed).filter(one => one !== privilege));
    await assert.rejects(install(who), ({ errno, cause }) =>
      [1044, 1142, 1143, 1370].includes((cause ?? { errno }).errno),
    );
  });
}

/** An account that may make loops and say who may use them. */
async function makeGrantor() {
  const grantor = await makeAccount(...Object.keys(needed), 'EXECUTE');
  await root.query(`GRANT GRANT OPTION ON ${database}.* TO ${grantor.account}`);
  return grantor;
}

test('an account with EXECUTE and GRANT OPTION, too, grants the use of its loops', async () => {
  const { who: grantor } = await makeGrantor();
  const { account, who } = await makeAccount();
  const { table } = await makeLoop(await connect(grantor), { grant: [account] });
  await useAll(new DoLoop(await connect(who), table));
});

test('an account that may make accounts, but not look them up, makes none by granting, and has its sql_mode afterwards', async () => {
  const { account, who } = await makeGrantor();
  await root.query(`GRANT CREATE USER ON *.* TO ${account}`);
  const session = await connect(who);
  await session.query("SET sql_mode = 'ANSI_QUOTES'");
  const nobody = `'${database}_nobody'@'%'`;
  await assert.rejects(create(session, 'granted_loop', { grant: [nobody] }));
  assert.equal(await exists(nobody), false);
  assert.deepEqual(await rows(session, 'SELECT @@sql_mode AS mode'), [{ mode: 'ANSI_QUOTES' }]);
});

/** Accounts that were granted something on the loop, each another way. */
async function makeUsers(table: string): Promise<string[]> {
  const ways: [privileges: string, on: string, option?: string][] = [
    ['EXECUTE', `PROCEDURE ${table}_get`],
    ['EXECUTE', `PROCEDURE ${table}_did`, ' WITH GRANT OPTION'],
    ['EXECUTE, ALTER ROUTINE', `PROCEDURE ${table}_add`],
    ['ALTER ROUTINE', `PROCEDURE ${table}_add`, ' WITH GRANT OPTION'],
    ['EXECUTE', `${database}.*`],
  ];
  const users: string[] = [];
  for (const [privileges, on, option = ''] of ways) {
    const { account } = await makeAccount();
    await root.query(`GRANT ${privileges} ON ${on} TO ${account}${option}`);
    users.push(account);
  }
  return users;
}

test('what accounts were granted outlives another create, whether it replaces procedures or not', async () => {
  const { table } = await makeLoop(root);
  const users = await makeUsers(table);
  const before = await Promise.all(users.map(grantsOf));
  assert.ok(before.every(grants => grants.length === 1));

  assert.deepEqual((await create(root, table)).procedures, []);
  assert.deepEqual(await Promise.all(users.map(grantsOf)), before);

  for (const procedure of PROCEDURES) {
    await root.query(`ALTER PROCEDURE ${table}_${procedure} COMMENT 'doloop 0.0.1+00000000: an old one'`);
  }
  assert.deepEqual(await create(root, table), { table: 'kept', procedures: [...PROCEDURES], warnings: [] });
  assert.deepEqual(await Promise.all(users.map(grantsOf)), before);
});

test('EXECUTE on the database outlives the statements run again', async () => {
  const { table } = await makeLoop(root);
  const { account, who } = await makeAccount('EXECUTE');
  for (const statement of sqlForCreate(table)) await root.query(statement);
  assert.equal((await grantsOf(account)).length, 1);
  await useAll(new DoLoop(await connect(who), table));
});

test('grants that can not be read or given back are no secret: create warns of them', async t => {
  t.after(cleanUp);
  const { who } = await makeAccount(...Object.keys(needed));
  const session = await connect(who);
  await create(session, 'own_loop');
  const user = await makeAccount();
  await root.query(`GRANT EXECUTE ON PROCEDURE own_loop_add TO ${user.account}`);
  const before = await grantsOf(user.account);
  await root.query("ALTER PROCEDURE own_loop_add COMMENT 'doloop 0.0.1+00000000: an old one'");
  const { warnings } = await create(session, 'own_loop');
  const kept = (await grantsOf(user.account)).length === before.length;
  assert.equal(warnings.length, kept ? 0 : 1, warnings.join());
});

/** The server's errors for what an account may not do. */
const denied = ({ errno }: MySqlError) => [1044, 1142, 1143, 1227, 1370].includes(errno ?? 0);

test('such an account can not see the table, its definition, or the text of the procedures', async () => {
  const { account, who } = await makeAccount();
  const { table } = await makeLoop(root, { grant: [account] });
  const session = await connect(who);
  await session.query(`CALL ${table}_add('[1]', NULL)`);
  const [shown] = await rows(session, `SHOW CREATE PROCEDURE ${table}_add`);
  assert.equal(shown!['Create Procedure'], null);
  const routines = await rows(
    session,
    `SELECT routine_definition AS text FROM information_schema.routines WHERE routine_schema = '${database}'`,
  );
  assert.deepEqual(routines.map(({ text }) => text), PROCEDURES.map(() => null)); // biome-ignore format: short
  assert.deepEqual(await rows(session, 'SHOW TABLES'), []);
  for (const view of ['tables', 'columns', 'statistics', 'triggers']) {
    const schema = view === 'triggers' ? 'trigger_schema' : 'table_schema';
    assert.deepEqual(
      await rows(session, `SELECT 1 FROM information_schema.${view} WHERE ${schema} = '${database}'`),
      [],
    );
  }
  for (const statement of [
    ...['DESCRIBE', 'SHOW CREATE TABLE', 'SHOW INDEX FROM', 'CHECKSUM TABLE', 'EXPLAIN SELECT * FROM', 'HANDLER'].map(
      what => `${what} ${table}${what === 'HANDLER' ? ' OPEN' : ''}`,
    ),
    `LOCK TABLES ${table} READ`,
    'SELECT * FROM mysql.proc',
    'SELECT * FROM mysql.user',
    'SHOW ENGINE INNODB STATUS',
    'SELECT * FROM performance_schema.data_locks',
    `CREATE TABLE ${table}_2 LIKE ${table}`,
    `CREATE TEMPORARY TABLE ${table} (id INT)`,
    `ALTER PROCEDURE ${table}_add SQL SECURITY INVOKER`,
    `CREATE PROCEDURE ${table}_mine() DELETE FROM ${table}`,
    `GRANT EXECUTE ON PROCEDURE ${table}_add TO ${account}`,
  ]) {
    await assert.rejects(session.query(statement), denied, statement);
  }
});

test("a caller's temporary table of the loop's name hides the loop from this caller alone: nothing of it is seen or changed", async () => {
  const { account, who } = await makeAccount('CREATE TEMPORARY TABLES');
  const { table, loop } = await makeLoop(root, { grant: [account] });
  await loop.add([1, 2, 3]);
  const before = await contents(root, table);
  const session = await connect(who);
  await session.query(
    `CREATE TEMPORARY TABLE ${table} (id INT NOT NULL PRIMARY KEY, last_updated BIGINT, lock_until BIGINT,
      failures SMALLINT UNSIGNED NOT NULL DEFAULT 0, KEY lock_until (lock_until, last_updated))`,
  );
  const hidden = new DoLoop(session, table);
  assert.equal(await hidden.add([7, 1]), 2);
  assert.equal(await hidden.did(2), 1);
  assert.equal(await hidden.remove(3), 0);
  assert.deepEqual(
    (await rows(session, `SELECT id FROM ${table} ORDER BY id`)).map(({ id }) => id),
    [1, 2, 7],
  );
  // MySQL can't look into a temporary table twice in one statement (1137).
  await hidden.get(10).catch(({ errno }) => assert.equal(errno, 1137));
  assert.deepEqual(await contents(root, table), before);
  assert.deepEqual([...(await loop.get(10, { dryRun: true }))], [1, 2, 3]);
  await session.query(`DROP TEMPORARY TABLE ${table}`);
  assert.equal((await hidden.check([1, 2, 3, 7])).length, 3);
});

test('an account that was granted some of the procedures can do these by the client, and is told of the others', async () => {
  const { account, who } = await makeAccount();
  const { table } = await makeLoop(root);
  for (const procedure of ['add', 'bump']) {
    await root.query(`GRANT EXECUTE ON PROCEDURE ${table}_${procedure} TO ${account}`);
  }
  const loop = new DoLoop(makePool(who), table);
  assert.equal(await loop.add([1, 2]), 2);
  assert.equal(await loop.bump(1, { dryRun: true }), 1);
  assert.equal(await loop.bump([1, 3]), 2);
  const many = Array.from({ length: 4000 }, (_, i) => i + 1e6);
  assert.equal(await loop.add(many), 4000);
  const others = [
    () => loop.get(1),
    () => loop.did(1),
    () => loop.unlock(1),
    () => loop.extend(1),
    () => loop.fail(1),
    () => loop.check(1),
    () => loop.remove(1),
    () => loop.stats(),
    () => loop.next(),
    () => loop.work(() => {}, { once: true }),
  ];
  for (const call of others) await assert.rejects(call, { name: 'DoLoopError', code: 'NOT_ALLOWED' });
  assert.equal((await rows(root, `SELECT COUNT(*) AS n FROM ${table}`))[0]!.n, 4003);
});

test('these are the procedures that work() calls: an account with them alone is a worker', async () => {
  const { account, who } = await makeAccount();
  const { table, loop } = await makeLoop(root);
  await loop.add([1, 2, 3]);
  for (const procedure of ['get', 'next', 'did', 'fail', 'unlock', 'extend', 'check']) {
    await root.query(`GRANT EXECUTE ON PROCEDURE ${table}_${procedure} TO ${account}`);
  }
  const summary = await new DoLoop(makePool(who), table).work(
    id => {
      if (id === 2) throw new Error('no answer');
    },
    { once: true },
  );
  assert.deepEqual([summary.did, summary.failed], [2, 1]);
});

const OF_DEFINER = ['SELECT', 'INSERT', 'UPDATE', 'DELETE'];

/** A loop whose definer may do this on its table, and call its procedures or not, and nothing else; and can't log in. */
async function lockedDefiner(privileges: string[], withExecute = true) {
  const definer = await makeAccount(...Object.keys(needed), 'EXECUTE');
  const { account, who } = await makeAccount();
  const { table } = await makeLoop(await connect(definer.who));
  await root.query(`REVOKE ALL PRIVILEGES, GRANT OPTION FROM ${definer.account}`);
  await root.query(`GRANT ${privileges.join(', ')} ON ${table} TO ${definer.account}`);
  for (const procedure of PROCEDURES) {
    const users = withExecute ? `${definer.account}, ${account}` : account;
    await root.query(`GRANT EXECUTE ON PROCEDURE ${table}_${procedure} TO ${users}`);
  }
  await root.query(`ALTER USER ${definer.account} ACCOUNT LOCK`);
  await assert.rejects(connect(definer.who));
  return new DoLoop(makePool(who), table);
}

test(`the definer may be locked, and needs ${OF_DEFINER.join(', ')} on the table and EXECUTE on the procedures`, async () => {
  await useAll(await lockedDefiner(OF_DEFINER));
  for (const privilege of OF_DEFINER) {
    const loop = await lockedDefiner(OF_DEFINER.filter(one => one !== privilege));
    await assert.rejects(useAll(loop), denied, privilege);
  }
  await assert.rejects(useAll(await lockedDefiner(OF_DEFINER, false)), { code: 'NOT_ALLOWED' });
});
