/** Whether a loop, however it came to be, is one: each procedure is called, and answers what it must. */
import assert from 'node:assert/strict';
import type { Connection } from 'mysql2/promise';
import type { Procedure } from '../src/render.js';
import { callProcedure, fill, fullRows, NOW, type RowValues, rowsOf, setClock } from './harness.js';

/**
 * Calls all eleven procedures of a loop, whose rows are lost. The session's clock stands still from then on.
 *
 * @param id the ids of the loop, for 1 to 9, in the order of the key. @default the number itself
 */
export async function conforms(
  session: Connection,
  table: string,
  id: (n: number) => number | string = n => n,
): Promise<void> {
  const json = (...numbers: number[]) => JSON.stringify(numbers.map(id));
  const answers = async (procedure: Procedure, args: unknown[], expected: Record<string, unknown>[]) =>
    assert.deepEqual(await callProcedure(session, table, procedure, ...args), expected, `${procedure}(${args.join()})`);
  const holds = async (...rows: RowValues[]) => assert.deepEqual(await rowsOf(session, table), fullRows(rows));

  await setClock(session);
  await fill(session, table, []);
  await answers('next', [], [{ due_in: null }]);
  await answers('add', [json(3, 1, 2)], [{ added: 3 }]);
  await answers('add', [json(3, 4), true], [{ added: 1 }]);
  const locked = (...numbers: number[]) => numbers.map(n => ({ id: id(n), lock_until: NOW + 600 }));
  await answers('get', [2, 600], locked(1, 2));
  const [first, second, third, fourth] = [id(1), id(2), id(3), id(4)];
  await holds([first, null, NOW + 600], [second, null, NOW + 600], [third], [fourth, NOW]);
  await answers('extend', [json(1, 2), 900, NOW + 600], [{ extended: 2, lock_until: NOW + 900 }]);
  await answers('did', [json(1), null, NOW + 900], [{ updated: 1 }]);
  await answers('fail', [json(2), null, NOW + 900], [{ failed: 1 }]);
  await answers('bump', [json(3), -5], [{ bumped: 1 }]);
  await answers('unlock', [json(4, 5)], [{ unlocked: 1 }]);
  await holds([first, NOW], [second, null, NOW + 60, 1], [third, null, NOW - 5], [fourth, NOW], [id(5)]);
  const status = (n: number, since_updated: number | null, locked_for: number | null, failures = 0) => ({
    id: id(n),
    since_updated,
    locked_for,
    failures,
  });
  await answers('check', [json(9, 3, 2, 1)], [status(1, 0, null), status(2, null, 60, 1), status(3, null, -5)]);
  const stats = {
    ...{ bumped: 1, locked: 1, min_bump_time: 5, max_bump_time: 5, min_lock_time: 60, max_lock_time: 60 },
    ...{ min_update_time: 0, max_update_time: 0, min_id: first, max_id: id(5), total: null, never_updated: null },
  };
  await answers('stats', [], [{ ...stats, delayed: null }]);
  const [counted] = await callProcedure(session, table, 'stats', '[60]');
  const { delayed, ...rest } = counted!;
  assert.deepEqual(rest, { ...stats, total: 5, never_updated: 3 });
  assert.deepEqual(JSON.parse(delayed as string), { 60: 0 });
  await answers('get', [9, 600], locked(3, 5));
  await answers('next', [], [{ due_in: 60 }]);
  await answers('bump', [json(3, 9), 0, false], [{ bumped: 1 }]);
  await answers('unlock', [json(3, 9), false], [{ unlocked: 1 }]);
  await answers('did', [json(3, 9), false], [{ updated: 1 }]);
  await answers('remove', [json(5, 4, 9)], [{ removed: 2 }]);
  await assert.rejects(callProcedure(session, table, 'add', '[7, null]'), { errno: 1644 });
  await holds([first, NOW], [second, null, NOW + 60, 1], [third, NOW]);
}
