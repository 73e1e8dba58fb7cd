/** All that the doctor looks at, in order. */
import type { Connection } from 'mysql2/promise';
import type { MySqlError } from '../../../src/mysql.js';
import type { LoopName } from '../../../src/names.js';
import { serverKind, serverVersion } from '../../../src/server-kind.js';
import { type Facts, readFacts } from './facts.js';
import { type Check, type Finding, type Found, ok, problem, warning } from './finding.js';
import { calls, grants, procedures } from './procedures.js';
import { binaryLog, cluster, snapshots, writable } from './server.js';
import { engine, keys, locks, noLoop, shape, times, triggers, updates } from './table.js';

const OF_SERVER: Check[] = [
  { name: 'cluster', look: cluster },
  { name: 'writable', look: writable },
  { name: 'binary log', look: binaryLog },
  { name: 'snapshots', look: snapshots, needs: 'PROCESS' },
];
const OF_LOOP: Check[] = [
  { name: 'table', look: shape },
  { name: 'keys', look: keys },
  { name: 'engine', look: engine },
  { name: 'triggers', look: triggers },
  { name: 'times', look: times },
  { name: 'locks', look: locks },
  { name: 'updates', look: updates, needs: 'SELECT on the table' },
  { name: 'procedures', look: procedures },
  { name: 'calls', look: calls },
  { name: 'grants', look: grants, needs: 'SELECT on mysql.*' },
];
const SERVER = 'server';

/** The names of all checks. */
export const NAMES = [SERVER, ...[...OF_SERVER, ...OF_LOOP].map(({ name }) => name)];

/** Looks at a loop and its server, on a connection for this alone, whose settings are others afterwards. */
export async function* examine(connection: Connection, name: Required<LoopName>): AsyncGenerator<Finding> {
  const server = judged(await serverVersion(connection));
  yield { check: SERVER, ...server };
  if (server.level !== 'ok') return;
  const facts = await readFacts(connection, name);
  yield* each(OF_SERVER, facts);
  const none = noLoop(facts);
  if (none) yield { check: 'table', ...none };
  else yield* each(OF_LOOP, facts);
}

function judged(version: string): Found {
  try {
    return ok(`${serverKind(version)} ${version}`);
  } catch (error) {
    return problem((error as Error).message.replace(/^server: /, ''));
  }
}

async function* each(checks: readonly Check[], facts: Facts): AsyncGenerator<Finding> {
  for (const check of checks) {
    for (const found of await look(check, facts)) yield { check: check.name, ...found };
  }
}

/** Access denied, of each kind: to a database, a table, a column, or for want of a privilege of the server's. */
const DENIED = new Set([1044, 1142, 1143, 1227]);

/** What this account may not see, or nobody at the moment, is no problem of the loop's. */
async function look({ look, needs }: Check, facts: Facts): Promise<Found[]> {
  try {
    return await look(facts);
  } catch (error) {
    const { errno = 0, fatal, message } = error as MySqlError;
    if (errno === 0 || fatal) throw error;
    return [warning(`not seen: ${DENIED.has(errno) && needs ? `needs ${needs}` : message}`)];
  }
}
