import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import { DoLoop } from '../src/index.js';
import { connect, contents, isolation, makeLoop, makePool, rows, waitsForRow } from './harness.js';

const observer = await connect();
await observer.query('SET innodb_lock_wait_timeout = 10');
const { table } = await makeLoop(observer);

/** The ids before each test: 1 never updated, 2 and 4 long ago, 3 locked, 5 bumped. */
async function newDay(): Promise<void> {
  await observer.query(`DELETE FROM ${table}`);
  await observer.query(
    `INSERT INTO ${table} (id, last_updated, lock_until) VALUES (1, NULL, NULL), (2, UNIX_TIMESTAMP() - 8000, NULL),
      (3, NULL, UNIX_TIMESTAMP() + 8000), (4, UNIX_TIMESTAMP() - 9000, NULL), (5, NULL, UNIX_TIMESTAMP() - 100)`,
  );
}

/** Calls that change the table of a new day, one for each way a procedure has to write. */
const writing = [
  "add('[1, 50]', NULL)",
  "remove('[1, 2]')",
  'get(3, NULL, NULL)',
  "did('[2, 50]', NULL, NULL)",
  "did('[2, 3]', FALSE, NULL)",
  "unlock('[3, 50]', NULL, NULL)",
  "unlock('[3]', FALSE, NULL)",
  "bump('[1, 50]', NULL, NULL)",
  "bump('[1]', NULL, FALSE)",
  "extend('[3]', 90, NULL)",
  "fail('[2, 3]', NULL, NULL)",
];
const reading = ["check('[1, 2]')", "stats('[60]')", 'next(NULL)'];
const refused = [
  ...['add(?, NULL)', 'remove(?)', 'did(?, NULL, NULL)', 'did(?, FALSE, NULL)', 'unlock(?, NULL, NULL)'],
  ...['bump(?, NULL, NULL)', 'extend(?, NULL, NULL)', 'fail(?, NULL, NULL)', 'check(?)', 'stats(?)'],
]
  .map(call => call.replace('?', `'[1, "x"]'`))
  .concat('get(NULL, NULL, NULL)', 'get(1, 0, NULL)', 'next(-1)', "extend('[3]', 0, NULL)", "fail('[3]', -1, NULL)");

const call = (session: Connection, procedure: string) => rows(session, `CALL ${table}_${procedure}`);

/** A new session. What is open in it ends with the test, and with a failed one too, before another waits for long. */
async function sessionOf(t: TestContext, ...statements: string[]): Promise<Connection> {
  const session = await connect();
  t.after(() => session.destroy());
  await session.query('SET innodb_lock_wait_timeout = 10');
  for (const statement of statements) await session.query(statement);
  return session;
}

/** Works exactly when the session has no transaction open: in one, it is refused (1568). */
const noneOpen = (session: Connection) => session.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
const oneOpen = (session: Connection) => assert.rejects(noneOpen(session), { errno: 1568 });

/** Ways to be in a transaction, and to end it. */
const ways = [
  { title: 'a transaction', setup: 'DO 0', begin: 'START TRANSACTION', end: ['COMMIT'], undo: ['ROLLBACK'] },
  { title: 'autocommit off', setup: 'SET autocommit = 0', begin: 'DO 0', end: ['COMMIT'], undo: ['ROLLBACK'] },
  {
    title: 'a distributed transaction',
    setup: 'DO 0',
    begin: `XA START '${table}'`,
    end: [`XA END '${table}'`, `XA PREPARE '${table}'`, `XA COMMIT '${table}'`],
    undo: [`XA END '${table}'`, `XA ROLLBACK '${table}'`],
  },
];
for (const { title, setup, begin, end, undo } of ways) {
  for (const procedure of writing) {
    test(`in ${title} others see nothing of ${procedure} before its end, and nothing after a rollback`, async t => {
      await newDay();
      const session = await sessionOf(t, setup);
      const before = await contents(observer, table);

      await session.query(begin);
      await call(session, procedure);
      assert.notDeepEqual(await contents(session, table), before);
      assert.deepEqual(await contents(observer, table), before);
      for (const statement of undo) await session.query(statement);
      assert.deepEqual(await contents(observer, table), before);

      await session.query(begin);
      await call(session, procedure);
      const inside = await contents(session, table);
      assert.deepEqual(await contents(observer, table), before);
      for (const statement of end) await session.query(statement);
      assert.deepEqual(await contents(observer, table), inside);
    });
  }
}

