/** A loop of ten million ids (a hundred thousand with `npm test`): every call at known places of it, and what it takes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Connection } from 'mysql2/promise';
import type { Finding } from '../scripts/cli/doctor/finding.js';
import { create, DoLoop } from '../src/index.js';
import { connect, makeAccount, makePool, rows, server, setClock } from './harness.js';
import { quickOrLong } from './long.js';
import { doloop } from './run-doloop.js';

const SIZE = quickOrLong(100_000, 10_000_000);
/** How long ago ids were updated: the first of them, and the last, s. */
const [STALEST, FRESHEST] = [864_000, 4_000];
/** Rows of one INSERT. */
const CHUNK = 100_000;
const WORKED = quickOrLong(5_000, 200_000);
/** Both servers let a file grow ahead of what is in it, bytes. */
const AHEAD = 16_777_216;
const table = 'large_loop';

const root = await connect();
/** Time stands still here, and in the worker. */
const now = Number((await rows(root, 'SELECT UNIX_TIMESTAMP() AS now'))[0]!.now);
await setClock(root, now);
const loop = new DoLoop(root, table);

/** When an id was last updated, as the loop was made. */
const updated = (id: number) => now - STALEST + Math.floor((id * (STALEST - FRESHEST)) / SIZE);
/** How many ids were last updated longer ago. */
const olderThan = (seconds: number) => {
  let [low, high] = [0, SIZE];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (now - updated(middle) > seconds) low = middle;
    else high = middle - 1;
  }
  return low;
};
const from = (first: number, size: number) => Array.from({ length: size }, (_, i) => first + i);

/** Makes the loop, of the ids from 1 on, each updated a little later than the one before. */
async function makeLarge(): Promise<void> {
  await create(root, table, { grant: [(await makeAccount()).account] });
  await root.query('SET sql_log_bin = 0');
  for (let first = 0; first < SIZE; first += CHUNK) {
    await root.query(
      `INSERT INTO ${table} (id, last_updated)
        WITH RECURSIVE s (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < 999)
        SELECT ids.id, ? + FLOOR(ids.id * ? / ?)
        FROM (SELECT ? + a.i * 1000 + b.i AS id FROM s AS a STRAIGHT_JOIN s AS b WHERE a.i < ?) AS ids
        ORDER BY ids.id`,
      [now - STALEST, STALEST - FRESHEST, SIZE, first + 1, CHUNK / 1_000],
    );
  }
  await root.query(`ANALYZE TABLE ${table}`);
  await root.query('SET sql_log_bin = 1');
}

/** Rows that a call reads by an index: whether it is a few, or the loop. (What InnoDB passes over itself is not counted.) */
async function readsOf(connection: Connection, call: () => Promise<unknown>): Promise<number> {
  const sum = async () => {
    const all = await rows(connection, "SHOW SESSION STATUS LIKE 'Handler_read%'");
    return all.reduce((total, row) => total + Number(row.Value), 0);
  };
  const before = await sum();
  await call();
  return (await sum()) - before;
}

