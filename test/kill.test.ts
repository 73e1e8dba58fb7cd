/**
 * KILL QUERY at any moment of any call. No handler of a procedure runs then, so whatever a call has to take back at its
 * end stays: that may be a named lock, which keeps others waiting for a second at most, and a get's isolation level, for
 * the session's next transaction alone.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Connection } from 'mysql2/promise';
import { wasKilled } from '../scripts/bench/soak-common.js';
import type { Procedure } from '../src/render.js';
import {
  callProcedure,
  connect,
  contents,
  inTransaction,
  makeLoop,
  type Row,
  rows,
  server,
  waitsForRow,
} from './harness.js';
import { until } from './until.js';

const observer = await connect({ multipleStatements: true });
const { table } = await makeLoop(observer);
await observer.query('CREATE TABLE ticks (n INT NOT NULL) ENGINE=InnoDB; INSERT INTO ticks VALUES (0)');
const IDS = 2_000;
/** Done by sessions after they were killed; no get wants it. */
const DONE = IDS + 1;

/** The ids before each test: a third have priority, a third were never updated, a third were long ago. */
async function newDay(): Promise<void> {
  await observer.query(`DELETE FROM ${table}`);
  const all = Array.from({ length: IDS }, (_, i) => [i + 1, [null, null, 1_000 + i][i % 3], [5, null, null][i % 3]]);
  await observer.query(`INSERT INTO ${table} (id, last_updated, lock_until) VALUES ?`, [all]);
  await observer.query(`INSERT INTO ${table} (id, lock_until) VALUES (?, 9000000000)`, [DONE]);
}

/** Locks that tell whose they are: no other call has this lock_for, nor one that differs by less than any call takes. */
let lockFor = 1_000_000;
function nextLockFor(): number {
  lockFor += 1_000;
  return lockFor;
}

/** The ids that are locked for about so long. */
async function lockedFor(seconds: number): Promise<number[]> {
  const range = 'BETWEEN UNIX_TIMESTAMP() + ? - 500 AND UNIX_TIMESTAMP() + ? + 10';
  const found = await rows(observer, `SELECT id FROM ${table} WHERE lock_until ${range}`, [seconds, seconds]);
  return found.map(({ id }) => id as number);
}

/** A session as its user has it. What is open in it ends with the test. */
async function sessionOf(t: TestContext, ...statements: string[]): Promise<Connection> {
  const session = await connect();
  t.after(() => session.destroy());
  for (const statement of ['SET innodb_lock_wait_timeout = 20', ...statements]) await session.query(statement);
  return session;
}

/** Repeats what a kill hits that came too late for the call. */
async function afterAll<T>(act: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!wasKilled(error)) throw error;
    }
  }
}

/** Makes a call; resolves to whether it was killed before it could answer. */
function killed(call: Promise<unknown>): Promise<boolean> {
  return call.then(
    () => false,
    error => {
      if (wasKilled(error)) return true;
      throw error;
    },
  );
}

/** A transaction is open in the session, which is mended. */
async function wronglyOpen(session: Connection): Promise<string[]> {
  if (!(await afterAll(() => inTransaction(session)))) return [];
  await session.query('ROLLBACK');
  return ['a transaction is open'];
}

/** A transaction begun now is not like any other of the session. */
async function wrongIsolation(session: Connection): Promise<string[]> {
  // Only REPEATABLE READ takes the snapshot; with less, it sees what comes after.
  await session.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
  await observer.query('UPDATE ticks SET n = n + 1');
  const [now] = await rows(observer, 'SELECT n FROM ticks');
  const [seen] = await rows(session, 'SELECT n FROM ticks');
  await session.query('ROLLBACK');
  return seen!.n < now!.n ? [] : ["the next transaction's isolation is another"];
}

