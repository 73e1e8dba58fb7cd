/** Dumps by the server's own program, restored: a loop that works, with all it was. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import mysql, { type Connection } from 'mysql2/promise';
import { examine } from '../scripts/cli/doctor/examine.js';
import type { Finding } from '../scripts/cli/doctor/finding.js';
import { create, DoLoop } from '../src/index.js';
import { PROCEDURES } from '../src/render.js';
import { conforms } from './conformance.js';
import { connect, contents, inConsole, makeAccount, makeDatabase, rows, server } from './harness.js';
import { doloop, serverUrl } from './run-doloop.js';

const root = await connect();
const UTF8 = 'CHARACTER SET utf8mb4';

/** What the dump program writes of a database. */
function dump(schema: string, ...options: string[]): string {
  assert.ok(server.dump, 'the dump program of the server is installed');
  const noGtids = server.kind === 'mysql' ? ['--set-gtid-purged=OFF'] : [];
  const [program, ...args] = [...server.dump, ...noGtids, ...options, schema];
  const { stdout, stderr, status } = spawnSync(program!, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  assert.deepEqual([status, stderr], [0, '']);
  return stdout;
}

const restore = (schema: string, text: string) =>
  assert.equal(inConsole(['--batch'], `${schema === '' ? '' : `USE ${schema};\n`}${text}`), '');

/** What a dump must bring back of the procedures. MariaDB's console takes comments away that are for people. */
async function proceduresOf(schema: string): Promise<object[]> {
  const all = await rows(
    root,
    `SELECT routine_name AS name, routine_definition AS body, routine_comment AS comment, definer AS definer,
        sql_mode AS mode, sql_data_access AS access, security_type AS security, character_set_client AS client,
        collation_connection AS collation
      FROM information_schema.routines WHERE routine_schema = ? ORDER BY routine_name`,
    [schema],
  );
  return all.map(one => ({
    ...one,
    body: (one.body as string).replaceAll(/ *-- .*$| +$/gm, ''),
  }));
}

async function look(schema: string, table: string): Promise<Finding[]> {
  const session = await mysql.createConnection({ uri: server.url, database: schema });
  const findings: Finding[] = [];
  for await (const finding of examine(session, { database: schema, table })) findings.push(finding);
  session.destroy();
  return findings.filter(({ level, check }) => level !== 'ok' && !['snapshots', 'grants', 'updates'].includes(check));
}

/** Two loops with ids of every kind of row, of which one follows a table; as an application's account has made them. */
async function makeApplication(
  defaults = UTF8,
): Promise<{ schema: string; account: string; seen: () => Promise<object> }> {
  const schema = await makeDatabase(defaults);
  const { account, who } = await makeAccount();
  await root.query(`GRANT ALL ON ${schema}.* TO ${account}`);
  const session = await connect({ ...who, database: schema });
  await session.query('CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(90))');
  await create(session, 'user_loop');
  await create(session, 'page_loop', { idType: 'VARCHAR(20)' });
  const users = new DoLoop(session, 'user_loop');
  await users.add([1, 2, 3, 4, 5, 6]);
  await users.did(2);
  const got = await users.get(3, { lockFor: 7200 });
  await users.fail(got.slice(0, 1), { retryIn: 100 });
  await users.bump(6, { lockFor: -50 });
  await new DoLoop<string>(session, 'page_loop').bump(['Ärger', "it's", 'ß']);
  return { schema, account, seen: () => seenIn(schema) };
}

async function seenIn(schema: string): Promise<object> {
  const session = await connect({ database: schema });
  return { users: await contents(session, 'user_loop'), pages: await contents(session, 'page_loop') };
}

/** Both loops work. */
async function work(schema: string, session?: Connection): Promise<void> {
  const own = session ?? (await connect({ database: schema }));
  await conforms(own, 'user_loop');
  await conforms(own, 'page_loop', n => `ä${n}`);
}

const WAYS: [title: string, options: string[], defaults: string][] = [
  ['--routines', ['--routines'], UTF8],
  ['--routines --single-transaction', ['--routines', '--single-transaction'], UTF8],
  ['--routines --hex-blob --skip-opt', ['--routines', '--hex-blob', '--skip-opt', '--create-options', '--quick'], UTF8],
  ['--routines, of a latin1 database', ['--routines', '--single-transaction'], 'CHARACTER SET latin1'],
];
for (const [title, options, defaults] of WAYS) {
  test(`a dump with ${title}, restored into another database, is the loop as it was`, async () => {
    const { schema, account, seen } = await makeApplication(defaults);
    const before = await seen();
    const procedures = await proceduresOf(schema);
    assert.equal(procedures.length, 2 * PROCEDURES.length);
    const target = await makeDatabase(defaults);
    restore(target, dump(schema, ...options));
    assert.deepEqual(await seenIn(target), before);
    assert.deepEqual(await proceduresOf(target), procedures);
    for (const table of ['user_loop', 'page_loop']) {
      // The one who made it has no right on the new database yet.
      assert.deepEqual(
        (await look(target, table)).map(({ check }) => check),
        ['calls'],
      );
    }
    await root.query(`GRANT ALL ON ${target}.* TO ${account}`);
    for (const table of ['user_loop', 'page_loop']) assert.deepEqual(await look(target, table), []);
    await work(target);
    assert.deepEqual(await seen(), before); // and nothing was done to the other
  });
}

test('restored into a database of another character set it works, and create has nothing but a warning to mend', async () => {
  const { schema, account } = await makeApplication('CHARACTER SET latin1');
  const target = await makeDatabase(UTF8);
  restore(target, dump(schema, '--routines'));
  const session = await connect({ database: target });
  await root.query(`GRANT ALL ON ${target}.* TO ${account}`);
  assert.deepEqual(
    (await look(target, 'page_loop')).map(({ check, level }) => [check, level]),
    [['procedures', 'warning']],
  );
  await work(target);
  assert.deepEqual((await create(session, 'page_loop')).procedures, [...PROCEDURES]);
  assert.deepEqual(await look(target, 'page_loop'), []);
  await work(target);
});

test('a dump with --databases and --triggers brings a loop that follows a table back under its name', async () => {
  const { schema, account, seen } = await makeApplication();
  const env = { MYSQL_URL: serverUrl({ database: schema }) };
  const follow = ['follow', 'user_loop', '--source', 'users.id', '--bump-on', 'email'];
  assert.equal((await doloop([...follow, '--yes'], env)).code, 0);
  const before = [await seen(), await proceduresOf(schema)];
  const text = dump(schema, '--databases', '--routines', '--triggers', '--single-transaction');
  await root.query(`DROP DATABASE ${schema}`);
  restore('', text);
  assert.deepEqual([await seen(), await proceduresOf(schema)], before);
  assert.equal((await look(schema, 'user_loop')).length, 0, account);
  const session = await connect({ database: schema });
  await session.query("INSERT INTO users VALUES (77, NULL), (78, 'a')");
  await session.query("UPDATE users SET email = 'b' WHERE id = 78");
  await session.query('DELETE FROM users WHERE id = 77');
  const loop = new DoLoop(session, 'user_loop');
  assert.deepEqual(
    (await loop.check([77, 78])).map(({ id, lockedFor }) => [id, lockedFor !== null]),
    [[78, true]],
  );
  // They are known as the loop's own. (MariaDB's console has left their comments out.)
  assert.equal((await doloop([...follow, '--yes'], env)).code, 0);
  const again = await doloop([...follow, '--json'], env);
  assert.deepEqual([again.code, JSON.parse(again.stdout).statements], [0, []]);
  await work(schema);
});

test('a copy under another name follows its own table, and no write there reaches the first', async () => {
  const { schema, account, seen } = await makeApplication();
  const args = (name: string) => ['follow', `${name}.user_loop`, '--source', `${name}.users.id`, '--yes'];
  const env = { MYSQL_URL: serverUrl({ database: schema }) };
  assert.equal((await doloop(args(schema), env)).code, 0);
  const before = await seen();
  const target = await makeDatabase(UTF8);
  // In MariaDB's dump the triggers' text names the database: they have to be made anew.
  const isMySql = server.kind === 'mysql';
  restore(target, dump(schema, '--routines', isMySql ? '--triggers' : '--skip-triggers'));
  await root.query(`GRANT ALL ON ${target}.* TO ${account}`);
  if (!isMySql) assert.equal((await doloop(args(target), env)).code, 0);
  await root.query(`INSERT INTO ${target}.users (id) VALUES (99)`);
  const session = await connect({ database: target });
  assert.equal((await new DoLoop(session, 'user_loop').check(99)).length, 1);
  assert.deepEqual(await seen(), before);
});

test('a dump with --no-data brings an empty loop', async () => {
  const { schema, account } = await makeApplication();
  const target = await makeDatabase(UTF8);
  restore(target, dump(schema, '--routines', '--no-data'));
  await root.query(`GRANT ALL ON ${target}.* TO ${account}`);
  assert.deepEqual(await seenIn(target), { users: [], pages: [] });
  assert.deepEqual(await look(target, 'user_loop'), []);
  await work(target);
});

test('a dump without --routines has the rows: calls are NO_LOOP, the doctor says so, and create makes the procedures', async () => {
  const { schema, seen } = await makeApplication();
  const before = await seen();
  const target = await makeDatabase(UTF8);
  restore(target, dump(schema, '--single-transaction'));
  assert.deepEqual(await seenIn(target), before);
  const session = await connect({ database: target });
  await assert.rejects(new DoLoop(session, 'user_loop').next(), { code: 'NO_LOOP' });
  for (const table of ['user_loop', 'page_loop']) {
    const [found, ...more] = (await look(target, table)) as [Finding];
    assert.deepEqual([found.text, more], [`missing: ${PROCEDURES.join(', ')}`, []]);
    assert.deepEqual((await create(session, table)).table, 'kept');
    assert.deepEqual(await look(target, table), []);
  }
  assert.deepEqual(await seenIn(target), before);
  await work(target);
});

test('restored where its definer is no account: 1449, the doctor names it, and create takes the procedures over', async t => {
  const { schema, account } = await makeApplication();
  const before = await seenIn(schema);
  const text = dump(schema, '--routines');
  t.after(() => root.query(`CREATE USER ${account}`)); // the harness drops it
  await root.query(`DROP USER ${account}`);
  const target = await makeDatabase(UTF8);
  restore(target, text);
  const session = await connect({ database: target });
  const loop = new DoLoop(session, 'user_loop');
  for (const call of [() => loop.get(1), () => loop.did(1), () => loop.stats()]) {
    await assert.rejects(call, { errno: 1449 });
  }
  const { code, stdout, stderr } = await doloop(['doctor', 'user_loop'], {
    MYSQL_URL: serverUrl({ database: target }),
  });
  assert.deepEqual([code, stderr], [1, `doloop: ${target}.user_loop has 1 problem\n`]);
  const [found] = (await look(target, 'user_loop')) as [Finding];
  assert.ok(found.text.includes(account.slice(1, 9)), found.text);
  assert.equal(found.cure, `npx doloop create ${target}.user_loop`);
  assert.ok(stdout.includes(found.cure));

  // Not only root may take them over, but whoever may make and call loops.
  const { account: heir, who } = await makeAccount();
  await root.query(`GRANT ALL ON ${target}.* TO ${heir}`);
  const { account: app, who: application } = await makeAccount();
  const asHeir = await connect({ ...who, database: target });
  for (const table of ['user_loop', 'page_loop']) {
    const { warnings } = await create(asHeir, table);
    assert.equal(warnings.length, server.kind === 'mysql' ? 1 : 0); // it may not read what was granted
  }
  await create(root, `${target}.user_loop`, { grant: [app] });
  assert.deepEqual(await look(target, 'user_loop'), []);
  const next = await new DoLoop(await connect({ ...application, database: target }), 'user_loop').next();
  assert.equal(next, 0);
  assert.deepEqual(await seenIn(target), before);
  await work(target);
});
