/** A server that is killed, frozen, full or crowded, while sixteen work: what callers see, and what the tables hold then. */
import assert from 'node:assert/strict';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type Connection, type Pool, type RowDataPacket } from 'mysql2/promise';
import { startServer } from '../scripts/server.js';
import { create, DoLoop } from '../src/index.js';
import { contents, server } from './harness.js';
import { LOAD, Load, type LoadOptions, makeLoops, OWN, SHARED } from './load.js';
import { quickOrLong } from './long.js';
import { beginDoloop, ended } from './run-doloop.js';
import { until } from './until.js';

// MariaDB changes this limit later on only if there is one from the beginning.
const own = await startServer({ kind: server.kind, settings: ['--max-user-connections=10000'] });
after(own.stop);

const APP = { user: 'app', password: 'secret' };
let databases = 0;
let database: string;

/** A connection of root's, which the end of the server closes. */
async function connectRoot(): Promise<Connection> {
  const connection = await mysql.createConnection({ uri: own.url });
  connection.on('error', () => {}); // the server is killed
  return connection;
}

/** A new database with the loops of {@link Load}, and an account for it. */
async function setUp(): Promise<Connection> {
  const root = await connectRoot();
  databases += 1;
  database = `app_${databases}`;
  await root.query(`CREATE DATABASE ${database}`);
  await root.query(`USE ${database}`);
  await root.query(`CREATE USER IF NOT EXISTS app IDENTIFIED BY '${APP.password}'`);
  await root.query(`GRANT SELECT, EXECUTE ON ${database}.* TO app`);
  await makeLoops(root);
  return root;
}

/** A pool of the account's. It ends with the test, when this has ended. */
function makePool(t: TestContext, connectionLimit: number, before: () => unknown = () => {}): Pool {
  const pool = mysql.createPool({ uri: own.url, ...APP, database, connectionLimit });
  t.after(async () => {
    await before();
    await pool.end();
  });
  return pool;
}

/** Begins a load, which ends with the test at the latest. */
function begin(t: TestContext, options?: LoadOptions): Load {
  const load: Load = new Load(
    makePool(t, LOAD, () => load.end().catch(() => {})),
    options,
  );
  return load;
}

/** Both who call and who have `work` call come on from here. */
async function untilItGoesOn(load: Load): Promise<void> {
  const { plain, work } = load.answered;
  await until('the work goes on', () => load.answered.plain > plain + 40 && load.answered.work > work + 40);
}

/** What becomes of calls when the server is gone: of their connection, or of the next one. */
const GONE = ['PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE', 'ECONNREFUSED'];

test('kill -9 of the server, again and again: what was acknowledged is there, no id has two holders, and all go on', async t => {
  await setUp();
  const load = begin(t);
  const kills = quickOrLong(3, 25);
  for (let kill = 0; kill < kills; kill += 1) {
    await untilItGoesOn(load);
    await sleep(Math.random() * 300);
    await own.kill();
    // Now and then for longer than the client makes a call again by itself.
    if (kill % 5 === 0) {
      const [before] = [load.errors.plain.size > 0, load.errors.work.size > 0];
      await until('callers see it', () => before || (load.errors.plain.size > 0 && load.errors.work.size > 0));
    }
    await own.restart();
  }
  await untilItGoesOn(load);
  const summaries = await load.end();
  await load.assertKept(kills * LOAD);
  assert.ok(summaries.every(({ did, left }) => did > 0 && left === 0));
  for (const { plain, work } of [load.errors]) {
    for (const code of [...plain.keys(), ...work.keys()]) assert.ok(GONE.includes(code), code);
    assert.ok(plain.size > 0 && work.size > 0);
  }
});

test('a server that stands still for longer than the lease: calls wait, and then each lock is whose it is', async t => {
  const root = await setUp();
  const lockFor = 2;
  const load = begin(t, { lockFor });
  await create(root, 'still_loop');
  const loop = new DoLoop(makePool(t, 2), 'still_loop');
  await loop.add(Array.from({ length: 100 }, (_, i) => i + 1));
  for (let round = 0; round < quickOrLong(1, 15); round += 1) {
    await untilItGoesOn(load);
    await root.query('UPDATE still_loop SET last_updated = NULL, lock_until = NULL');
    await Promise.all([loop.next(), loop.next()]); // both connections are there
    const batch = await loop.get(100, { lockFor });
    const before = Math.floor(Date.now() / 1000);
    own.freeze();
    await sleep(200); // by then what had been answered was read
    const { progress } = load;
    const calls = [loop.did(batch), loop.get(100)] as const;
    await sleep((lockFor + 1) * 1_000);
    assert.equal(load.progress, progress, 'calls wait');
    own.thaw();
    const [did, next] = await Promise.all(calls);
    assert.equal(did, batch.length);
    // Whoever came first: what the next one got is locked by it, and marked all the same; the rest is unlocked.
    for (const { id, last_updated, lock_until, failures } of await contents(root, 'still_loop')) {
      assert.ok(last_updated! >= before, `${id} is marked`);
      assert.deepEqual([lock_until, failures], [next.includes(id as number) ? next.lease : null, 0]);
    }
  }
  await untilItGoesOn(load);
  const summaries = await load.end();
  // Where get was answered too late, the ids are nobody's until their time.
  await load.assertKept(LOAD);
  assert.ok(summaries.every(({ did, left }) => did > 0 && left === 0));
  assert.deepEqual([...load.errors.plain.keys(), ...load.errors.work.keys()], []);
});

