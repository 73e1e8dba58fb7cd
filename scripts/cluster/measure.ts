/** How many ids a second a cluster gets through, with one writing node and with all, beside one server alone. */
import { createPool, type Pool } from 'mysql2/promise';
import { create, DoLoop } from '../../src/index.js';
import type { MySqlError } from '../../src/mysql.js';
import { ratios, spread, takeTurns } from '../bench/measure.js';
import { type Server, startServer } from '../server.js';
import type { Kind } from '../server-install.js';
import type { Cluster, ClusterKind, ClusterOptions } from './cluster.js';

const IDS = 100_000;
const BATCH = 50;
const WORKERS = 12;
const TURNS = 5;
const TURN_MS = 4_000;
const TABLE = 'app.user_loop';
/** A conflict with what another node has committed. */
const UNDONE = new Set([1213, 3101, 1180]);

/** A server alone that does for each write what a node does. */
const ALONE: Record<ClusterKind, { kind: Kind; settings: string[] }> = {
  galera: { kind: 'mariadb', settings: ['--skip-log-bin', '--innodb-buffer-pool-size=128M'] },
  'group-replication': { kind: 'mysql', settings: ['--gtid-mode=ON', '--enforce-gtid-consistency=ON'] },
  'group-replication-multi-primary': { kind: 'mysql', settings: ['--gtid-mode=ON', '--enforce-gtid-consistency=ON'] },
  'mariadb-replica': { kind: 'mariadb', settings: [] },
  'mysql-replica': { kind: 'mysql', settings: [] },
};
/** Those of which every node may be written. */
const SEVERAL: ClusterKind[] = ['galera', 'group-replication-multi-primary'];

/** Measures it, for some minutes. Resolves to a table in Markdown. */
export async function measure(
  cluster: Cluster,
  { log = console.error, settings = [] }: ClusterOptions,
): Promise<string> {
  const { kind, nodes, version } = cluster;
  const alone = ALONE[kind];
  const server = await startServer({ kind: alone.kind, log, settings: [...alone.settings, ...settings] });
  try {
    const ways: Record<string, readonly Pick<Server, 'url'>[]> = {
      'one server alone': [server],
      'one node': [nodes[0]!],
    };
    if (SEVERAL.includes(kind)) ways[`all ${nodes.length} nodes`] = nodes;
    for (const { url } of [server, nodes[0]!]) await makeLoop(url);
    const results = await takeTurns(
      TURNS,
      Object.fromEntries(
        Object.entries(ways).map(([way, servers]) => [way, () => turn(servers.map(({ url }) => url))]),
      ),
    );
    const rows = Object.entries(results).map(([way, rates]) => {
      const ratio = ratios(rates, results['one server alone']!);
      const cells = [
        way,
        Math.round(spread(rates).median),
        ratio.median.toFixed(2),
        `${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)}`,
      ];
      return `| ${cells.join(' | ')} |`;
    });
    return [
      `${kind}, ${version}: ${WORKERS} workers, get(${BATCH}) and did; medians of ${TURNS} turns of ${TURN_MS / 1000} s`,
      '',
      '| written by way of | ids a second | to one server alone | least to most |',
      '|---|--:|--:|--:|',
      ...rows,
    ].join('\n');
  } finally {
    await server.stop();
  }
}

async function makeLoop(url: string): Promise<void> {
  const pool = createPool({ uri: url });
  try {
    await pool.query('CREATE DATABASE app');
    await create(pool, TABLE);
    await new DoLoop(pool, TABLE).add(Array.from({ length: IDS }, (_, i) => i + 1));
  } finally {
    await pool.end();
  }
}

/** Workers at these servers, as many at each, for the time of a turn: how many ids a second they mark. */
async function turn(urls: readonly string[]): Promise<number> {
  const pools = urls.map(uri => createPool({ uri, connectionLimit: WORKERS }));
  try {
    const begun = performance.now();
    const done = await Promise.all(
      Array.from({ length: WORKERS }, (_, i) => work(pools[i % pools.length]!, begun + TURN_MS)),
    );
    return done.reduce((sum, count) => sum + count, 0) / ((performance.now() - begun) / 1000);
  } finally {
    await Promise.all(pools.map(pool => pool.end()));
  }
}

async function work(pool: Pool, end: number): Promise<number> {
  const loop = new DoLoop(pool, TABLE);
  let done = 0;
  while (performance.now() < end) {
    try {
      done += await loop.did(await loop.get(BATCH, { minLoopTime: 0 }));
    } catch (error) {
      // Nodes may undo each other's calls more often than the client makes them again; a worker goes on.
      if (!UNDONE.has((error as MySqlError).errno!)) throw error;
    }
  }
  return done;
}
