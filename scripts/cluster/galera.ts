import type { Cluster, ClusterOptions } from './cluster.js';

export async function startGalera(_options: ClusterOptions): Promise<Cluster> {
  throw new Error('not yet');
}