const FULL = '1114';

/**
 * Has the server find no room for some rows of both loops, as a full disk does, where it is told so: in the middle of a
 * statement. (How a disk is really filled differs by system, and takes its owner.)
 */
async function makeFull(root: Connection): Promise<(isFull: boolean) => Promise<unknown>> {
  await root.query('CREATE TABLE disk (is_full BOOLEAN NOT NULL) ENGINE=InnoDB');
  await root.query('INSERT INTO disk VALUES (FALSE)');
  for (const table of [SHARED, OWN]) {
    for (const event of ['INSERT', 'UPDATE']) {
      await root.query(`CREATE TRIGGER ${table}_${event} BEFORE ${event} ON ${table} FOR EACH ROW
        IF NEW.id % 5 = 0 AND (SELECT is_full FROM disk) THEN
          SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = ${FULL}, MESSAGE_TEXT = 'The table is full';
        END IF`);
    }
  }
  return isFull => root.query('UPDATE disk SET is_full = ?', [isFull]);
}

test('no room left in the middle of a statement (1114): calls are refused as a whole, and all go on where there is room again', async t => {
  const root = await setUp();
  const setFull = await makeFull(root);
  const load = begin(t);
  for (let round = 0; round < quickOrLong(2, 40); round += 1) {
    await untilItGoesOn(load);
    load.errors.plain.clear();
    load.errors.work.clear();
    await setFull(true);
    await until('it is seen', () => (load.errors.plain.get(FULL) ?? 0) > 20 && load.errors.work.has(FULL));
    await setFull(false);
  }
  await untilItGoesOn(load);
  const summaries = await load.end();
  await load.assertKept(0);
  assert.ok(summaries.every(({ did, left }) => did > 0 && left === 0));
  for (const code of [...load.errors.plain.keys(), ...load.errors.work.keys()]) assert.equal(code, FULL);
});

const refused = (why: string) => new RegExp(`^doloop: Cannot connect to app@127\\.0\\.0\\.1:\\d+/app_\\d+: ${why}\n$`);
/** What a command says. */
const SAID: Record<string, RegExp> = {
  1040: refused('Too many connections'),
  1203: refused("User app already has more than 'max_user_connections' active connections"),
  1226: refused("User 'app' has exceeded the 'max_user_connections' resource \\(current value: 10\\)"),
};

/** Ways to have no more than so many connections, and to take that back. */
const LIMITS: [code: string, what: string, set: (root: Connection, most: number) => Promise<unknown>, none: number][] =
  [
    ['1040', 'of the server', (root, most) => root.query('SET GLOBAL max_connections = ?', [most]), 500],
    ['1203', 'of each account', (root, most) => root.query('SET GLOBAL max_user_connections = ?', [most]), 10_000],
    ['1226', 'of this account', (root, most) => root.query(`ALTER USER app WITH MAX_USER_CONNECTIONS ${most}`), 0],
  ];
for (const [code, what, set, none] of LIMITS) {
  test(`a limit ${what} below the pool's (${code}): callers see it, work() goes on with what it has, commands say it, and nothing is half done`, async t => {
    const root = await setUp();
    const lift = () => set(root, none);
    t.after(lift);
    await set(root, 10);
    const load = begin(t);
    for (let round = 0; round < quickOrLong(1, 5); round += 1) {
      if (round > 0) await set(root, 10);
      const [sessions] = await root.query<RowDataPacket[]>('SHOW PROCESSLIST');
      for (const { Id, db, User } of sessions) if (db === database && User === APP.user) await root.query(`KILL ${Id}`);
      await until('it is seen', () => load.errors.plain.has(code) && load.errors.work.has(code));
      await untilItGoesOn(load);
      const url = new URL(own.url);
      [url.username, url.password, url.pathname] = [APP.user, APP.password, database];
      const ran = await ended(beginDoloop(['work', SHARED, '--once', '--', 'cat'], { MYSQL_URL: url.href }));
      assert.match(ran.stderr, SAID[code]!);
      assert.deepEqual([ran.code, ran.stdout], [1, '']);
      await lift();
      await untilItGoesOn(load);
      const errors = () => JSON.stringify([...load.errors.plain, ...load.errors.work]);
      const before = errors();
      await untilItGoesOn(load);
      assert.equal(errors(), before, 'there is room for all');
      // Who found none for long pauses for as long, and comes last.
      await until('each has worked', () => load.idle.size === 0);
    }
    const summaries = await load.end();
    await load.assertKept(quickOrLong(0, 4) * LOAD);
    assert.ok(summaries.every(({ did, left }) => did > 0 && left === 0));
    for (const error of [...load.errors.plain.keys(), ...load.errors.work.keys()]) assert.equal(error, code);
  });
}
