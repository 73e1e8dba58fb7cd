/**
 * The main job on real input: the paths of a folder's files are the ids of a loop, and several worker processes keep the
 * files' SHA-256 fresh. Nothing is left behind: no process, no folder, no database.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import cliProgress from 'cli-progress';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { chalk } from 'zx';
import { create, DoLoop } from '../src/index.js';
import { find, PATH_TYPE, sha256, state } from './demo-files.js';
import { DATABASE, type Job, LOOP, update } from './demo-worker.js';
import { end, fail, inTheEnd, isEnding, makeDatabase, unlessEnding } from './ending.js';
import { openServer } from './server.js';
import { guardFolder } from './server-install.js';

const USAGE = `Usage: npm run demo -- [FOLDER] [--files N]
  FOLDER     its files are hashed, and only read (default: this project's own)
  --files N  no more than so many (default: 10000)
The server is that of MYSQL_URL, or else a private one.`;

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const WORKERS = 4;
/** Seconds: enough to see that ids stay locked, and short enough to see their lock run out. */
const LOCK_FOR = 5;
/** A few files are hashed so many times, unless that is more updates than these or takes longer. */
const ROUNDS = 5;
const ROUNDS_UPDATES = 12_000;
const ROUNDS_MS = 8_000;
/** For how long to wait for anything. */
const PATIENCE_MS = 60_000;

// ---- Output

const say = (line: string) => {
  if (!isEnding()) console.log(line);
};
const heading = (text: string) => say(`\n${chalk.bold(text)}`);
const count = (n: number) => n.toLocaleString('en');
const many = (n: number, what: string) => `${count(n)} ${what}${n === 1 ? '' : 's'}`;
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const perSecond = (n: number, ms: number) => `${count(Math.round((n * 1000) / Math.max(ms, 1)))} ids/s`;

/** Says what was seen to be so; or that it is not, and then the demo has failed. */
function check(isSo: boolean, text: string): void {
  if (!isSo) process.exitCode = 1;
  say(`  ${isSo ? chalk.green('✓') : chalk.red('✗ NOT so:')} ${text}`);
}

/** A path for people: short enough, and without what a terminal takes for commands. */
function shown(path: string, max = 34): string {
  const clean = path.replaceAll(/\p{C}/gu, '?');
  return clean.length > max ? `…${clean.slice(1 - max)}` : clean;
}

/** Rows in columns, each aligned as the letter for it says: left or right. */
function table(alignment: string, rows: string[][]): void {
  const widths = [...alignment].map((_, column) => Math.max(...rows.map(row => row[column]!.length)));
  for (const row of rows) {
    const cells = row.map((cell, column) =>
      alignment[column] === 'l' ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
    );
    say(`  ${cells.join('  ').trimEnd()}`);
  }
}

// ---- The workers

const workers = new Set<ChildProcess>();

function startWorker(url: string, job: Job): ChildProcess {
  unlessEnding();
  const env = { ...process.env, MYSQL_URL: url, DOLOOP_DEMO_JOB: JSON.stringify(job) };
  const worker = fork(fileURLToPath(new URL('demo-worker.js', import.meta.url)), { env });
  workers.add(worker);
  return worker;
}

/** Lets the workers finish what they have, and end. */
async function letGo(): Promise<void> {
  const all = [...workers];
  for (const worker of all) if (worker.connected) worker.disconnect();
  await Promise.all(all.map(ended));
  if (all.some(worker => worker.exitCode !== 0)) throw new Error('A worker has failed');
}

/** kill -9. */
async function kill(worker: ChildProcess): Promise<void> {
  worker.kill('SIGKILL');
  await ended(worker);
}

async function ended(worker: ChildProcess): Promise<void> {
  workers.delete(worker);
  if (!hasEnded(worker)) await once(worker, 'exit');
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess) => exitCode !== null || signalCode !== null;

