import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, suite, test } from 'node:test';
import mysql, { type Connection, type Pool, type PoolOptions } from 'mysql2/promise';
import { DoLoop } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import { connect, contents, inTransaction, makeLoop, makePool, rows, standIn, waitsForRow } from './harness.js';
import { until } from './until.js';

const connection = await connect();

/** A pool of one connection; one that was not given back is an error, rather than a wait without end. */
function single(options: PoolOptions = {}): Pool {
  return makePool({ connectionLimit: 1, waitForConnections: false, ...options });
}

/** Those who hold something that others wait for, until the test is over at the latest. */
const holders: Connection[] = [];
afterEach(() => {
  for (const holder of holders.splice(0)) holder.destroy();
});
async function connectHolder(): Promise<Connection> {
  const holder = await connect();
  holders.push(holder);
  return holder;
}

/** Which connection the pool of one has. */
async function thread(pool: Pool | Connection): Promise<number> {
  return (await rows(pool, 'SELECT CONNECTION_ID() AS id'))[0]!.id;
}

const isGone = (id: number) =>
  until(`the end of connection ${id}`, async () =>
    (await rows(connection, 'SHOW PROCESSLIST')).every(({ Id }) => Id !== id),
  );

const untilItWaitsForRow = (id: number) => until(`connection ${id} waits for a row`, () => waitsForRow(id));

const waitsForTable = (id: number) =>
  until(`connection ${id} waits for the table`, async () =>
    (await rows(connection, 'SHOW PROCESSLIST')).some(({ Id, State }) => Id === id && /metadata lock/.test(State)),
  );

async function rejection(call: Promise<unknown>): Promise<MySqlError> {
  return call.then(
    () => assert.fail('it was not refused'),
    (error: MySqlError) => error,
  );
}

/**
 * A loop whose `add` fails the first times it is called, with this error, and then answers how often it was called;
 * and the connections that called it.
 */
async function faulty(
  target: Pool | Connection,
  times: number,
  [errno, sqlState]: readonly [number, string],
): Promise<{ loop: DoLoop; calledBy: () => Promise<number[]> }> {
  const { table } = await makeLoop(connection);
  await connection.query(`CREATE TABLE ${table}_calls (n INT AUTO_INCREMENT PRIMARY KEY, thread INT)`);
  await connection.query(`DROP PROCEDURE ${table}_add`);
  await connection.query(`CREATE PROCEDURE ${table}_add(IN in_ids LONGTEXT, IN in_updated BOOLEAN)
    BEGIN
      INSERT INTO ${table}_calls (thread) VALUES (CONNECTION_ID());
      IF (SELECT COUNT(*) FROM ${table}_calls) <= ${times} THEN
        SIGNAL SQLSTATE '${sqlState}' SET MYSQL_ERRNO = ${errno}, MESSAGE_TEXT = 'as ordered';
      END IF;
      SELECT COUNT(*) AS added FROM ${table}_calls;
    END`);
  return {
    loop: new DoLoop(target, table),
    calledBy: async () =>
      (await rows(connection, `SELECT thread FROM ${table}_calls ORDER BY n`)).map(one => one.thread),
  };
}

const ROLLED_BACK = [
  ['a deadlock', 1213, '40001'],
  ['a conflict in the group', 3101, '40000'],
  ['a conflict at the commit', 1180, 'HY000'],
] as const;
const LOST = [
  ['a server that shuts down', 1053, '08S01'],
  ['a server gone away', 2006, 'HY000'],
  ['a connection lost during the call', 2013, 'HY000'],
  ['a node that lost its group', 3100, 'HY000'],
  ['a connection that was idle too long', 4031, 'HY000'],
  ['a node that is read-only', 1290, 'HY000'],
  ['a node that is not ready', 1047, '08S01'],
] as const;
const FINAL = [
  ['a wait for a lock too long', 1205, 'HY000'],
  ['a duplicate key', 1062, '23000'],
  ['a refused argument', 1644, '45000'],
  ['a call that was killed', 1317, '70100'],
] as const;