test(`a loop of ${SIZE.toLocaleString('en')} ids`, async t => {
  await makeLarge();
  const last = SIZE;
  const middle = SIZE / 2;

  await t.test('stats and next give the answers that are known', async () => {
    const day = 86_400;
    assert.equal(await loop.next(), 0);
    assert.deepEqual(await loop.stats({ delayThresholds: [day, 7 * day, 30 * day] }), {
      ...{ bumped: 0, locked: 0, minBumpTime: 0, maxBumpTime: 0, minLockTime: 0, maxLockTime: 0 },
      ...{ minUpdateTime: now - updated(last), maxUpdateTime: now - updated(1), minId: 1, maxId: last },
      ...{
        total: SIZE,
        neverUpdated: 0,
        delayed: { [day]: olderThan(day), [7 * day]: olderThan(7 * day), [30 * day]: 0 },
      },
    });
  });

  await t.test('every call finds its ids at the beginning, in the middle and at the end', async () => {
    const first = await loop.get(1_000);
    assert.deepEqual([...first], from(1, 1_000));
    assert.equal(await loop.did(first.slice(0, 500)), 500);
    assert.equal(await loop.fail(first.slice(500, 900)), 400);
    assert.deepEqual(await loop.extend(first.slice(900), { lockFor: 7_200 }), { extended: 100, lease: now + 7_200 });
    assert.equal(await loop.bump([middle, last]), 2);
    assert.equal(await loop.bump([middle + 1], { lockFor: -10 }), 1);
    assert.equal(await loop.add([last, last + 1]), 1);
    assert.deepEqual(await loop.check([500, 501, 1_000, middle, last - 1, last + 1, last + 2]), [
      { id: 500, sinceUpdated: 0, lockedFor: null, failures: 0 },
      { id: 501, sinceUpdated: now - updated(501), lockedFor: 60, failures: 1 },
      { id: 1_000, sinceUpdated: now - updated(1_000), lockedFor: 7_200, failures: 0 },
      { id: middle, sinceUpdated: now - updated(middle), lockedFor: 0, failures: 0 },
      { id: last - 1, sinceUpdated: now - updated(last - 1), lockedFor: null, failures: 0 },
      { id: last + 1, sinceUpdated: null, lockedFor: null, failures: 0 },
    ]);
    // Bumped, the one with the most priority first; then never updated; then the longest not updated.
    const next = await loop.get(6);
    assert.deepEqual([...next], [middle + 1, middle, last, last + 1, 1_001, 1_002]);
    assert.equal(await loop.unlock(next), 6);
    assert.equal(await loop.remove([last + 1, last + 2]), 1);
    const { locked, total, neverUpdated } = await loop.stats({ delayThresholds: [1] });
    assert.deepEqual({ locked, total, neverUpdated }, { locked: 500, total: SIZE, neverUpdated: 0 });
  });

  await t.test('no call reads more of it than of a small one', async () => {
    const connection = await connect();
    await setClock(connection, now);
    await connection.query("SET optimizer_switch = 'index_condition_pushdown=off'");
    const counted = new DoLoop(connection, table);
    const ids = from(middle, 100);
    const calls: Record<string, () => Promise<unknown>> = {
      get: async () => counted.unlock(await counted.get(100)),
      did: () => counted.did(ids, { dryRun: true }),
      add: () => counted.add(ids),
      bump: () => counted.bump(ids, { dryRun: true }),
      extend: () => counted.extend(ids, { dryRun: true }),
      fail: () => counted.fail(ids, { dryRun: true }),
      remove: () => counted.remove(ids, { dryRun: true }),
      check: () => counted.check(ids),
      next: () => counted.next(),
    };
    for (const [name, call] of Object.entries(calls)) {
      const read = await readsOf(connection, call);
      assert.ok(read < 2_000, `${name} of 100 ids reads ${read} rows`);
    }
    // Those that are locked or due, and none of the others.
    const read = await readsOf(connection, () => counted.stats());
    assert.ok(read < 5_000, `stats reads ${read} rows`);
  });

  await t.test('a worker goes through it from the stalest on, and skips none', async t => {
    const pool = makePool({ connectionLimit: 4 });
    pool.on('connection', connection => connection.query(`SET timestamp = ${now}`));
    const stop = new AbortController();
    const handled: number[] = [];
    const begun = performance.now();
    const summary = await new DoLoop(pool, table).work(
      batch => {
        handled.push(...batch);
        if (handled.length >= WORKED) stop.abort();
      },
      { batch: true, maxIds: 1_000, signal: stop.signal },
    );
    const seconds = (performance.now() - begun) / 1_000;
    t.diagnostic(`${Math.round(handled.length / seconds)} ids/s of a worker on ${server.kind}`);
    assert.deepEqual(handled, from(1_001, handled.length));
    assert.deepEqual([summary.did, summary.failed, summary.lost], [handled.length, 0, 0]);
    const [fresh] = await rows(root, `SELECT COUNT(*) AS n FROM ${table} WHERE last_updated = ${now}`);
    assert.equal(fresh!.n, handled.length + 500);
    assert.equal((await loop.stats({ delayThresholds: [] })).locked, 500);
  });

  await t.test('the doctor finds nothing amiss', async () => {
    const { code, stdout, stderr } = await doloop(['doctor', table, '--json']);
    const amiss = (JSON.parse(stdout) as Finding[]).filter(
      ({ level, check }) => level !== 'ok' && check !== 'snapshots',
    );
    assert.deepEqual([code, stderr, amiss], [0, '', []]);
  });

  await t.test('it takes no more room on the disk than the guide says', async t => {
    const [says] = /(?<=`INT` id takes some )\d+(?= bytes on disk)/.exec(
      readFileSync(new URL('../../scripts/operating.md', import.meta.url), 'utf8'),
    )!;
    const spaces = server.kind === 'mariadb' ? 'innodb_sys_tablespaces' : 'innodb_tablespaces';
    const [space] = await rows(
      root,
      `SELECT file_size AS bytes FROM information_schema.${spaces} WHERE name = CONCAT(DATABASE(), '/${table}')`,
    );
    await root.query(`ANALYZE TABLE ${table}`);
    const [pages] = await rows(
      root,
      `SELECT SUM(stat_value) * @@innodb_page_size AS bytes FROM mysql.innodb_index_stats
        WHERE database_name = DATABASE() AND table_name = '${table}' AND stat_name = 'n_leaf_pages'`,
    );
    t.diagnostic(
      `a file of ${Math.round(space!.bytes / 1_048_576)} MB on ${server.kind}, of which ${pages!.bytes / SIZE} bytes an id are in use`,
    );
    assert.ok(pages!.bytes / SIZE > 30, 'that is less than the columns take');
    assert.ok(pages!.bytes / SIZE < Number(says));
    assert.ok((space!.bytes - AHEAD) / SIZE < Number(says));
  });
});
