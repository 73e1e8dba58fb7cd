/** A worker as a process of its own, to be killed, stopped and told to end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { WorkOptions, WorkSummary } from '../src/index.js';
import { database, server } from './harness.js';

/** Says each id that it has updated, each that it has lost, and in the end what became of all. */
const WORKER = `
  import { setTimeout as sleep } from 'node:timers/promises';
  import mysql from 'mysql2/promise';
  import { DoLoop } from '${new URL('../src/index.js', import.meta.url)}';
  const [uri, database, table, updateMs, options] = JSON.parse(process.env.WORKER);
  const pool = mysql.createPool({ uri, database });
  const stop = new AbortController();
  process.on('SIGTERM', () => stop.abort());
  const summary = await new DoLoop(pool, table).work(
    async id => {
      await sleep(updateMs);
      process.stdout.write(id + '\\n');
    },
    {
      ...options,
      signal: stop.signal,
      onEvent: event => {
        if (event.type === 'lost') for (const id of event.ids) process.stdout.write('lost ' + id + '\\n');
      },
    },
  );
  await pool.end();
  process.stdout.write(JSON.stringify(summary));`;

const OPTIONS = { maxIds: 20, lockFor: 2, concurrency: 4, pollInterval: 1, gracePeriod: 5 };

export interface WorkerProcess {
  child: ChildProcess;
  /** The ids that it has updated. */
  updated: () => number[];
  /** The ids that it has told of as lost. */
  lost: () => number[];
  ended: Promise<{ code: number | null; signal: string | null; summary: WorkSummary | undefined }>;
}

/** @param updateMs how long each update takes. */
export function startWorker(
  table: string,
  options: Omit<WorkOptions<number>, 'signal' | 'onEvent'> = {},
  updateMs = 10,
): WorkerProcess {
  const settings = [server.url, database, table, updateMs, { ...OPTIONS, ...options }];
  const child = spawn(process.execPath, ['--input-type=module', '-e', WORKER], {
    cwd: new URL('.', import.meta.url),
    env: { ...process.env, WORKER: JSON.stringify(settings) },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 120_000,
    killSignal: 'SIGKILL', // a stopped one heeds no other
  });
  let output = '';
  child.stdout!.setEncoding('utf8').on('data', data => {
    output += data;
  });
  const said = (what: RegExp) => () => [...output.matchAll(what)].map(([, id]) => Number(id));
  return {
    child,
    updated: said(/^(\d+)\n/gm),
    lost: said(/^lost (\d+)\n/gm),
    ended: once(child, 'close').then(([code, signal]) => {
      const [summary] = /\{.*\}$/.exec(output) ?? [];
      return { code, signal, summary: summary === undefined ? undefined : JSON.parse(summary) };
    }),
  };
}
