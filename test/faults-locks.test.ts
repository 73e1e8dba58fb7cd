/**
 * Somebody holds what a call needs: a row, or the table. Which calls wait, what comes of it when they have waited for long
 * enough (1205), and that nothing is left of them then.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import { DoLoop, type WorkSummary } from '../src/index.js';
import type { Procedure } from '../src/render.js';
import {
  callProcedure,
  connect,
  contents,
  inTransaction,
  isolation,
  makeLoop,
  makePool,
  put,
  row,
  rows,
} from './harness.js';
import { codeOf } from './load.js';
import { quickOrLong } from './long.js';
import { until } from './until.js';

const root = await connect();
const { table } = await makeLoop(root);
/** 1, which is due, and 3 are what somebody holds. 5 is not in the loop. */
const IDS = '[1, 2, 3, 4, 5]';
const ROWS = [
  row(1),
  row(2, { until: 9_000 }),
  row(3, { until: 9_000 }),
  row(4, { updated: -900_000_000, failures: 2 }),
];

type Call = [Procedure, ...unknown[]];
/** All that write ids they are given. */
const WRITING: Call[] = [
  ['add', IDS],
  ['add', IDS, true],
  ['remove', IDS],
  ['did', IDS],
  ['did', IDS, false],
  ['unlock', IDS],
  ['unlock', IDS, false],
  ['bump', IDS, -9],
  ['bump', IDS, -9, false],
  ['extend', IDS],
  ['fail', IDS],
];
const READING: Call[] = [['check', IDS], ['stats'], ['stats', '[60]'], ['next']];
const GETS: Call[] = [
  ['get', 1],
  ['get', 100],
];
const titled = ([procedure, , ...more]: Call) => `${procedure} ${more.join()}`.trim();

/** A session that waits for a second, for a row or for a table. It ends with the test. */
async function impatient(t: TestContext): Promise<Connection> {
  const session = await connect();
  t.after(() => session.destroy());
  await session.query('SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1');
  return session;
}

/** Who holds something from now on, until the answer is called, at the end of the test at the latest. */
async function hold(t: TestContext, ...statements: string[]): Promise<() => Promise<void>> {
  const holder = await connect();
  t.after(() => holder.destroy());
  for (const statement of statements) await holder.query(statement);
  return async () => {
    await holder.query('ROLLBACK');
    await holder.query('UNLOCK TABLES');
  };
}

const error = (call: Promise<unknown>) => call.then(() => 'no error', codeOf);

/** Nothing of a call is left in its session: no transaction, no named lock, no isolation level. */
async function assertClean(session: Connection, what: string): Promise<void> {
  assert.equal(await inTransaction(session), false, `${what} leaves a transaction`);
  const [locks] = await rows(session, 'SELECT RELEASE_ALL_LOCKS() AS held');
  assert.equal(locks!.held, 0, `${what} leaves a named lock`);
  assert.equal(await isolation(session), 'REPEATABLE READ', `${what} leaves an isolation level`);
}

/** Each of these calls, in a session of its own, all at once: what comes of them. */
function all(sessions: Connection[], calls: Call[]): Promise<string[]> {
  return Promise.all(calls.map((call, i) => error(callProcedure(sessions[i]!, table, ...call))));
}

async function sessionsFor(t: TestContext, calls: Call[]): Promise<Connection[]> {
  return Promise.all(calls.map(() => impatient(t)));
}

test('a row that somebody holds: get, check, stats and next pass it by; all that write it wait, are refused (1205), and have done nothing', async t => {
  const calls = [...WRITING, ...READING];
  const sessions = await sessionsFor(t, calls);
  for (let round = 0; round < quickOrLong(1, 10); round += 1) {
    await put(root, table, ROWS);
    const letGo = await hold(t, 'START TRANSACTION', `SELECT * FROM ${table} WHERE id IN (1, 3) FOR UPDATE`);
    // One after the other: all that write wait for what those before them hold, too.
    const ends = await all(sessions, calls);
    assert.deepEqual(ends, [...WRITING.map(() => '1205'), ...READING.map(() => 'no error')]);
    assert.deepEqual(await contents(root, table), ROWS);
    const got = [];
    for (const call of GETS) got.push(...(await callProcedure(sessions[0]!, table, ...call)).map(({ id }) => id));
    assert.deepEqual(got, [4], 'the other that is due');
    await letGo();
    for (const [i, call] of calls.entries()) if (round === 0) await assertClean(sessions[i]!, titled(call));
    for (const [i, call] of calls.entries()) await callProcedure(sessions[i]!, table, ...call);
  }
});

test('the same in a transaction of the caller’s: it stays open with all it had done, and can be committed', async t => {
  const sessions = await sessionsFor(t, WRITING);
  await put(root, table, ROWS);
  await root.query(`CREATE TABLE notes (n INT PRIMARY KEY) ENGINE=InnoDB`);
  const letGo = await hold(t, 'START TRANSACTION', `SELECT * FROM ${table} WHERE id = 3 FOR UPDATE`);
  for (const [i, session] of sessions.entries()) {
    await session.query('START TRANSACTION');
    await session.query(`INSERT INTO notes VALUES (${i})`);
  }
  // By turns: a statement that was refused keeps the locks of its transaction, until that ends.
  for (const [i, call] of WRITING.slice(0, quickOrLong(3, WRITING.length)).entries()) {
    const session = sessions[i]!;
    assert.equal(await error(callProcedure(session, table, ...call)), '1205', titled(call));
    assert.equal(await inTransaction(session), true, titled(call));
    await session.query('COMMIT');
  }
  for (const session of sessions) await session.query('COMMIT');
  await letGo();
  assert.deepEqual(await contents(root, table), ROWS);
  assert.equal((await rows(root, 'SELECT n FROM notes')).length, WRITING.length);
});

