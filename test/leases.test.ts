/** Leases: the lock_until that get gave, handed back, guards the lock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Procedure } from '../src/render.js';
import {
  callProcedure,
  connect,
  connectFrozen,
  fill,
  fullRows,
  makeLoop,
  NOW,
  type RowValues,
  rowsOf,
  setClock,
} from './harness.js';

const HOUR = 3600;
const LEASE = NOW + HOUR;
const OLD = NOW - 9000;

const connection = await connectFrozen();
const { table } = await makeLoop(connection);

const call = (procedure: Procedure, ...args: unknown[]) => callProcedure(connection, table, procedure, ...args);
/** Sets the clock for the calls that follow. */
const at = (time: number) => setClock(connection, time);
const given = async (...before: RowValues[]) => {
  await at(NOW);
  await fill(connection, table, before);
};
const holds = async (...after: RowValues[]) => assert.deepEqual(await rowsOf(connection, table), fullRows(after));
const gives = async (answer: Promise<Record<string, unknown>[]>, ...values: unknown[][]) =>
  assert.deepEqual((await answer).map(Object.values), values);

/** What stands in the table when a worker comes back with its lease, and why. */
const BEFORE: RowValues[] = [
  [1, OLD, LEASE, 2], // still its lock
  [2, null, LEASE, 0], // still its lock, for the first time
  [3, OLD, NOW - 5, 2], // bumped
  [4, OLD, LEASE - 1, 2], // bumped, or another's lock
  [5, OLD, LEASE + 1, 2], // another's lock
  [6, OLD, null, 2], // unlocked
];
const NOBODYS: RowValues[] = BEFORE.slice(2);
/** All of these, and one that was never there. */
const IDS = '[1, 2, 3, 4, 5, 6, 7]';

for (const autoAdd of [null, true, false]) {
  const added = autoAdd === false ? 0 : 1;

  test(`did with a lease marks all ids, opens only what is its lock; auto_add = ${autoAdd}`, async () => {
    await given(...BEFORE);
    await gives(call('did', IDS, autoAdd, LEASE), [6 + added]);
    const left: RowValues[] = NOBODYS.map(([id, , lockUntil]) => [id, NOW, lockUntil, 0]);
    await holds([1, NOW], [2, NOW], ...left, ...([[7, NOW]] satisfies RowValues[]).slice(0, added));
  });

  test(`unlock with a lease opens only what is its lock; auto_add = ${autoAdd}`, async () => {
    await given(...BEFORE);
    await gives(call('unlock', IDS, autoAdd, LEASE), [2 + added]);
    await holds([1, OLD, null, 2], [2], ...NOBODYS, ...([[7]] satisfies RowValues[]).slice(0, added));
  });
}

for (const lockFor of [null, 50, 2 * HOUR]) {
  test(`extend with a lease locks anew only what is its lock; lock_for = ${lockFor}`, async () => {
    const lease = NOW + (lockFor ?? HOUR);
    await given(...BEFORE);
    await gives(call('extend', IDS, lockFor, LEASE), [2, lease]);
    await holds([1, OLD, lease, 2], [2, null, lease], ...NOBODYS);
  });
}

for (const retryIn of [null, 0, 50]) {
  test(`fail with a lease counts only where it has the lock; retry_in = ${retryIn}`, async () => {
    await given(...BEFORE);
    await gives(call('fail', IDS, retryIn, LEASE), [2]);
    await holds([1, OLD, NOW + (retryIn ?? 240), 3], [2, null, NOW + (retryIn ?? 60), 1], ...NOBODYS);
  });
}

for (const [procedure, ...args] of [
  ['did', '[1]', null],
  ['did', '[1]', false],
  ['unlock', '[1]', null],
  ['unlock', '[1]', false],
  ['extend', '[1]', 50],
  ['fail', '[1]', null],
  ['fail', '[1]', 50],
] satisfies [Procedure, ...unknown[]][]) {
  const marks = procedure === 'did';
  const title = `${procedure}(${args.join(', ')}) with`;
  /** Its answer where it has lost the lock: did marks all the same. */
  const LOST = procedure === 'extend' ? [0, null] : [marks ? 1 : 0];

  test(`${title} the lease keeps a bump during the work, so that the id comes again`, async () => {
    await given([1, OLD, null, 2], [2, OLD - 1]);
    await gives(call('get', 1, null, 0), [2, LEASE]);
    await gives(call('get', 1, null, 0), [1, LEASE]);
    await gives(call('bump', '[1]'), [1]);
    await gives(call(procedure, ...args, LEASE), LOST);
    await holds([1, marks ? NOW : OLD, NOW, marks ? 0 : 2], [2, OLD - 1, LEASE]);
    await gives(call('get', 2), [1, LEASE]);
  });

  test(`${title} the lease keeps a bump into the future, but before the lock's end`, async () => {
    await given([1, OLD, LEASE, 2]);
    await gives(call('bump', '[1]', HOUR - 1), [1]);
    await gives(call(procedure, ...args, LEASE), LOST);
    await holds([1, marks ? NOW : OLD, LEASE - 1, marks ? 0 : 2]);
  });

  test(`${title} a lease that ran out leaves the lock of the worker that has it now`, async () => {
    await given([1, OLD, null, 2]);
    await at(NOW - 100);
    await gives(call('get', 1, 60), [1, NOW - 40]);
    await at(NOW);
    await gives(call('get', 1), [1, LEASE]);
    await gives(call(procedure, ...args, NOW - 40), LOST);
    await holds([1, marks ? NOW : OLD, LEASE, marks ? 0 : 2]);
    await gives(call('get', 1, null, 0)); // nobody gets it
    await gives(call('did', '[1]', null, LEASE), [1]);
    await holds([1, NOW]);
  });

  test(`${title} a lease finds the lock gone where somebody has unlocked the id`, async () => {
    await given([1, OLD, LEASE, 2]);
    await gives(call('unlock', '[1]'), [1]);
    await gives(call(procedure, ...args, LEASE), LOST);
    await holds([1, marks ? NOW : OLD, null, marks ? 0 : 2]);
  });

  test(`${title} the lease from before an extend has lost the lock, with the new one it has it`, async () => {
    await given([1, OLD, LEASE, 2]);
    await gives(call('extend', '[1]', 70, LEASE), [1, NOW + 70]);
    await gives(call(procedure, ...args, LEASE), LOST);
    await holds([1, marks ? NOW : OLD, NOW + 70, marks ? 0 : 2]);
    await gives(call(procedure, ...args, NOW + 70), procedure === 'extend' ? [1, NOW + 50] : [1]);
    const [[, , lockUntil]] = (await rowsOf(connection, table)) as [RowValues];
    assert.notEqual(lockUntil, NOW + 70);
  });
}

