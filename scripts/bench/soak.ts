/**
 * Everything at once: many connections that do all there is to do with one loop, in transactions and by themselves, while
 * others of them are killed in the middle of it. What may never happen is counted, and is a failure.
 */
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { create, DoLoop } from '../../src/index.js';
import { Evidence } from './evidence.js';
import { memoryOfServer } from './memory.js';
import { type Bench, count, digits, marked, type Section } from './section.js';
import {
  errnoOf,
  FIRST,
  isWork,
  type Latency,
  NO_SUCH_THREAD,
  plainly,
  random,
  SIZE,
  Soak,
  Times,
} from './soak-common.js';
import { Worker } from './soak-workers.js';
import { dropLoop } from './table.js';

const TABLE = 'soak_loop';
/** Half of them make plain CALLs, half use the client on a pool. */
const CONNECTIONS = 16;
const KILLS_PER_SECOND = 20;

export interface SoakRow {
  what: string;
  times: number;
  perSecond: number;
  /** Of the calls of a procedure that were answered, outside of transactions of the caller's. */
  ms?: Latency;
  /** How many of its calls a KILL ended. */
  killed?: number;
  /** What may never happen. */
  never?: true;
}

/** How it was since the point before. */
export interface SoakPoint {
  /** Seconds since it all began. */
  at: number;
  /** Given by `get`. */
  idsPerSecond: number;
  get: Latency;
  did: Latency;
  /** Resident memory of this process, workers and bookkeeping and all, and of the server, bytes. */
  memory: { client: number; server: number };
  /** How many processes of the whole machine wanted a processor, over a minute. */
  load: number;
}

/** @throws Error with what happened that may never happen, when all rows are done. */
export async function measureSoak(
  bench: Bench,
  { seconds, rows }: { seconds: number; rows: number },
  done: (row: SoakRow) => void,
): Promise<void> {
  const root = await bench.open();
  await create(root, TABLE);
  await root.query('CREATE TABLE ticks (n INT NOT NULL) ENGINE=InnoDB');
  await root.query('INSERT INTO ticks VALUES (0)');
  const loop = new DoLoop(root, TABLE);
  await loop.add(Array.from({ length: rows }, (_, i) => i + 1));
  await loop.add(Array.from({ length: SIZE.shared }, (_, i) => FIRST.shared + i + 1));

  const before = Date.now() / 1000;
  const [[server]] = await root.query<RowDataPacket[]>('SELECT UNIX_TIMESTAMP(SYSDATE(6)) AS time');
  const evidence = new Evidence();
  const clock = Number(server!.time) - before;
  const soak = new Soak(TABLE, await bench.open(), await bench.open(), clock, evidence);
  const { tally } = soak;
  const workers = await makeWorkers(bench, soak);

  const deadlocksBefore = await deadlocksOf(root);
  const begun = performance.now();
  const passed = () => (performance.now() - begun) / 1000;
  const end = () => {
    soak.ended = true;
  };
  const timer = setTimeout(end, seconds * 1000);
  const ticking = setInterval(() => {
    const violations = tally.violations.reduce((sum, { times }) => sum + times, 0);
    const note = `${count(tally.ids)} ids in ${count(tally.times.count())} calls, ${violations} violations`;
    bench.progress(Math.min(passed() / seconds, 1), note);
  }, 1000);
  const killing = kill(soak, await bench.open());
  // All of them are over before anything is thrown: nobody goes on behind the next section's back.
  const ends = await Promise.allSettled(
    [killing, watch(bench, soak, seconds), ...workers.map(worker => worker.work())].map(one => one.finally(end)),
  );
  const took = passed();
  clearTimeout(timer);
  clearInterval(ticking);
  for (const one of ends) if (one.status === 'rejected') throw one.reason;
  const deadlocks = (await deadlocksOf(root)) - deadlocksBefore;
  await lookInTheEnd(soak, rows);

  for (const row of rowsOf(soak, deadlocks, await killing, took)) done(row);
  const kept = tally.violations.length > 0 ? await evidence.keep() : '';
  evidence.close();
  if (tally.violations.length > 0) {
    const all = tally.violations.map(({ what, times, example }) => `${times} × ${what} (${example})`);
    throw new Error(`The soak has seen what may never happen:\n${all.join('\n')}\nAll that it did is in ${kept}`);
  }
  await dropLoop(root, TABLE);
  await root.query('DROP TABLE ticks');
}

