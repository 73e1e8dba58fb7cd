/** Workers that are killed, or told to end, in the middle: nothing is lost. (Of the server: faults-server.test.ts.) */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection } from 'mysql2/promise';
import { connect, contents, makeLoop, type Row } from './harness.js';
import { until } from './until.js';
import { startWorker } from './worker-process.js';

const connection = await connect();
const IDS = 1_200;

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