for (const procedure of writing) {
  test(`by itself ${procedure} is committed at once, and leaves no transaction open`, async t => {
    await newDay();
    const session = await sessionOf(t);
    const before = await contents(observer, table);
    await call(session, procedure);
    assert.notDeepEqual(await contents(observer, table), before);
    await noneOpen(session);
  });

  test(`a savepoint of the caller outlives ${procedure}`, async t => {
    await newDay();
    const session = await sessionOf(
      t,
      'START TRANSACTION',
      `UPDATE ${table} SET failures = 7 WHERE id = 5`,
      'SAVEPOINT a',
    );
    const before = await contents(session, table);
    await call(session, procedure);
    await session.query('ROLLBACK TO SAVEPOINT a');
    assert.deepEqual(await contents(session, table), before);
    await session.query('COMMIT');
    assert.deepEqual(await contents(observer, table), before);
  });
}

for (const procedure of reading) {
  test(`${procedure} neither opens, ends nor changes a transaction`, async t => {
    await newDay();
    const session = await sessionOf(t);
    await call(session, procedure);
    await noneOpen(session);
    await session.query('START TRANSACTION READ ONLY');
    await call(session, procedure);
    await oneOpen(session);
    await session.query('COMMIT');
    await session.query('START TRANSACTION');
    await call(session, "add('50', NULL)");
    await call(session, procedure);
    assert.equal((await contents(observer, table)).length, 5);
    await session.query('COMMIT');
    assert.equal((await contents(observer, table)).length, 6);
  });
}

const [gets, others] = [writing.filter(one => one.startsWith('get')), writing.filter(one => !one.startsWith('get'))];

/** Locks all that calls other than `get` want, so that they wait; id 4 stays free. */
const lockIds = [
  ...[1, 2, 3, 5].map(id => `SELECT id FROM ${table} WHERE id = ${id} FOR UPDATE`),
  `SELECT id FROM ${table} WHERE id > 5 FOR UPDATE`,
];
/** Locks the place that a lock_until in the future has in the key: `get` finds ids, and waits for the lock on them. */
const lockFuture = [`SELECT id FROM ${table} FORCE INDEX (lock_until) WHERE lock_until > UNIX_TIMESTAMP() FOR UPDATE`];

const locksAgainst = (procedure: string) => (gets.includes(procedure) ? lockFuture : lockIds);

/** Ways for calls to fail. */
interface Failure {
  title: string;
  errno: number;
  calls: string[];
  /** What the session sets before. */
  setting?: string;
  /** What another session does before, and after. */
  cause?: string[];
  mend?: string[];
}
const readOnly: Failure = {
  title: 'a session that may only read',
  errno: 1792,
  calls: writing,
  setting: 'TRANSACTION READ ONLY',
};
const late = { errno: 1205, setting: 'innodb_lock_wait_timeout = 1', mend: ['ROLLBACK'] };
const failures: Failure[] = [
  { title: 'a refused argument', errno: 1644, calls: refused },
  { ...late, title: 'an id that others keep locked', calls: others, cause: lockIds },
  { ...late, title: 'a part of the key that others keep locked', calls: gets, cause: lockFuture },
  {
    title: 'a table that is gone',
    errno: 1146,
    calls: [...writing, ...reading],
    cause: [`RENAME TABLE ${table} TO elsewhere`],
    mend: [`RENAME TABLE elsewhere TO ${table}`],
  },
];