/** What the session's next call does is durable at once: another sees it. */
async function wrongNextDid(session: Connection): Promise<string[]> {
  await observer.query(`UPDATE ${table} SET last_updated = 0 WHERE id = ?`, [DONE]);
  await callProcedure(session, table, 'did', DONE, null, 1); // no lock's lease: only last_updated changes
  const [done] = await rows(observer, `SELECT last_updated AS t FROM ${table} WHERE id = ?`, [DONE]);
  return done!.t === 0 ? ['what the next did marks is not committed'] : [];
}

async function wrongNextGet(session: Connection): Promise<string[]> {
  const mine = nextLockFor();
  const got = await callProcedure(session, table, 'get', 2, mine, 0);
  const locked = await lockedFor(mine);
  return locked.length === got.length ? [] : ['what the next get locks is not committed'];
}

/** Another session gets ids, and none of those that a killed get has locked. */
async function wrongForOthers(locked: number[]): Promise<string[]> {
  const wrong: string[] = [];
  const mine = nextLockFor();
  const got = (await callProcedure(observer, table, 'get', 100, mine, 0)).map(({ id }) => id as number);
  if (new Set(got).size < 100) wrong.push(`another get has ${new Set(got).size} ids, not 100`);
  if (got.some(id => locked.includes(id))) wrong.push('an id that the killed get has locked is given to another');
  if ((await lockedFor(mine)).length !== got.length) wrong.push('another get has not locked what it gave');
  return wrong;
}

/** Who waits for a named lock goes on without it after this. */
const PATIENCE_MS = 1_000;
/** Enough for any get that doesn't wait. */
const SLACK_MS = 800;

/** A named lock that the session still holds keeps another's get waiting for too long, or a second one at all. */
async function wrongWaits(locked: number[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const most of [PATIENCE_MS + SLACK_MS, SLACK_MS]) {
    const start = performance.now();
    wrong.push(...(await wrongForOthers(locked)));
    const took = performance.now() - start;
    if (took > most) wrong.push(`another get waits for more than ${most} ms`);
  }
  return wrong;
}

/** @param locks whether to see how others fare while the session holds a named lock: it may take a second. */
async function wrongAfterGet(session: Connection, claim: number, max: number, locks = true): Promise<string[]> {
  const before = await lockedFor(claim);
  const wrong = await wronglyOpen(session);
  // The isolation level of this one may be READ UNCOMMITTED; of the one after it may not.
  wrong.push(...(await afterAll(() => wrongNextDid(session))), ...(await wrongIsolation(session)));
  const locked = await lockedFor(claim);
  if (locked.length !== before.length) wrong.push('what the killed get claims is not decided');
  if (locked.length > max) wrong.push('the killed get has locked too many ids');
  if (locks) wrong.push(...(await wrongWaits(locked)));
  await session.query('DO RELEASE_ALL_LOCKS()');
  wrong.push(...(await wrongForOthers(locked)), ...(await wrongNextGet(session)), ...(await wronglyOpen(session)));
  if ((await lockedFor(claim)).length !== locked.length) wrong.push('ids that the killed get has locked change hands');
  return wrong;
}

/** Counts what is wrong, to tell all of it in the end. */
class Findings {
  readonly #counts = new Map<string, number>();
  kills = 0;

  add(wrong: string[]): void {
    this.kills += 1;
    for (const one of wrong) this.#counts.set(one, (this.#counts.get(one) ?? 0) + 1);
  }

  assertNone(): void {
    const all = [...this.#counts].map(([what, times]) => `${times} times ${what}`);
    assert.equal(all.join('\n'), '', `after ${this.kills} kills:`);
  }
}

const killer = await connect({ multipleStatements: true });

/** Makes a call, and kills the session some microseconds later, by the server's own clock. */
async function killedWithin(us: number, session: Connection, call: () => Promise<unknown>): Promise<boolean> {
  const kill = killer.query(`DO SLEEP(${us / 1e6}); KILL QUERY ${session.threadId}`);
  const ended = killed(call());
  const [hit] = await Promise.all([ended, kill]);
  return hit;
}

/** How long a call takes, in microseconds, when nothing holds it up: the least of some. */
async function durationOf(call: () => Promise<unknown>, before = async () => {}): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    await before();
    const start = performance.now();
    await call();
    times.push((performance.now() - start) * 1000);
  }
  return Math.min(...times);
}

