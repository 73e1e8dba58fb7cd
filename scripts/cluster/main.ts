/** `npm run cluster -- galera`: brings a cluster up, and ends it at Ctrl-C. */
import { startCluster } from './cluster.js';

const cluster = await startCluster({ kind: 'galera' });
console.log(cluster.version);
for (const n of cluster.nodes) console.log(n.url);
setInterval(() => {}, 1 << 30);
