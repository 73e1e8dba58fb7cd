/** Workers that are killed or frozen, and pools that are full or ended: what the others see, and what the table holds. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type Connection } from 'mysql2/promise';
import { DoLoop, type WorkEvent } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import { connect, contents, database, makeLoop, makePool, type Row, rows, server, waitsForRow } from './harness.js';
import { quickOrLong } from './long.js';
import { beginDoloop, ended, folder } from './run-doloop.js';
import { until } from './until.js';
import { startWorker, type WorkerProcess } from './worker-process.js';

const connection = await connect();

const numbers = (count: number, from = 1) => Array.from({ length: count }, (_, i) => from + i);
const idsOf = (all: Row[]) => all.map(({ id }) => Number(id));
const byId = (a: number, b: number) => a - b;

async function rejection(call: Promise<unknown>): Promise<MySqlError> {
  return call.then(
    () => assert.fail('it was not refused'),
    (error: MySqlError) => error,
  );
}

async function loopOf(ids: number[]): Promise<{ table: string; loop: DoLoop }> {
  const made = await makeLoop(connection);
  await made.loop.add(ids);
  return made;
}

const untilDue = (table: string) =>
  until('the locks have run out', async () => {
    const all = await rows(connection, `SELECT 1 FROM ${table} WHERE lock_until > UNIX_TIMESTAMP()`);
    return all.length === 0;
  });

suite('workers', { concurrency: true }, () => {
  test('kill -9 of one worker after another under load: all is updated, and nothing twice but what a killed one had', {
    timeout: 240_000,
  }, async t => {
    const { table, loop } = await loopOf([]);
    const begin = () => {
      const worker = startWorker(table, { lockFor: 4 });
      t.after(() => worker.child.kill('SIGKILL'));
      return worker;
    };
    const killed: WorkerProcess[] = [];
    const workers = [begin(), begin(), begin()];
    let count = 0;
    for (let round = 0; round < quickOrLong(3, 40); round += 1) {
      await loop.add(numbers(200, count + 1));
      count += 200;
      const victim = workers.shift()!;
      const before = victim.updated().length;
      await until('it has updated some', async () => {
        if (victim.updated().length > before) return true;
        await loop.add(numbers(20, count + 1)); // the others may have had all there was while it slept
        count += 20;
        return false;
      });
      await sleep(Math.random() * 50);
      victim.child.kill('SIGKILL');
      assert.equal((await victim.ended).signal, 'SIGKILL');
      killed.push(victim);
      workers.push(begin());
    }
    await until('all are updated', async () => {
      const all = await contents(connection, table);
      return all.every(row => row.last_updated !== null && row.lock_until === null);
    });
    for (const { child } of workers) child.kill('SIGTERM');
    for (const worker of workers) {
      const { code, summary } = await worker.ended;
      assert.equal(code, 0);
      assert.deepEqual([summary!.failed, summary!.left], [0, 0]);
    }
    assert.deepEqual(idsOf(await contents(connection, table)), numbers(count));
    const times = new Map<number, number>();
    for (const id of [...killed, ...workers].flatMap(worker => worker.updated())) {
      times.set(id, (times.get(id) ?? 0) + 1);
    }
    assert.deepEqual([...times.keys()].sort(byId), numbers(count));
    // Who was not heard to the end, or has told that another may have it, too.
    const excused = new Set([...killed.flatMap(one => one.updated()), ...workers.flatMap(one => one.lost())]);
    const twice = [...times].filter(([, n]) => n > 1).map(([id]) => id);
    assert.deepEqual(
      twice.filter(id => !excused.has(id)),
      [],
    );
  });

  test('a worker frozen past its lease: what it then marks is marked, and the locks of who has the ids now stay whole', async t => {
    const { table, loop } = await loopOf(numbers(200));
    const frozen = startWorker(table, { maxIds: 10, concurrency: 2, lockFor: 2 }, 150);
    t.after(() => frozen.child.kill('SIGKILL'));
    await until('it is in the middle', () => frozen.updated().length >= 2);
    frozen.child.kill('SIGSTOP');
    await untilDue(table);
    const marked = await contents(connection, table);
    const other = await loop.get(1_000);
    const theirs = other.map(Number).sort(byId);
    assert.ok(theirs.length > 0);
    frozen.child.kill('SIGCONT');
    await until('it has lost some', () => frozen.lost().length > 0);
    frozen.child.kill('SIGTERM');
    const { code, summary } = await frozen.ended;
    assert.equal(code, 0);
    const said = [...new Set(frozen.updated())].sort(byId);
    const after = await contents(connection, table);
    assert.deepEqual(idsOf(after.filter(row => row.lock_until === other.lease)), theirs, 'the locks are whole');
    assert.deepEqual(idsOf(after.filter(row => row.last_updated !== null)), said, 'what was updated is marked');
    assert.ok(frozen.lost().every(id => theirs.includes(id)));
    // What it had in hand, and was not marked before.
    const inHand = theirs.filter(id => marked.find(row => row.id === id)!.lock_until !== null);
    assert.deepEqual([...new Set(frozen.lost())].sort(byId), inHand);
    assert.equal(summary!.lost, inHand.length);
    assert.equal(await loop.did(other), theirs.length);
    assert.ok((await contents(connection, table)).every(row => row.last_updated !== null && row.lock_until === null));
  });

  test('a worker frozen for less than its lease holds it: nobody else gets its ids', async t => {
    const { table, loop } = await loopOf(numbers(7));
    const frozen = startWorker(table, { maxIds: 7, concurrency: 1, lockFor: 9 }, 1_000);
    t.after(() => frozen.child.kill('SIGKILL'));
    await until('it has ids', async () => (await loop.next()) !== 0);
    const before = (await contents(connection, table)).map(row => row.lock_until);
    frozen.child.kill('SIGSTOP');
    await sleep(4_500); // it would have extended them after four seconds
    assert.deepEqual(
      (await contents(connection, table)).map(row => row.lock_until),
      before,
    );
    frozen.child.kill('SIGCONT');
    await until('all are updated', async () => {
      assert.deepEqual([...(await loop.get(7))], []);
      return (await contents(connection, table)).every(row => row.last_updated !== null);
    });
    frozen.child.kill('SIGTERM');
    assert.deepEqual((await frozen.ended).summary, { did: 7, failed: 0, unlocked: 0, left: 0, lost: 0 });
    assert.deepEqual(frozen.updated(), numbers(7));
  });

  test('doloop work frozen past its lease, while its command goes on: the same', async t => {
    const { table, loop } = await loopOf(numbers(4));
    const file = join(folder, table);
    const wait = `echo begun; n=0; until test -e '${file}' || test $((n = n + 1)) -gt 1000; do sleep 0.05; done; echo ended`;
    const worker = beginDoloop(['work', table, '--lock-for', '2', '--limit', '4', '--', 'sh', '-c', wait]);
    t.after(() => worker.kill('SIGKILL'));
    const end = ended(worker);
    await once(worker.stdout!, 'data');
    worker.kill('SIGSTOP');
    await untilDue(table);
    const other = await loop.get(4);
    assert.equal(other.length, 4);
    writeFileSync(file, '');
    worker.kill('SIGCONT');
    await until('it has marked them', async () =>
      (await contents(connection, table)).every(row => row.last_updated !== null),
    );
    assert.ok((await contents(connection, table)).every(row => row.lock_until === other.lease));
    worker.kill('SIGTERM');
    const { signal, stderr } = await end;
    assert.equal(signal, 'SIGTERM');
    assert.match(stderr, /lost 4 ids, bumped or removed meanwhile, or late: 1, 2, 3, 4\n/);
    assert.match(stderr, /4 done, 0 failed, 4 lost/);
    assert.equal(await loop.unlock(other), 4);
  });
});

suite('a pool of which all connections are in use', () => {
  test('calls wait for one; any number of them, and no more connections are made than the pool may have', async () => {
    const { table } = await loopOf([]);
    const pool = makePool({ connectionLimit: 3 });
    const threads = new Set<number>();
    pool.on('connection', one => threads.add(one.threadId));
    const loop = new DoLoop(pool, table);
    const added = await Promise.all(numbers(300).map(id => loop.add(id)));
    assert.ok(added.every(n => n === 1));
    assert.equal(threads.size, 3);
  });

  const FULL = [
    ['waitForConnections: false', { waitForConnections: false }, 'No connections available.'],
    ['queueLimit', { queueLimit: 1 }, 'Queue limit reached.'],
  ] as const;
  for (const [what, options, message] of FULL) {
    test(`with ${what} a call is refused, does nothing, and is not made again by itself`, async () => {
      const { table } = await loopOf([]);
      const pool = makePool({ connectionLimit: 1, ...options });
      const loop = new DoLoop(pool, table);
      const held = await pool.getConnection();
      const waiting = what === 'queueLimit' ? [loop.add(1)] : [];
      const error = await rejection(loop.add(2));
      assert.equal(error.message, message);
      held.release();
      assert.deepEqual(
        await Promise.all(waiting),
        waiting.map(() => 1),
      );
      assert.equal(await loop.add(3), 1);
      assert.deepEqual(idsOf(await contents(connection, table)), what === 'queueLimit' ? [1, 3] : [3]);
    });

    test(`with ${what} work() tells of it, and goes on when there is one`, async () => {
      const { table } = await loopOf([1, 2]);
      const pool = makePool({ connectionLimit: 1, ...options });
      const held = await pool.getConnection();
      const waiting = what === 'queueLimit' ? pool.query('DO 0') : undefined;
      const told: string[] = [];
      const summary = await new DoLoop(pool, table).work(() => {}, {
        once: true,
        onEvent: event => {
          if (event.type !== 'retry') return;
          told.push(`${event.call}: ${(event.error as Error).message}`);
          if (event.attempt === 3) held.release();
        },
      });
      await waiting;
      assert.deepEqual(summary, { did: 2, failed: 0, unlocked: 0, left: 0, lost: 0 });
      // Later its own calls may have been in each other's way.
      assert.deepEqual(told.slice(0, 3), [`get: ${message}`, `get: ${message}`, `get: ${message}`]);
    });
  }
});

/** Somebody who holds the id 1 of a table until the test is over, or lets go of it. */
async function holding(t: TestContext, table: string): Promise<Connection> {
  const holder = await connect();
  t.after(() => holder.destroy());
  await holder.beginTransaction();
  await new DoLoop(holder, table).did(1);
  return holder;
}

