/** Workers that are killed, or told to end, and a server that is killed, all in the middle: nothing is lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type Connection } from 'mysql2/promise';
import { startServer } from '../scripts/server.js';
import { create, DoLoop, type WorkEvent } from '../src/index.js';
import { connect, contents, makeLoop, type Row, server } from './harness.js';
import { until } from './until.js';
import { startWorker } from './worker-process.js';

const connection = await connect();
const IDS = 300;

async function newLoop(count = IDS): Promise<string> {
  const { table, loop } = await makeLoop(connection);
  await loop.add(Array.from({ length: count }, (_, i) => i + 1));
  return table;
}

async function split(one: Connection, table: string): Promise<{ all: Row[]; updated: number[]; locked: number[] }> {
  const all = await contents(one, table);
  const ids = (holds: (row: Row) => boolean) => all.filter(holds).map(({ id }) => Number(id));
  return { all, updated: ids(row => row.last_updated !== null), locked: ids(row => row.lock_until !== null) };
}

const missing = (ids: number[], from: number[]) => ids.filter(id => !from.includes(id));

test('SIGTERM: what runs ends and is marked, what was not begun is unlocked', async () => {
  const table = await newLoop();
  const worker = startWorker(table);
  await until('it is in the middle', () => worker.updated().length >= 50);
  worker.child.kill('SIGTERM');
  const { code, summary } = await worker.ended;
  assert.equal(code, 0);
  const { all, updated, locked } = await split(connection, table);
  assert.equal(all.length, IDS);
  assert.deepEqual(locked, []);
  assert.deepEqual(
    updated,
    worker.updated().sort((a, b) => a - b),
  );
  assert.ok(updated.length < IDS);
  assert.equal(summary!.did, updated.length);
  assert.ok(summary!.unlocked > 0);
  assert.deepEqual([summary!.failed, summary!.left], [0, 0]);
});

test('kill -9 of a worker: its locks run out, and another one updates all that it had', async () => {
  const table = await newLoop();
  const [killed, other] = [startWorker(table), startWorker(table)];
  await until('both are in the middle', () => killed.updated().length >= 25 && other.updated().length >= 25);
  killed.child.kill('SIGKILL');
  assert.equal((await killed.ended).signal, 'SIGKILL');
  const left = (await split(connection, table)).locked;
  assert.ok(left.length > 0);
  await until('all are updated', async () => (await split(connection, table)).updated.length === IDS);
  other.child.kill('SIGTERM');
  const { code, summary } = await other.ended;
  assert.equal(code, 0);
  assert.deepEqual((await split(connection, table)).locked, []);
  assert.equal(summary!.did, other.updated().length);
  assert.deepEqual([summary!.failed, summary!.left], [0, 0]);
  assert.deepEqual(
    missing(
      Array.from({ length: IDS }, (_, i) => i + 1),
      [...killed.updated(), ...other.updated()],
    ),
    [],
  );
});

test('kill -9 of the server, and its restart: the work goes on, and all that was updated is marked', {
  timeout: 120_000,
}, async t => {
  const own = await startServer({ kind: server.kind });
  t.after(own.stop);
  const count = 3_000;
  const setUp = await mysql.createConnection({ uri: own.url });
  await setUp.query('CREATE DATABASE app');
  await setUp.query('USE app');
  await create(setUp, 'user_loop');
  await new DoLoop(setUp, 'user_loop').add(Array.from({ length: count }, (_, i) => i + 1));
  await setUp.end();

  const pool = mysql.createPool({ uri: own.url, database: 'app' });
  const stop = new AbortController();
  t.after(async () => {
    stop.abort();
    await pool.end();
  });
  const loop = new DoLoop(pool, 'user_loop');
  const acknowledged = new Set<number>();
  const events: WorkEvent<number>[] = [];
  const working = loop.work(
    async id => {
      await sleep(1);
      acknowledged.add(id);
    },
    {
      ...{ maxIds: 50, lockFor: 3, concurrency: 2, pollInterval: 1, gracePeriod: 5, signal: stop.signal },
      onEvent: event => void events.push(event),
    },
  );
  working.catch(() => {}); // is awaited below
  await until('it is in the middle', () => acknowledged.size >= 500);
  await own.kill();
  await until('it has noticed', () => events.some(({ type }) => type === 'retry'));
  const before = [...acknowledged];
  assert.ok(before.length < count);
  await own.restart();
  await until('all are updated', async () => {
    const { delayed: _, total, neverUpdated, locked, bumped } = await loop.stats({ delayThresholds: [1] });
    return total === count && neverUpdated === 0 && locked === 0 && bumped === 0;
  });
  stop.abort();
  const summary = await working;
  const after = await mysql.createConnection({ uri: own.url, database: 'app' });
  const { all, updated, locked } = await split(after, 'user_loop');
  await after.end();
  assert.equal(all.length, count);
  assert.deepEqual(missing([...acknowledged], updated), []);
  assert.deepEqual(locked, []);
  assert.equal(acknowledged.size, count);
  assert.ok(summary.did >= count && summary.failed === 0 && summary.left === 0);
});