/** Makes the calls fail, all at once, each in a session of its own; and looks at the sessions before and after. */
async function failing(
  t: TestContext,
  { errno, calls, setting = 'autocommit = 1', cause = [], mend = [] }: Failure,
  before: (session: Connection, i: number) => Promise<unknown>,
  after: (session: Connection, procedure: string) => Promise<unknown>,
): Promise<void> {
  await newDay();
  const untouched = await contents(observer, table);
  const other = await sessionOf(t, 'START TRANSACTION', ...cause);
  const attempts = calls.map(async (procedure, i) => {
    const session = await sessionOf(t, `SET SESSION ${setting}`);
    await before(session, i);
    await assert.rejects(call(session, procedure), { errno }, procedure);
    await after(session, procedure);
  });
  const ends = await Promise.allSettled(attempts);
  for (const statement of mend) await other.query(statement);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  assert.deepEqual(await contents(observer, table), untouched);
}

for (const failure of [...failures, readOnly]) {
  test(`calls by themselves that fail for ${failure.title} (${failure.errno}) leave nothing behind`, async t => {
    await failing(
      t,
      failure,
      session => session.query('DO LAST_INSERT_ID(42)'),
      async (session, procedure) => {
        await noneOpen(session);
        assert.equal((await rows(session, 'SELECT LAST_INSERT_ID() AS id'))[0]!.id, 42, procedure);
      },
    );
  });
}

await observer.query('CREATE TABLE diary (n INT PRIMARY KEY) ENGINE=InnoDB');
for (const failure of failures) {
  test(`calls that fail for ${failure.title} (${failure.errno}) leave the caller's transaction open and whole`, async t => {
    await observer.query('DELETE FROM diary');
    await failing(
      t,
      failure,
      async (session, i) => {
        await session.query('START TRANSACTION');
        await session.query(`INSERT INTO diary VALUES (${i})`);
      },
      async session => {
        await oneOpen(session);
        await session.query('COMMIT');
      },
    );
    assert.equal((await rows(observer, 'SELECT * FROM diary')).length, failure.calls.length);
  });
}

test('a call in a transaction that may only read is refused (1792), and the transaction stays open', async t => {
  await newDay();
  for (const procedure of writing) {
    const session = await sessionOf(t, 'START TRANSACTION READ ONLY');
    await assert.rejects(call(session, procedure), { errno: 1792 }, procedure);
    await oneOpen(session);
  }
});