suite('errors that are meant to be repeated', () => {
  for (const [what, ...error] of [...ROLLED_BACK, ...LOST]) {
    const sameConnection = ROLLED_BACK.some(([, errno]) => errno === error[0]);
    test(`${what} (${error[0]}): on a pool the call is made again, on ${sameConnection ? 'the same' : 'another'} connection`, async () => {
      const pool = single();
      const { loop, calledBy } = await faulty(pool, 2, error);
      assert.equal(await loop.add(1), 3);
      assert.equal(new Set(await calledBy()).size, sameConnection ? 1 : 3);
      assert.equal(await loop.add(1), 4);
    });
    test(`${what} (${error[0]}): on a connection it is thrown at once`, async () => {
      const { loop, calledBy } = await faulty(connection, 2, error);
      assert.equal((await rejection(loop.add(1))).errno, error[0]);
      assert.equal((await calledBy()).length, 1);
    });
  }

  for (const [what, ...error] of [ROLLED_BACK[0], LOST[0]]) {
    test(`${what} that never ends (${error[0]}): after some times it is thrown`, async () => {
      const pool = single();
      const { loop, calledBy } = await faulty(pool, 1000, error);
      assert.equal((await rejection(loop.add(1))).errno, error[0]);
      const times = (await calledBy()).length;
      assert.ok(times > 2 && times < 20, `${times} times`);
      assert.ok(await thread(pool));
    });
  }

  for (const [what, ...error] of FINAL) {
    test(`${what} (${error[0]}): is thrown at once on a pool, too`, async () => {
      const pool = single();
      const { loop, calledBy } = await faulty(pool, 2, error);
      const thrown = await rejection(loop.add(1));
      assert.equal(thrown.errno ?? (thrown.cause as MySqlError).errno, error[0]);
      assert.equal((await calledBy()).length, 1);
      assert.ok(await thread(pool));
    });
  }

  test('a call that goes in pieces is made again from the first', async () => {
    const { table } = await makeLoop(connection);
    let calls = 0;
    const target = standIn(single(), sql => {
      if (sql.startsWith('CALL') && ++calls === 2) throw Object.assign(new Error('as ordered'), { errno: 1213 });
      return sql.includes('@@max_allowed_packet') ? [{ bytes: 20_000 }] : undefined;
    });
    const ids = Array.from({ length: 4000 }, (_, i) => 10_000 + i);
    assert.equal(await new DoLoop(target, table).add(ids), 4000);
    assert.ok(calls > 4);
    assert.equal((await contents(connection, table)).length, 4000);
  });

  test('a server that hangs up on whoever connects is tried some times', async t => {
    let times = 0;
    const listener = createServer(socket => {
      times += 1;
      socket.destroy();
    }).listen(0, '127.0.0.1');
    t.after(() => listener.close());
    await once(listener, 'listening');
    const pool = mysql.createPool({ host: '127.0.0.1', port: (listener.address() as AddressInfo).port });
    t.after(() => pool.end());
    await assert.rejects(new DoLoop(pool, 'user_loop').next());
    assert.ok(times > 2 && times < 20, `${times} times`);
  });
});

suite('deadlocks', () => {
  /** Two who lock the ids 1 and 2 the other way round; the one whose call it is has less to lose, and loses. */
  async function deadlock(call: (loop: string) => Promise<unknown>, id: () => Promise<number>): Promise<unknown> {
    const { table, loop } = await makeLoop(connection);
    await loop.add([1, 2]);
    const heavy = await connectHolder();
    await heavy.beginTransaction();
    await new DoLoop(heavy, table).add(Array.from({ length: 100 }, (_, i) => 1000 + i));
    await new DoLoop(heavy, table).did(2);
    const waiting = call(table);
    waiting.catch(() => {});
    await untilItWaitsForRow(await id());
    await new DoLoop(heavy, table).did(1);
    await heavy.commit();
    return waiting;
  }

  test('on a pool the call of the loser is made again', async () => {
    const pool = single();
    const id = await thread(pool);
    assert.equal(
      await deadlock(
        table => new DoLoop(pool, table).bump([1, 2]),
        async () => id,
      ),
      2,
    );
  });

  test('on a connection the loser learns of it', async () => {
    const own = await connect();
    await own.beginTransaction();
    const id = await thread(own);
    const call = deadlock(
      table => new DoLoop(own, table).bump([1, 2]),
      async () => id,
    );
    assert.equal((await rejection(call)).errno, 1213);
    assert.equal(await inTransaction(own), false);
  });
});