/** So long, and until some kills have hit. */
function untilKills(findings: Findings, ms: number): () => boolean {
  const end = performance.now() + ms;
  return () => {
    assert.ok(performance.now() < end + 40_000, `${findings.kills} kills hit`);
    return performance.now() < end || findings.kills < 3;
  };
}

for (const max of [1, 5, 100, 1000]) {
  test(`get(${max}) killed at random moments: nothing stays open, others go on, and no id has two holders`, async t => {
    await newDay();
    const findings = new Findings();
    const session = await sessionOf(t);
    const get = (claim: number) => callProcedure(session, table, 'get', max, claim, 0);
    const free = () => observer.query(`UPDATE ${table} SET lock_until = 5 WHERE lock_until BETWEEN 6 AND 8999999999`);
    const duration = await durationOf(
      () => get(nextLockFor()),
      async () => void (await free()),
    );
    await free();
    for (const goesOn = untilKills(findings, 800); goesOn(); ) {
      const claim = nextLockFor();
      if (await killedWithin(Math.random() * duration * 1.2, session, () => get(claim)))
        findings.add(await wrongAfterGet(session, claim, max, findings.kills === 0));
      await free(); // of a call that was not killed, too
    }
    findings.assertNone();
  });
}

/** Resolves when the session waits for a lock of any kind. */
async function waiting(session: Connection): Promise<void> {
  const states = `
    SELECT CONVERT(state USING utf8mb4) AS state FROM information_schema.processlist
      WHERE id = ${session.threadId} AND command = 'Query' AND state REGEXP 'lock|wait|flush|backup'`;
  await until(
    'the session waits',
    async () => (await rows(observer, states)).length > 0 || waitsForRow(session.threadId),
  );
}

/** Ways to make a get wait, and to let it go. */
interface Obstacle {
  title: string;
  cause: string[];
  mend: string[];
  on?: 'mariadb' | 'mysql';
}
const obstacles: Obstacle[] = [
  {
    title: 'the place that its locks have in the key',
    cause: [
      'START TRANSACTION',
      // The place before that of DONE. (A range up to it the server may read with all that is there, and lock that.)
      `SELECT id FROM ${table} FORCE INDEX (lock_until) WHERE lock_until = 9000000000 FOR UPDATE`,
    ],
    mend: ['ROLLBACK'],
  },
  { title: 'the table', cause: [`LOCK TABLES ${table} WRITE`], mend: ['UNLOCK TABLES'] },
  { title: 'all tables', cause: ['FLUSH TABLES WITH READ LOCK'], mend: ['UNLOCK TABLES'] },
  {
    title: 'the commit',
    on: 'mariadb',
    cause: ['START', 'FLUSH', 'BLOCK_DDL', 'BLOCK_COMMIT'].map(stage => `BACKUP STAGE ${stage}`),
    mend: ['BACKUP STAGE END'],
  },
];
for (const { title, cause, mend } of obstacles.filter(({ on = server.kind }) => on === server.kind)) {
  test(`get killed while it waits for ${title}, and one that waits behind it: nothing stays open, and others go on`, async t => {
    await newDay();
    const findings = new Findings();
    const other = await sessionOf(t);
    for (const statement of cause) await other.query(statement);
    // The second waits for the same, or for the first.
    const sessions = [await sessionOf(t), await sessionOf(t)];
    const claims = sessions.map(nextLockFor);
    const ends: Promise<boolean>[] = [];
    for (const [i, session] of sessions.entries()) {
      ends.push(killed(callProcedure(session, table, 'get', 100, claims[i], 0)));
      await waiting(session);
    }
    for (const { threadId } of sessions) await killer.query(`KILL QUERY ${threadId}`);
    for (const statement of mend) await other.query(statement);
    const hits = await Promise.all(ends);
    assert.ok(hits[0], 'the first was killed');
    for (const [i, session] of sessions.entries()) findings.add(await wrongAfterGet(session, claims[i]!, 100));
    findings.assertNone();
  });
}