test('an isolation level set for one transaction is that of the call, and not of the next', async t => {
  for (const procedure of [...writing, ...reading]) {
    await newDay();
    const session = await sessionOf(t, 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
    await call(session, procedure);
    assert.equal(await isolation(session), 'REPEATABLE READ', procedure);
  }
});

test("a get that was refused leaves the isolation level to the caller's next transaction", async t => {
  const session = await sessionOf(t, 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
  await assert.rejects(call(session, 'get(-1, NULL, NULL)'), { errno: 1644 });
  assert.equal(await isolation(session), 'SERIALIZABLE');
});

test('a get that fails before it has read anything leaves the isolation level of the next transaction as it was', async t => {
  await newDay();
  const other = await sessionOf(t, `LOCK TABLES ${table} WRITE`);
  const session = await sessionOf(t, 'SET lock_wait_timeout = 1');
  await assert.rejects(call(session, 'get(1, NULL, NULL)'), { errno: 1205 });
  await other.query('UNLOCK TABLES');
  assert.equal(await isolation(session), 'REPEATABLE READ');
});

const ids = async (session: Connection, max: number) =>
  (await call(session, `get(${max}, NULL, NULL)`)).map(({ id }) => id);

test('ids that were picked in an open transaction are not given to others, and again to anyone after a rollback', async t => {
  await newDay();
  const session = await sessionOf(t, 'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED', 'START TRANSACTION');
  assert.deepEqual(await ids(session, 2), [5, 1]);
  assert.deepEqual(await ids(session, 1), [4]);
  assert.deepEqual(await ids(observer, 9), [2]);
  await session.query('ROLLBACK');
  assert.deepEqual(await ids(observer, 9), [5, 1, 4]);
});

test('a get in a transaction goes by the loop as it is now, not as it was when the transaction began to read', async t => {
  await newDay();
  const session = await sessionOf(t, 'START TRANSACTION WITH CONSISTENT SNAPSHOT');
  assert.deepEqual(await ids(observer, 1), [5]);
  for (const procedure of ["remove('1')", "add('[6]', NULL)", "bump('2', NULL, NULL)"]) await call(observer, procedure);
  assert.deepEqual(await ids(session, 9), [2, 6, 4]);
});

/** Resolves when the session waits for a lock of another. */
async function waiting(threadId: number): Promise<void> {
  for (let tries = 200; !(await waitsForRow(threadId)); tries -= 1) {
    assert.notEqual(tries, 0, 'the session does not wait');
    await sleep(50);
  }
}

/** Makes the others lose in a deadlock: the server rolls back who has changed less. */
const changeMuch = `INSERT INTO diary VALUES ${Array.from({ length: 1000 }, (_, i) => `(${1000 + i})`).join()}`;
const updateFour = `UPDATE ${table} SET failures = failures + 1 WHERE id = 4`;

for (const procedure of writing) {
  test(`a deadlock of ${procedure} in the caller's transaction is passed on (1213), and all of it rolled back`, async t => {
    await newDay();
    const before = await contents(observer, table);
    const other = await sessionOf(t, 'START TRANSACTION', changeMuch, ...locksAgainst(procedure));
    const session = await sessionOf(t, 'START TRANSACTION', updateFour);
    const refusal = assert.rejects(call(session, procedure), { errno: 1213, sqlState: '40001' });
    await waiting(session.threadId);
    await other.query(updateFour);
    await refusal;
    await noneOpen(session);
    await other.query('ROLLBACK');
    assert.deepEqual(await contents(observer, table), before);
  });

  test(`a kill of the waiting ${procedure} leaves the caller's transaction open and whole`, async t => {
    await newDay();
    const before = await contents(observer, table);
    const other = await sessionOf(t, 'START TRANSACTION', ...locksAgainst(procedure));
    await observer.query('DELETE FROM diary');
    const session = await sessionOf(t, 'START TRANSACTION', 'INSERT INTO diary VALUES (1)');
    const refusal = assert.rejects(call(session, procedure), { errno: 1317 });
    await waiting(session.threadId);
    await observer.query(`KILL QUERY ${session.threadId}`);
    await refusal;
    await other.query('ROLLBACK');
    await oneOpen(session);
    await session.query('COMMIT');
    assert.deepEqual(await rows(observer, 'SELECT n FROM diary'), [{ n: 1 }]);
    assert.deepEqual(await contents(observer, table), before);
  });
}

test('a get by itself that loses a deadlock picks again', async t => {
  await newDay();
  const other = await sessionOf(t, 'START TRANSACTION', changeMuch, ...lockFuture);
  const session = await sessionOf(t);
  const answer = ids(session, 3);
  await waiting(session.threadId);
  await other.query(updateFour);
  // It has picked anew, past id 4, and waits for the same lock once more (the server's table of waits is 0.1 s old).
  await sleep(110);
  await waiting(session.threadId);
  await other.query('COMMIT');
  assert.deepEqual(await answer, [5, 1, 2], 'id 4 is locked by the other now');
  await noneOpen(session);
});

test('a get on a pool that was killed keeps no ids, and the next is a transaction by itself', async t => {
  await newDay();
  const other = await sessionOf(t, 'START TRANSACTION', ...lockFuture);
  const pool = makePool({ connectionLimit: 1 });
  const loop = new DoLoop(pool, table);
  const [{ id: threadId }] = (await rows(pool, 'SELECT CONNECTION_ID() AS id')) as [{ id: number }];
  const refusal = assert.rejects(loop.get(3), { errno: 1317 });
  await waiting(threadId);
  await observer.query(`KILL QUERY ${threadId}`);
  await refusal;
  await other.query('ROLLBACK');
  const got: number[] = [];
  while (got.length < 4) got.push(...(await loop.get(4)));
  assert.deepEqual(got.sort(), [1, 2, 4, 5]);
  assert.equal((await rows(observer, `SELECT id FROM ${table} WHERE lock_until > UNIX_TIMESTAMP()`)).length, 5);
});
