/**
 * `npm run cluster -- galera`: brings a cluster up, and ends it at Ctrl-C. With `--measure` it measures how fast the
 * cluster is, instead.
 */
import { parseArgs } from 'node:util';
import { CLUSTER_KINDS, type ClusterKind, startCluster } from './cluster.js';
import { measure } from './measure.js';

const USAGE = `usage: npm run cluster -- ${CLUSTER_KINDS.join('|')} [--measure]`;

function given(): { kind: ClusterKind; measure: boolean } {
  const { values, positionals } = parseArgs({ options: { measure: { type: 'boolean' } }, allowPositionals: true });
  const [kind, ...more] = positionals;
  if (more.length > 0 || !CLUSTER_KINDS.includes(kind as ClusterKind)) throw new Error('not one kind of cluster');
  return { kind: kind as ClusterKind, measure: values.measure ?? false };
}

async function run(options: { kind: ClusterKind; measure: boolean }): Promise<void> {
  const cluster = await startCluster(options);
  if (options.measure) {
    console.log(await measure(cluster, {}));
    await cluster.stop();
    return;
  }
  console.log(`${cluster.kind} ${cluster.version}\n${cluster.nodes.map(({ url }) => url).join('\n')}\nCtrl-C ends it.`);
  setInterval(() => {}, 1 << 30);
}

let options: ReturnType<typeof given> | undefined;
try {
  options = given();
} catch (error) {
  console.error(`${(error as Error).message}\n${USAGE}`);
  process.exitCode = 2;
}
if (options) {
  await run(options).catch(error => {
    console.error((error as Error).message);
    process.exitCode = 1;
  });
}