test('a lock that ran out, and that nobody took, is still the lease: did, unlock and fail go on, extend is too late', async () => {
  const ran = [1, OLD, NOW - 1, 1] satisfies RowValues;
  await given(ran);
  await gives(call('extend', '[1]', null, NOW - 1), [0, null]);
  await holds(ran);
  await gives(call('fail', '[1]', null, NOW - 1), [1]);
  await holds([1, OLD, NOW + 120, 2]);
  await given(ran);
  await gives(call('unlock', '[1]', null, NOW - 1), [1]);
  await holds([1, OLD, null, 1]);
  await given(ran);
  await gives(call('did', '[1]', null, NOW - 1), [1]);
  await holds([1, NOW]);
});

for (const lockFor of [HOUR, HOUR + 1, 2 * HOUR]) {
  test(`a bump with lock_for = ${lockFor}, no less than the lock has left, changes nothing; did opens the lock`, async () => {
    await given([1, OLD]);
    await gives(call('get', 1), [1, LEASE]);
    await gives(call('bump', '[1]', lockFor), [0]);
    await holds([1, OLD, LEASE]);
    await gives(call('did', '[1]', null, LEASE), [1]);
    await holds([1, NOW]);
  });
}

test('get gives one lease for all ids of a call, and it is the lock_until in the table', async () => {
  await given([1], [2, OLD], [3, NOW, NOW - 1]);
  await gives(call('get', 9), [3, LEASE], [1, LEASE], [2, LEASE]);
  await holds([1, null, LEASE], [2, OLD, LEASE], [3, NOW, LEASE]);
});

test('a lease is good for any of its ids, one by one or together', async () => {
  await given([1], [2], [3], [4]);
  await call('get', 4);
  await gives(call('did', '[1]', null, LEASE), [1]);
  await gives(call('fail', '[2]', 5, LEASE), [1]);
  await gives(call('unlock', '[3, 4]', null, LEASE), [2]);
  await holds([1, NOW], [2, null, NOW + 5, 1], [3], [4]);
});

test('failed under its lease, an id is no longer under it', async () => {
  await given([1, OLD, LEASE]);
  await gives(call('fail', '[1]', null, LEASE), [1]);
  await gives(call('fail', '[1]', null, LEASE), [0]);
  await gives(call('unlock', '[1]', null, LEASE), [0]);
  await holds([1, OLD, NOW + 60, 1]);
});

test('without a lease did and unlock open any lock and lose a bump, extend keeps any lock, fail takes any id', async () => {
  const locks: RowValues[] = [
    [1, OLD, LEASE],
    [2, OLD, NOW - 5],
    [3, OLD],
  ];
  await given(...locks);
  await gives(call('did', '[1, 2, 3]'), [3]);
  await holds([1, NOW], [2, NOW], [3, NOW]);
  await given(...locks);
  await gives(call('unlock', '[1, 2, 3]'), [2]);
  await holds([1, OLD], [2, OLD], [3, OLD]);
  await given(...locks);
  await gives(call('extend', '[1, 2, 3]', 7), [1, NOW + 7]);
  await holds([1, OLD, NOW + 7], [2, OLD, NOW - 5], [3, OLD]);
  await given(...locks);
  await gives(call('fail', '[1, 2, 3]', 7), [3]);
  await holds([1, OLD, NOW + 7, 1], [2, OLD, NOW + 7, 1], [3, OLD, NOW + 7, 1]);
});

test('of two workers that race with their leases, only the one that has the lock opens it', async () => {
  const late = await connectFrozen();
  const owner = await connect();
  for (let i = 0; i < 20; i += 1) {
    await given([1, OLD, LEASE, 3]);
    const [[lost], [kept]] = await Promise.all([
      callProcedure(late, table, 'unlock', '[1]', i % 2 === 0, NOW - 5),
      callProcedure(owner, table, 'fail', '[1]', 5, LEASE),
    ]);
    assert.deepEqual([lost, kept], [{ unlocked: 0 }, { failed: 1 }]);
    const [[, , lockUntil, failures]] = (await rowsOf(connection, table)) as [RowValues];
    assert.ok(lockUntil && failures === 4);
  }
});