/** A call of a procedure with many ids; each of them changes every row it means, or makes it. */
const half = JSON.stringify(Array.from({ length: 500 }, (_, i) => i * 8 + 1));
const writing: [Procedure, ...unknown[]][] = [
  ['add', half],
  ['remove', half],
  ['did', half],
  ['did', half, false],
  ['unlock', half],
  ['unlock', half, false],
  ['bump', half, -9],
  ['bump', half, -9, false],
  ['extend', half, 50],
  ['fail', half, 70],
];

/** Rows without times, which go on meanwhile: whether there is one, and its failures. */
const gist = (all: Row[]) =>
  all
    .map(
      ({ id, last_updated, lock_until, failures }) => `${id} ${last_updated ?? '-'} ${lock_until ?? '-'} ${failures}`,
    )
    .join();

for (const call of writing) {
  test(`${call[0]} ${call.slice(2).join()} killed at random moments: all of it is done or nothing, and nothing stays open`, async t => {
    await newDay();
    await observer.query(`UPDATE ${table} SET lock_until = 1900000000 WHERE id % 2 = 1`);
    await observer.query(`DROP TABLE IF EXISTS day; CREATE TABLE day AS SELECT * FROM ${table}`);
    const again = () => observer.query(`DELETE FROM ${table}; INSERT INTO ${table} SELECT * FROM day`);
    const findings = new Findings();
    const session = await sessionOf(t, 'SET timestamp = 1800000000');
    const make = () => callProcedure(session, table, ...call);
    const before = gist(await contents(observer, table));
    await make();
    const after = gist(await contents(observer, table));
    assert.notEqual(before, after);
    const duration = await durationOf(make, async () => void (await again()));
    await again();
    for (const goesOn = untilKills(findings, 250); goesOn(); ) {
      const hit = await killedWithin(Math.random() * duration, session, make);
      const wrong = [...(await wronglyOpen(session)), ...(await wrongIsolation(session))];
      const now = gist(await contents(observer, table));
      if (now !== before && (now !== after || !hit)) wrong.push(hit ? 'a part of it is done' : 'it is not done');
      if (hit) findings.add(wrong);
      if (now !== before) await again();
    }
    findings.assertNone();
  });
}

test('all but get, killed while they wait for an id (1317): nothing is done, and nothing stays open', async t => {
  await newDay();
  await observer.query(`UPDATE ${table} SET lock_until = 1900000000 WHERE id % 2 = 1`);
  const before = await contents(observer, table);
  const other = await sessionOf(t, 'START TRANSACTION', `SELECT id FROM ${table} WHERE id = 1 FOR UPDATE`);
  const findings = new Findings();
  const sessions: Connection[] = [];
  const ends: Promise<boolean>[] = [];
  for (const call of writing) {
    const session = await sessionOf(t);
    sessions.push(session);
    ends.push(killed(callProcedure(session, table, ...call)));
  }
  for (const session of sessions) await waiting(session);
  for (const { threadId } of sessions) await killer.query(`KILL QUERY ${threadId}`);
  assert.ok((await Promise.all(ends)).every(hit => hit));
  await other.query('ROLLBACK');
  for (const session of sessions)
    findings.add([
      ...(await wronglyOpen(session)),
      ...(await wrongIsolation(session)),
      ...(await wrongNextDid(session)),
    ]);
  findings.assertNone();
  assert.deepEqual(
    (await contents(observer, table)).filter(({ id }) => id !== DONE),
    before.filter(({ id }) => id !== DONE),
  );
});