async function makeWorkers(bench: Bench, soak: Soak): Promise<Worker[]> {
  const clients = CONNECTIONS / 2;
  // One in four is never killed: of what these do it is known what came of it.
  const isKillable = (number: number) => number % 4 !== 0;
  const spared = clients / 4;
  const [killedPool, sparedPool] = [bench.openPool(clients - spared), bench.openPool(spared)];
  killedPool.on('connection', one => soak.targets.add(one.threadId));
  const workers: Worker[] = [];
  for (let number = 0; number < CONNECTIONS; number += 1) {
    const killable = isKillable(number);
    if (number < clients) {
      workers.push(new Worker(soak, number, { pool: killable ? killedPool : sparedPool }, killable));
    } else {
      const session = await bench.open();
      await session.query('SET innodb_lock_wait_timeout = 10');
      if (killable) soak.targets.add(session.threadId);
      workers.push(new Worker(soak, number, { session }, killable));
    }
  }
  return workers;
}

/** Kills queries at random moments; resolves to how many KILLs were sent. */
async function kill(soak: Soak, killer: Connection): Promise<number> {
  let sent = 0;
  while (!soak.ended) {
    await sleep(random(2000 / KILLS_PER_SECOND));
    const targets = [...soak.targets];
    const target = targets[random(targets.length)];
    if (target === undefined) continue;
    soak.killedAt.set(target, performance.now());
    try {
      await killer.query(`KILL QUERY ${target}`);
      soak.note('kill', { thread: target });
      sent += 1;
    } catch (error) {
      if (errnoOf(error) !== NO_SUCH_THREAD) throw error;
      soak.targets.delete(target);
    }
  }
  return sent;
}

/** Hands on a point for each sixtieth of the time, or each second. */
async function watch(bench: Bench, soak: Soak, seconds: number): Promise<void> {
  const root = await bench.open();
  const { tally } = soak;
  const begun = performance.now();
  const step = Math.max(seconds / 60, 1) * 1000;
  let [last, ids] = [begun, 0];
  for (let next = begun + step; !soak.ended; next += step) {
    while (!soak.ended && performance.now() < next) await sleep(Math.min(next - performance.now(), 500));
    const now = performance.now();
    if (now - last < step / 2) return; // the end came
    const { recent } = tally;
    tally.recent = new Times();
    bench.point({
      at: (now - begun) / 1000,
      idsPerSecond: ((tally.ids - ids) * 1000) / (now - last),
      get: recent.latency('get'),
      did: recent.latency('did'),
      memory: { client: process.memoryUsage.rss(), server: await memoryOfServer(root, bench.pid) },
      load: loadavg()[0]!,
    });
    [last, ids] = [now, tally.ids];
  }
}

/** How many deadlocks the server has counted. */
async function deadlocksOf(connection: Connection): Promise<number> {
  const [[status]] = await connection.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'");
  if (status) return Number(status.Value);
  const [[metric]] = await connection.query<RowDataPacket[]>(
    "SELECT count AS n FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'",
  );
  return Number(metric!.n);
}