/** Waits until it is so, while the workers work. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (const begun = Date.now(); !(await isSo()); await sleep(100)) {
    if ([...workers].some(hasEnded)) throw new Error('A worker has ended, which it should not');
    if (Date.now() - begun > PATIENCE_MS) throw new Error(`Waited ${seconds(PATIENCE_MS)} in vain`);
  }
}

interface Progress {
  value: number;
  note: string;
  done: boolean;
}

/** Watches the workers until they are done: as a progress bar on a terminal, else in a line now and then. */
async function watch(total: number, look: () => Promise<Progress>): Promise<void> {
  const bar = new cliProgress.SingleBar({
    format: `  ${chalk.cyan('{bar}')} {note}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 24,
    hideCursor: true,
    gracefulExit: false,
    stream: process.stdout,
  });
  unlessEnding();
  inTheEnd(() => bar.stop());
  bar.start(total, 0, { note: '' });
  let said = Date.now();
  await until(async () => {
    const { value, note, done } = await look();
    bar.update(Math.min(value, total), { note });
    if (!process.stdout.isTTY && Date.now() - said > 2000) {
      said = Date.now();
      say(`  ${note}`);
    }
    return done;
  });
  bar.stop();
}

// ---- The database

async function makeTables(connection: Connection): Promise<void> {
  await connection.query(
    `CREATE TABLE file_hash (
      path      ${PATH_TYPE} PRIMARY KEY,
      sha256    CHAR(64) CHARACTER SET ascii NOT NULL,
      hashed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
      times     INT NOT NULL DEFAULT 1
    )`,
  );
  await create(connection, LOOP, { idType: PATH_TYPE });
}

async function select(connection: Connection, sql: string, values: unknown[] = []): Promise<RowDataPacket[]> {
  const [rows] = await connection.query<RowDataPacket[]>(sql, values);
  return rows;
}

async function hash(connection: Connection, path: string): Promise<string> {
  const [row] = await select(connection, 'SELECT sha256 FROM file_hash WHERE path = ?', [path]);
  return row!.sha256;
}

async function countUpdates(connection: Connection): Promise<number> {
  const [row] = await select(connection, 'SELECT SUM(times) AS updates FROM file_hash');
  return Number(row!.updates);
}

async function lockedIds(connection: Connection): Promise<string[]> {
  const rows = await select(connection, `SELECT id FROM ${LOOP} WHERE lock_until > UNIX_TIMESTAMP()`);
  return rows.map(row => row.id);
}

/** When the ids were last updated, by id. */
async function updateTimes(connection: Connection, ids: string[]): Promise<number[]> {
  const rows = await select(connection, `SELECT last_updated FROM ${LOOP} WHERE id IN (?) ORDER BY id`, [ids]);
  return rows.map(row => row.last_updated);
}

// ---- The steps

interface Demo {
  folder: string;
  /** The state of each file, by id. */
  files: Map<string, string>;
  /** The id of a file that is the demo's own, since it is to be changed: its absolute path. */
  note: string;
  connection: Connection;
  loop: DoLoop<string>;
  job: Job;
  start(n: number, options?: Partial<Job>): ChildProcess[];
}

/** So that all ids are due. */
const DUE = { lockFor: LOCK_FOR, minLoopTime: 0 };

async function prepare(folder: string, maxFiles: number): Promise<Demo> {
  const { files, bytes, skipped, cut } = await find(folder, maxFiles);
  say(chalk.bold(`doloop demo: ${WORKERS} workers keep the SHA-256 of files fresh`));
  say(`  files   ${count(files.size)} in ${shown(folder)}, ${(bytes / 1e6).toFixed(1)} MB`);
  for (const [reason, n] of skipped) say(`          left out: ${count(n)} ${reason}`);
  if (cut) say('          left out: the rest, so that this takes less than a minute');

  const temp = mkdtempSync(join(tmpdir(), 'doloop-demo-'));
  inTheEnd(guardFolder(temp));
  const note = join(temp, 'note.txt');
  await write(files, note, 'one\n');

  if (!process.env.MYSQL_URL) say('  server  a private one is being started ...');
  const { kind, version, url, stop } = await openServer();
  inTheEnd(stop);
  say(`  server  ${kind === 'mysql' ? 'MySQL' : 'MariaDB'} ${version.split('-')[0]}, database ${DATABASE}`);
  const connection = await makeDatabase(url, DATABASE);
  await makeTables(connection);
  inTheEnd(() => Promise.all([...workers].map(kill)));
  const loop = new DoLoop<string>(connection, LOOP);
  const added = await loop.add(files.keys());
  say(`  loop    ${LOOP}, ${count(added)} ids: their paths, and that of a note to be changed`);

  const maxIds = Math.min(Math.max(Math.floor(files.size / 10), 1), 200);
  const job: Job = { ...DUE, folder, maxIds, pause: 0 };
  const start = (n: number, options: Partial<Job> = {}) =>
    Array.from({ length: n }, () => startWorker(url, { ...job, ...options }));
  return { folder, files, note, connection, loop, job, start };
}

async function write(files: Map<string, string>, path: string, text: string): Promise<void> {
  writeFileSync(path, text);
  files.set(path, (await state(path))!);
}

async function goRound({ files, connection, loop, start }: Demo): Promise<void> {
  heading('The workers go round and round, the stalest files first');
  const total = files.size;
  const target = Math.max(total, Math.min(total * ROUNDS, ROUNDS_UPDATES));
  let begun = Date.now();
  let updates = 0;
  let firstRound: number | undefined;
  const elapsed = () => Date.now() - begun;
  start(WORKERS);
  await watch(target, async () => {
    const now = Date.now();
    const { locked, neverUpdated } = await loop.stats({ delayThresholds: [] });
    updates = await countUpdates(connection);
    if (updates === 0 && locked === 0) begun = now; // they are still starting
    if (neverUpdated === 0) firstRound ??= elapsed();
    return {
      value: updates,
      note: `${count(updates)} of ${count(target)} updates, ${perSecond(updates, elapsed())}`,
      done: firstRound !== undefined && (updates >= target || elapsed() > ROUNDS_MS),
    };
  });
  const took = elapsed();
  await letGo();
  const { neverUpdated } = await loop.stats({ delayThresholds: [] });
  const hashed = total - neverUpdated!;
  check(
    neverUpdated === 0,
    `${count(hashed)} of ${count(total)} files were hashed in the first ${seconds(firstRound!)}`,
  );
  say(`  ${count(updates)} updates by ${WORKERS} workers in ${seconds(took)}: ${perSecond(updates, took)}`);
}

async function bump({ files, note, connection, loop, job }: Demo): Promise<void> {
  heading('A file changes, and is bumped');
  await sleep(1000); // times are whole seconds
  await loop.did(note); // the freshest of all, whose turn would come last
  const [stalest] = await loop.get(1, { ...DUE, dryRun: true });
  say(`  before: get(1) would answer ${shown(stalest!)}, the stalest`);
  await write(files, note, 'two\n');
  await loop.bump(note);
  const batch = await loop.get(1, DUE);
  check(batch[0] === note, `bumped: get(1) answers ${shown(batch[0]!)}, first of ${count(files.size)}`);
  const before = await hash(connection, note);
  await update(connection, batch, job);
  const after = await hash(connection, note);
  const isNew = after !== before && after === (await sha256(note));
  check(isNew, `its hash was ${before.slice(0, 12)}… and is ${after.slice(0, 12)}…`);
}

async function killOne({ files, connection, loop, job, start }: Demo): Promise<string[]> {
  heading('A worker is killed in the middle');
  // So slow that it can't be done with what it gets before the lock runs out.
  const [victim] = start(1, { pause: (LOCK_FOR * 2000) / job.maxIds });
  await until(async () => (await loop.stats()).locked > 0);
  const held = await lockedIds(connection);
  await kill(victim!);
  say(`  kill -9 ${victim!.pid}: it had got ${many(held.length, 'id')}, locked for ${LOCK_FOR} s`);

  const before = await updateTimes(connection, held);
  const updatesBefore = await countUpdates(connection);
  const updates = async () => (await countUpdates(connection)) - updatesBefore;
  start(WORKERS - 1);
  await watch(LOCK_FOR, async () => {
    const left = Math.max(...(await loop.check(held)).map(({ lockedFor }) => lockedFor ?? 0));
    if (left <= 2) await letGo(); // else they would take these ids, too
    return {
      value: LOCK_FOR - left,
      note: `${count(await updates())} updates by others, locked for ${left} s more`,
      done: left <= 0,
    };
  });
  const untouched = isDeepStrictEqual(await updateTimes(connection, held), before);
  check(
    untouched,
    `they stayed locked: ${count(await updates())} updates by ${WORKERS - 1} other workers, none of them theirs`,
  );
  const first = await loop.get(held.length, { ...DUE, dryRun: true });
  const same = isDeepStrictEqual([...first].sort(), [...held].sort());
  check(same, `their lock has run out: get(${held.length}) answers just these, first of ${count(files.size)}`);

  start(1, { minLoopTime: 3600 }); // nothing else is due then
  await until(async () => {
    const { bumped, locked } = await loop.stats();
    return bumped + locked === 0;
  });
  await letGo();
  const again = (await updateTimes(connection, held)).filter((time, index) => time > before[index]!).length;
  check(again === held.length, `another worker has hashed them: ${count(again)} of ${count(held.length)}`);
  return held;
}

async function compare({ folder, files, connection }: Demo): Promise<void> {
  heading('Every hash is compared with its file');
  const rows = await select(connection, 'SELECT path, sha256 FROM file_hash');
  const stored = new Map<string, string>(rows.map(row => [row.path, row.sha256]));
  let verified = 0;
  let others = 0;
  const wrong: string[] = [];
  for (const [id, before] of files) {
    const path = resolve(folder, id);
    const real = await sha256(path);
    if (real !== undefined && real === stored.get(id)) verified += 1;
    else if ((await state(path)) !== before) others += 1;
    else wrong.push(id);
  }
  if (others > 0) say(`  ${count(others)} changed by somebody else meanwhile`);
  check(wrong.length === 0, `${count(verified)} verified, ${count(wrong.length)} mismatches`);
  for (const path of wrong.slice(0, 5)) say(`    ${shown(path, 74)}`);
}

async function audit({ loop }: Demo, ids: string[]): Promise<void> {
  heading('check and stats');
  const time = (s: number | null) => (s === null ? '-' : `${s} s`);
  const statuses = await loop.check(ids);
  table('lrrr', [
    ['id', 'sinceUpdated', 'lockedFor', 'failures'],
    ...statuses.map(one => [shown(one.id), time(one.sinceUpdated), time(one.lockedFor), String(one.failures)]),
  ]);
  say('');
  const { delayed, minId, maxId, ...stats } = await loop.stats({ delayThresholds: [10, 60] });
  const cells = (name: keyof typeof stats) => [name, name.endsWith('Time') ? time(stats[name]) : count(stats[name]!)];
  const late = (threshold: number) => [`delayed > ${threshold} s`, count(delayed![threshold]!)];
  table('lrlrlr', [
    [...cells('total'), ...cells('bumped'), ...cells('locked')],
    [...cells('neverUpdated'), ...cells('minBumpTime'), ...cells('minLockTime')],
    [...late(10), ...cells('maxBumpTime'), ...cells('maxLockTime')],
    [...late(60), ...cells('minUpdateTime'), ...cells('maxUpdateTime')],
  ]);
  say(`  minId ${shown(minId!, 70)}\n  maxId ${shown(maxId!, 70)}`);
}

async function demo(folder: string, maxFiles: number): Promise<void> {
  const begun = Date.now();
  const it = await prepare(folder, maxFiles);
  await goRound(it);
  await bump(it);
  const held = await killOne(it);
  await compare(it);
  await audit(it, [it.note, held[0]!]);
  const updates = count(await countUpdates(it.connection));
  if (isEnding()) return;
  await end();
  const took = seconds(Date.now() - begun);
  console.log(
    process.exitCode
      ? chalk.red(`\nFailed, in ${took}: what has a ✗ should have been so.`)
      : `\nDone in ${took}: ${updates} updates of ${many(it.files.size, 'file')}, and nothing is left behind.`,
  );
}

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { files: { type: 'string', default: '10000' }, help: { type: 'boolean' } },
  });
  const maxFiles = Number(values.files);
  if (values.help || positionals.length > 1 || !Number.isInteger(maxFiles)) {
    console.log(USAGE);
    process.exitCode = values.help ? 0 : 1;
  } else {
    // npm runs this in the project's folder, and tells where it was called.
    await demo(resolve(process.env.INIT_CWD ?? '', positionals[0] ?? PROJECT), maxFiles);
  }
} catch (error) {
  if (!isEnding()) fail(error);
}
await end();