const CALLS = [...WRITING, ...GETS, ...READING];
const OBSTACLES: [what: string, statements: string[], reads: boolean][] = [
  ['LOCK TABLES … WRITE', [`LOCK TABLES ${table} WRITE`], false],
  ['LOCK TABLES … READ', [`LOCK TABLES ${table} READ`], true],
];
for (const [what, statements, reads] of OBSTACLES) {
  test(`${what}: ${reads ? 'check, stats and next go on; all others' : 'all calls'} wait as long as lock_wait_timeout says, are refused (1205), and have done nothing`, async t => {
    const sessions = await sessionsFor(t, CALLS);
    await put(root, table, ROWS);
    const letGo = await hold(t, ...statements);
    const expected = CALLS.map(call => (reads && READING.includes(call) ? 'no error' : '1205'));
    assert.deepEqual(await all(sessions, CALLS), expected);
    await letGo();
    assert.deepEqual(await contents(root, table), ROWS);
    for (const [i, call] of CALLS.entries()) await assertClean(sessions[i]!, titled(call));
    assert.deepEqual(
      await all(sessions, CALLS),
      CALLS.map(() => 'no error'),
    );
  });
}

test('ALTER TABLE that waits for an open transaction: all calls wait behind it, are refused (1205), and have done nothing', async t => {
  const sessions = await sessionsFor(t, CALLS);
  await put(root, table, ROWS);
  // Somebody has only read the loop, and forgotten to commit.
  const letGo = await hold(t, 'START TRANSACTION', `SELECT COUNT(*) FROM ${table}`);
  const altering = await connect();
  const altered = altering.query(`ALTER TABLE ${table} COMMENT = 'altered ${Date.now()}', ALGORITHM = COPY`);
  await until('ALTER TABLE waits', async () =>
    (await rows(root, 'SHOW PROCESSLIST')).some(
      ({ Id, State }) => Id === altering.threadId && /metadata lock/.test(State),
    ),
  );
  assert.deepEqual(
    await all(sessions, CALLS),
    CALLS.map(() => '1205'),
  );
  await letGo();
  await altered;
  assert.deepEqual(await contents(root, table), ROWS);
  for (const [i, call] of CALLS.entries()) await assertClean(sessions[i]!, titled(call));
});

test('on a pool the error comes at once to the caller, and the connection goes back without a transaction', async t => {
  const pool = makePool({ connectionLimit: 1 });
  await pool.query('SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1');
  const loop = new DoLoop(pool, table);
  await put(root, table, ROWS);
  const letGo = await hold(t, 'START TRANSACTION', `SELECT * FROM ${table} WHERE id = 3 FOR UPDATE`);
  assert.equal(await error(loop.did([1, 2, 3])), '1205');
  assert.equal(await error(loop.remove([1, 2, 3], { dryRun: true })), '1205');
  assert.equal(await inTransaction(pool), false);
  assert.deepEqual(await contents(root, table), ROWS);
  await letGo();
  assert.equal(await loop.did([1, 2, 3]), 3);
});

test('sixteen at work, and somebody holds rows and the table by turns: work() waits and marks all, and no id has two holders', async t => {
  const COUNT = 400;
  const { table, loop } = await makeLoop(root);
  await loop.add(Array.from({ length: COUNT }, (_, i) => i + 1));
  const pool = makePool({ connectionLimit: 16 });
  pool.on('connection', one => one.query('SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1'));
  const mine = new DoLoop(pool, table);
  const handled: number[] = [];
  let open = () => {};
  const gate = new Promise<void>(resolve => {
    open = resolve;
  });
  const retries = new Set<string>();
  const working: Promise<WorkSummary>[] = Array.from({ length: 16 }, () =>
    mine.work(
      async id => {
        await sleep(5);
        handled.push(id);
        if (handled.length > 20) await gate;
      },
      {
        ...{ maxIds: 5, once: true },
        onEvent: event => {
          if (event.type === 'retry') retries.add(`${event.call} ${codeOf(event.error)}`);
        },
      },
    ),
  );
  await until('they are in the middle', () => handled.length > 20);
  const letRowsGo = await hold(
    t,
    'SET TRANSACTION ISOLATION LEVEL READ COMMITTED',
    'START TRANSACTION',
    `SELECT * FROM ${table} WHERE lock_until IS NOT NULL FOR UPDATE`,
  );
  open();
  await until('did is refused', () => retries.has('did 1205'));
  await letRowsGo();
  const letTableGo = await hold(t, `LOCK TABLES ${table} WRITE`);
  retries.clear();
  await until('calls are refused', () => [...retries].some(one => one.endsWith('1205')));
  await letTableGo();
  const summaries = await Promise.all(working);
  assert.equal(
    summaries.reduce((sum, { did }) => sum + did, 0),
    COUNT,
  );
  assert.deepEqual(
    handled.sort((a, b) => a - b),
    Array.from({ length: COUNT }, (_, i) => i + 1),
  );
  for (const one of await contents(root, table)) assert.ok(one.last_updated !== null && one.lock_until === null);
});