suite('a pool that is ended, a connection that is destroyed', () => {
  test('pool.end() in the middle of work(): it ends, with that error; what is not marked stays locked until its time', {
    timeout: 60_000,
  }, async () => {
    const { table } = await loopOf(numbers(10));
    const pool = mysql.createPool({ uri: server.url, database });
    let given: AbortSignal | undefined;
    const events: WorkEvent<number>[] = [];
    const error = await rejection(
      new DoLoop(pool, table).work(
        async (id, { signal }) => {
          given = signal;
          if (id === 3) await pool.end();
        },
        { maxIds: 5, gracePeriod: 0, onEvent: event => void events.push(event) },
      ),
    );
    assert.equal(error.message, 'Pool is closed.');
    assert.equal(given!.aborted, true);
    const all = await contents(connection, table);
    assert.ok(all.every(row => row.last_updated === null));
    assert.deepEqual(idsOf(all.filter(row => row.lock_until !== null)).slice(0, 5), numbers(5));
  });

  test('pool.end() in the middle of a call: the call comes to its end before', async t => {
    const { table } = await loopOf([1, 2]);
    const holder = await holding(t, table);
    const pool = mysql.createPool({ uri: server.url, database });
    const id = (await rows(pool, 'SELECT CONNECTION_ID() AS id'))[0]!.id as number;
    const call = new DoLoop(pool, table).bump([1, 2]);
    await until('it waits', () => waitsForRow(id));
    const end = pool.end();
    await holder.rollback();
    assert.equal(await call, 2);
    await end;
  });

  test('pool.end() in the middle of a call of several statements: it is refused, and nothing is done', async t => {
    const { table } = await loopOf([1, 2]);
    const holder = await holding(t, table);
    const pool = mysql.createPool({ uri: server.url, database });
    const id = (await rows(pool, 'SELECT CONNECTION_ID() AS id'))[0]!.id as number;
    const call = rejection(new DoLoop(pool, table).bump([1, 2], { dryRun: true }));
    await until('it waits', () => waitsForRow(id));
    const end = pool.end();
    await holder.rollback();
    assert.match((await call).message, /closed/);
    await end;
    assert.ok((await contents(connection, table)).every(row => row.lock_until === null));
  });

  test('a connection that its owner destroys in the middle of a call: the server does it all the same, and answers', async t => {
    const { table } = await loopOf([1, 2]);
    const holder = await holding(t, table);
    const own = await connect();
    const id = (await rows(own, 'SELECT CONNECTION_ID() AS id'))[0]!.id as number;
    const call = new DoLoop(own, table).bump([1, 2]);
    await until('it waits', () => waitsForRow(id));
    own.destroy();
    await holder.rollback();
    assert.equal(await call, 2);
    assert.ok((await contents(connection, table)).every(row => row.lock_until !== null));
    assert.match((await rejection(new DoLoop(own, table).bump(1))).message, /closed state/);
  });
});