/** What must hold when all is quiet. */
async function lookInTheEnd(soak: Soak, rows: number): Promise<void> {
  const { tally, observer, table } = soak;
  await sleep(3_000); // the shortest locks run out
  const work = await soak.idsIn(0, rows);
  if (work.length !== rows) tally.violation('ids are lost', `${work.length} of ${rows} are there`);
  const [locked] = await observer.query<RowDataPacket[]>(
    `SELECT id, lock_until FROM ${table} WHERE id <= ${rows} AND lock_until > UNIX_TIMESTAMP()`,
  );
  if (locked.length > 0) tally.violation('ids stay locked by nobody', `${locked.length}: ${JSON.stringify(locked[0])}`);
  const shared = await soak.idsIn(FIRST.shared, SIZE.shared);
  if (shared.length !== SIZE.shared) tally.violation('ids are lost', `${shared.length} of ${SIZE.shared} shared`);
  const churned = await soak.idsIn(FIRST.churned, SIZE.churned);
  if (churned.length !== soak.churned)
    tally.violation('added less removed are not the rows', `${soak.churned}, and ${churned.length} are there`);
  const fresh = new Set(await soak.idsIn(FIRST.fresh, SIZE.fresh));
  if ([...soak.fresh.sure].some(id => !fresh.has(id))) tally.violation('ids are lost', 'fresh');
  if ([...fresh].some(id => !soak.fresh.possible.has(id))) tally.violation('ids are there that nobody added', 'fresh');
  const got = (await plainly(observer, table)('get', rows * 2 + 100_000, 60, 0)).ids.filter(isWork);
  if (got.length !== rows || new Set(got).size !== rows)
    tally.violation('get does not find all ids', `${got.length} of ${rows}`);
}

function rowsOf({ tally }: Soak, deadlocks: number, kills: number, seconds: number): SoakRow[] {
  const counted = (what: string, times: number): SoakRow => ({ what, times, perSecond: times / seconds });
  const calls = tally.times.procedures.map(procedure => ({
    ...counted(procedure, tally.times.count(procedure)),
    ms: tally.times.latency(procedure),
    killed: tally.killed[procedure] ?? 0,
  }));
  const { inTransactions, byClient, reached } = tally.deadlocks;
  const violations = tally.violations.reduce((sum, { times }) => sum + times, 0);
  return [
    ...calls.sort((a, b) => b.times - a.times),
    counted('ids that get gave', tally.ids),
    counted("callers' transactions, committed", tally.transactions.committed),
    counted("callers' transactions, rolled back", tally.transactions.rolledBack),
    counted('KILL QUERY sent', kills),
    counted('a named lock held after one', tally.namedLocks),
    counted('deadlocks, counted by the server', deadlocks),
    counted("… in callers' own transactions", inTransactions),
    counted('… repeated by the client', byClient),
    counted('… repeated inside', deadlocks - inTransactions - byClient - reached),
    { ...counted('… reached a plain caller', reached), never: true },
    { ...counted('violations', violations), never: true },
  ];
}

export const soak: Section<SoakRow> = {
  title: 'Everything at once',
  about:
    `All procedures on one loop for ten minutes, or as many as --minutes says (with --quick: ten seconds), by ${CONNECTIONS} connections, half of them ` +
    `with the client, some calls in transactions; and up to ${KILLS_PER_SECOND} KILL QUERYs a second. How long the calls took, ms, ` +
    'and what was counted. A violation is an id with two holders or none, half of a call done, a count that is wrong, ' +
    'anything that a killed call leaves to the next, an error that is not the KILL’s, and the like.',
  columns: [
    { title: 'what', width: 34, align: 'left' },
    { title: 'times', width: 9 },
    { title: 'a second', width: 8 },
    { title: 'median', width: 6 },
    { title: '99 %', width: 6 },
    { title: 'most', width: 6 },
    { title: 'killed', width: 6 },
  ],
  measure: (bench, done) => {
    const { seconds, rows } = bench.quick ? { seconds: 10, rows: 5_000 } : { seconds: 600, rows: 20_000 };
    return measureSoak(bench, { seconds: bench.minutes === undefined ? seconds : bench.minutes * 60, rows }, done);
  },
  values: ({ what, times, perSecond, ms, killed, never }) => [
    what,
    marked(count(times), !never || times === 0),
    digits(perSecond),
    ...[ms?.p50, ms?.p99, ms?.max].map(n => (n === undefined ? '' : digits(n))),
    killed === undefined ? '' : count(killed),
  ],
};
