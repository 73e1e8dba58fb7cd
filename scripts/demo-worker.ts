/** A worker of the demo: gets ids, which are paths of files, and keeps the files' SHA-256 in a table of its own. */
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import { type Batch, DoLoop } from '../src/index.js';
import { connect } from './connect.js';
import { sha256 } from './demo-files.js';

export const DATABASE = 'doloop_demo';
export const LOOP = 'file_loop';

/** What a worker is to do. Its server is that of MYSQL_URL. */
export interface Job {
  /** Where relative paths begin. */
  folder: string;
  /** How many ids to get at once. */
  maxIds: number;
  lockFor: number;
  minLoopTime: number;
  /** Milliseconds to lose on each file. */
  pause: number;
}

/** Updates what `get` picked. One transaction stores the hashes and marks their ids as done. */
export async function update(connection: Connection, paths: Batch<string>, { folder, pause }: Job): Promise<void> {
  const hashes: [string, string][] = [];
  for (const path of paths) {
    const hash = await sha256(resolve(folder, path));
    if (hash !== undefined) hashes.push([path, hash]); // else the file is gone
    if (pause > 0) await sleep(pause);
  }
  await connection.beginTransaction();
  await new DoLoop<string>(connection, LOOP).did(paths);
  if (hashes.length > 0) {
    await connection.query(
      `INSERT INTO file_hash (path, sha256) VALUES ?
        ON DUPLICATE KEY UPDATE sha256 = VALUES(sha256), hashed_at = NOW(6), times = times + 1`,
      [hashes],
    );
  }
  await connection.commit();
}

/** Works until the process that started this one lets go of it, or is no more. */
async function work(job: Job): Promise<void> {
  const { maxIds, lockFor, minLoopTime } = job;
  let ending = false;
  process.once('disconnect', () => {
    ending = true;
  });
  process.on('SIGINT', () => {}); // a terminal's Ctrl-C is for the demo, which ends its workers
  const connection = await connect({ database: DATABASE });
  const loop = new DoLoop<string>(connection, LOOP);
  while (!ending) {
    const paths = await loop.get(maxIds, { lockFor, minLoopTime });
    if (paths.length > 0) await update(connection, paths, job);
    else await sleep(50);
  }
  await connection.end();
}

const { DOLOOP_DEMO_JOB: job } = process.env;
if (job) {
  const parent = process.ppid;
  try {
    await work(JSON.parse(job) as Job);
  } catch (error) {
    // Without the demo there may be no server either, and nobody to tell.
    if (process.ppid === parent) console.error(`A worker: ${(error as Error).message}`);
    process.exit(1);
  }
}