suite('calls that are killed', () => {
  /** A loop of which somebody holds the id 1. */
  async function held(): Promise<{ table: string; letGo: () => Promise<void> }> {
    const { table, loop } = await makeLoop(connection);
    await loop.add([1, 2]);
    const holder = await connectHolder();
    await holder.beginTransaction();
    await new DoLoop(holder, table).bump(1, { lockFor: 900 });
    return { table, letGo: () => holder.rollback() };
  }

  test('KILL CONNECTION: on a pool the call is made again, on another connection', async () => {
    const { table, letGo } = await held();
    const pool = single();
    const id = await thread(pool);
    const call = new DoLoop(pool, table).did([1, 2]);
    await untilItWaitsForRow(id);
    await connection.query(`KILL CONNECTION ${id}`);
    await letGo();
    assert.equal(await call, 2);
    assert.notEqual(await thread(pool), id);
  });

  test('KILL CONNECTION: on a connection it is thrown', async () => {
    const { table, letGo } = await held();
    const own = await connect();
    own.on('error', () => {});
    const id = await thread(own);
    const call = rejection(new DoLoop(own, table).did([1, 2]));
    await untilItWaitsForRow(id);
    await connection.query(`KILL CONNECTION ${id}`);
    assert.equal((await call).code, 'PROTOCOL_CONNECTION_LOST');
    await letGo();
  });

  test('KILL QUERY: is thrown, and the connection closed, not given back', async () => {
    const { table, letGo } = await held();
    const pool = single();
    const id = await thread(pool);
    const call = rejection(new DoLoop(pool, table).did([1, 2]));
    await untilItWaitsForRow(id);
    await connection.query(`KILL QUERY ${id}`);
    assert.equal((await call).errno, 1317);
    await isGone(id);
    assert.notEqual(await thread(pool), id);
    await letGo();
    assert.equal(await new DoLoop(pool, table).did([1, 2]), 2);
  });

  test('KILL QUERY: a get that waits for the table locks nothing, and its connection is closed, too', async () => {
    const { table, loop } = await makeLoop(connection);
    await loop.add([1, 2]);
    const holder = await connectHolder();
    await holder.query(`LOCK TABLES ${table} WRITE`);
    const pool = single();
    const id = await thread(pool);
    const call = rejection(new DoLoop(pool, table).get(2));
    await waitsForTable(id);
    await connection.query(`KILL QUERY ${id}`);
    assert.equal((await call).errno, 1317);
    await isGone(id);
    await holder.query('UNLOCK TABLES');
    assert.equal((await new DoLoop(pool, table).get(2)).length, 2);
    assert.notEqual(await thread(pool), id);
  });

  test('KILL QUERY: on a connection it is thrown, and the connection stays the caller’s', async () => {
    const { table, letGo } = await held();
    const own = await connect();
    const id = await thread(own);
    const call = rejection(new DoLoop(own, table).did([1, 2]));
    await untilItWaitsForRow(id);
    await connection.query(`KILL QUERY ${id}`);
    assert.equal((await call).errno, 1317);
    assert.equal(await thread(own), id);
    await letGo();
  });

  test('those who wait for the one connection of a pool get their turn, and no connection stays behind', {
    timeout: 60_000,
  }, async () => {
    const { table, letGo } = await held();
    const threads: number[] = [];
    const pool = makePool({ connectionLimit: 1 });
    pool.on('connection', one => threads.push(one.threadId));
    const loop = new DoLoop(pool, table);
    const id = await thread(pool);
    const calls = [loop.did([1, 2]), ...[3, 4, 5].map(id => loop.add(id))];
    await untilItWaitsForRow(id);
    await connection.query(`KILL CONNECTION ${id}`);
    await letGo();
    assert.deepEqual(await Promise.all(calls), [2, 1, 1, 1]);
    for (const old of threads.filter(one => one !== threads.at(-1))) await isGone(old);
    assert.equal(await thread(pool), threads.at(-1));
  });
});

