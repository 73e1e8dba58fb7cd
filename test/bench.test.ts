/** The bench on a small scale: its contenders do the same, and it notices when they do what they must not. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { goRound, Holders, measureCell } from '../scripts/bench/cells.js';
import { CONTENDERS, type Contender, type ContenderName } from '../scripts/bench/contenders.js';
import type { Bench } from '../scripts/bench/section.js';
import { measureSoak, type SoakPoint } from '../scripts/bench/soak.js';
import { makeLoop } from '../scripts/bench/table.js';
import { connect, makePool, rows } from './harness.js';
import { quickOrLong } from './long.js';

const open = () => connect();
const SIZE = 2_500;
const RIVALS: ContenderName[] = ['doloop', 'byHand', 'original'];

/** A loop of the bench, with some ids bumped, some never updated, some fresh, and some locked. */
async function makeMixed(table: string): Promise<void> {
  const connection = await connect();
  await makeLoop(connection, table, SIZE);
  const now = 'UNIX_TIMESTAMP()';
  for (const change of [
    `lock_until = ${now} - id % 7, last_updated = IF(id % 3, last_updated, NULL) WHERE id % 50 = 1`,
    'last_updated = NULL WHERE id % 50 = 2',
    `lock_until = ${now} + 100 WHERE id % 50 = 3`,
    `last_updated = ${now} + 100 WHERE id % 50 = 4`,
  ]) {
    await connection.query(`UPDATE ${table} SET ${change}`);
  }
}

suite("the bench's contenders", () => {
  test('get the same ids in the same order, and leave the same behind', async () => {
    const gets = [1, 10, 30, 5, 60, 100, SIZE];
    const all = await Promise.all(
      RIVALS.map(async name => {
        const table = `same_${name}_loop`;
        await makeMixed(table);
        const connection = await open();
        const contender = CONTENDERS[name](connection, table);
        await contender.begin();
        const got: number[][] = [];
        for (const n of gets) got.push([...(await contender.get(n))]);
        const locked = await rows(
          await connect(),
          `SELECT id FROM ${table} WHERE lock_until > UNIX_TIMESTAMP() + 3000`,
        );
        await contender.did(got.flat());
        const left = await rows(
          await connect(),
          `SELECT id, last_updated >= UNIX_TIMESTAMP() - 60 AS fresh, lock_until IS NOT NULL AS locked, failures
            FROM ${table} ORDER BY id`,
        );
        return { got, locked: locked.map(({ id }) => id).sort(), left: left.map(row => ({ ...row })) };
      }),
    );
    const [ours, ...others] = all;
    assert.deepEqual(
      ours!.got.map(ids => ids.length),
      [...gets.slice(0, -1), (SIZE * 48) / 50 - gets.slice(0, -1).reduce((sum, n) => sum + n, 0)],
    );
    assert.deepEqual(ours!.locked, ours!.got.flat().sort());
    for (const other of others) assert.deepEqual(other, ours);
  });

  test('change the rows of a range of keys, as the limit', async () => {
    const connection = await connect();
    await makeLoop(connection, 'limit_loop', 100);
    const limit = CONTENDERS.limit(connection, 'limit_loop');
    await limit.begin();
    const ids = await limit.get(60);
    assert.deepEqual(
      ids,
      Array.from({ length: 60 }, (_, i) => 1 + i),
    );
    await limit.did(ids);
    assert.deepEqual(
      await limit.get(60),
      Array.from({ length: 40 }, (_, i) => 61 + i),
    );
  });

  test('are measured in turns, each of which did something', async () => {
    const connection = await connect();
    await makeLoop(connection, 'cell_loop', 3_000);
    for (const size of [
      { ids: 3_000, n: 20, connections: 4 },
      { ids: 3_000, n: 1_000, connections: 1 },
    ]) {
      const cell = await measureCell(open, 'cell_loop', size, { turns: 2, ms: 30 });
      const names = size.connections === 1 ? [...RIVALS, 'limit'] : RIVALS;
      assert.deepEqual(Object.keys(cell.rates), names);
      for (const { median, min, max } of Object.values(cell.rates))
        assert.ok(0 < min && min <= median && median <= max);
    }
  });
});

suite('the bench fails', () => {
  test('when an id is handed to two at once', async () => {
    let next = 1;
    const worker = (ids: () => number[]): Contender => ({
      begin: async () => {},
      get: async () => ids(),
      did: async () => {},
    });
    const fair = worker(() => [next++]);
    await goRound([fair, fair], 1, 0, new Holders(10));
    const unfair = worker(() => [7]);
    await assert.rejects(goRound([unfair, unfair], 1, 0, new Holders(10)), /id 7 was handed to two at once/);
  });

  test('when an id is handed out that is not in the loop', () => {
    assert.throws(() => new Holders(10).take([11]), /id 11 was handed out, and is not in the loop/);
  });

  test('when an id was lost, or stays locked', async () => {
    const connection = await connect();
    await makeLoop(connection, 'lost_loop', 100);
    const measured = (ids: number) =>
      measureCell(open, 'lost_loop', { ids, n: 10, connections: 1 }, { turns: 1, ms: 5 });
    await connection.query('DELETE FROM lost_loop WHERE id = 7');
    await assert.rejects(measured(100), /of 100 ids 99 are left, and 0 of them locked/);
    await connection.query('INSERT INTO lost_loop VALUES (7, NULL, UNIX_TIMESTAMP() + 100, 0)');
    await assert.rejects(measured(100), /of 100 ids 100 are left, and 1 of them locked/);
  });
});

test('everything at once for some seconds, under KILLs: nothing is seen that may never happen', async () => {
  const points: SoakPoint[] = [];
  const bench: Bench = {
    open,
    openPool: connections => makePool({ connectionLimit: connections }),
    quick: true,
    minutes: undefined,
    pid: undefined,
    point: point => points.push(point),
    progress: () => {},
  };
  const times = new Map<string, number>();
  await measureSoak(bench, { seconds: quickOrLong(4, 1_800), rows: 2_000 }, row => times.set(row.what, row.times));
  assert.equal(times.get('violations'), 0);
  for (const what of ['get', 'did', 'add', 'remove', 'fail', 'KILL QUERY sent'])
    assert.ok(times.get(what)! > 0, `${what}: none`);
});