suite('transactions that somebody left open on a connection of the pool', async () => {
  await connection.query('CREATE TABLE notes (n INT PRIMARY KEY) ENGINE=InnoDB');

  const CALLS: [string, (loop: DoLoop) => Promise<unknown>, unknown, committed: boolean][] = [
    ['add', l => l.add([1, 2]), 2, true],
    ['get', async l => [...(await l.get(5))], [7], true],
    ['remove', l => l.remove(7), 1, true],
    ['check', async l => (await l.check(7)).length, 1, false],
    ['a dry run', l => l.add([1, 2], { dryRun: true }), 2, false],
  ];
  for (const [name, call, answer, committed] of CALLS) {
    test(`${name} is done on another connection, and what was left is rolled back`, async () => {
      const { table, loop } = await makeLoop(connection);
      await loop.add(7);
      const before = await contents(connection, table);
      const pool = single();
      const left = await pool.getConnection();
      holders.push(left);
      await left.beginTransaction();
      await left.query('INSERT INTO notes VALUES (1)');
      left.release();

      assert.deepEqual(await call(new DoLoop(pool, table)), answer);
      assert.notEqual(await thread(pool), left.threadId);
      await isGone(left.threadId);
      assert.deepEqual(await rows(connection, 'SELECT n FROM notes'), []);
      const after = await contents(connection, table);
      if (committed) assert.notDeepEqual(after, before);
      else assert.deepEqual(after, before);
    });
  }

  test('where all of them are like that, it is thrown', async () => {
    const { table } = await makeLoop(connection);
    const pool = single();
    pool.on('connection', one => one.query('BEGIN'));
    await assert.rejects(new DoLoop(pool, table).add(1), /came with a transaction open/);
    assert.deepEqual(await contents(connection, table), []);
  });
});

suite('pools with autocommit off', () => {
  function manual(): Pool {
    const pool = single();
    pool.on('connection', one => one.query('SET autocommit = 0, innodb_lock_wait_timeout = 1'));
    return pool;
  }

  test('each call is committed', async () => {
    const { table } = await makeLoop(connection);
    const loop = new DoLoop(manual(), table);
    const seen = async () => (await contents(connection, table))[0];
    await loop.add(1);
    assert.ok(await seen());
    const batch = await loop.get(1);
    assert.equal((await seen())!.lock_until, batch.lease);
    await loop.extend(batch, { lockFor: 9000 });
    assert.equal((await seen())!.lock_until, batch.lease);
    await loop.fail(batch);
    assert.equal((await seen())!.failures, 1);
    await loop.did(1);
    assert.equal((await seen())!.failures, 0);
    await loop.bump(1);
    assert.notEqual((await seen())!.lock_until, null);
    await loop.unlock(1);
    assert.equal((await seen())!.lock_until, null);
    await loop.remove(1);
    assert.equal(await seen(), undefined);
  });

  test('a reading call leaves no transaction open', async () => {
    const { table } = await makeLoop(connection);
    for (const call of [(l: DoLoop) => l.check(1), (l: DoLoop) => l.stats(), (l: DoLoop) => l.next()]) {
      const pool = manual();
      await call(new DoLoop(pool, table));
      assert.equal(await inTransaction(pool), false);
    }
  });

  test('a call that failed leaves nothing locked', async () => {
    const { table, loop } = await makeLoop(connection);
    await loop.add([1, 2]);
    const pool = manual();
    const holder = await connectHolder();
    await holder.beginTransaction();
    await new DoLoop(holder, table).did(2);
    assert.equal((await rejection(new DoLoop(pool, table).did([1, 2]))).errno, 1205); // has locked the id 1
    const other = await connect();
    await other.query('SET innodb_lock_wait_timeout = 1');
    assert.equal(await new DoLoop(other, table).did(1), 1);
    assert.equal(await inTransaction(pool), false);
    await holder.rollback();
  });
});
