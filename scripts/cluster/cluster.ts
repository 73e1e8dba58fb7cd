/** Several servers that keep the same data, on this machine, for the tests and for trying out. Nothing of it is left afterwards. */
import { startGalera } from './galera.js';
import { startGroupReplication } from './group-replication.js';
import { startReplicated } from './replica.js';

const STARTS = {
  galera: startGalera,
  'group-replication': startGroupReplication,
  'group-replication-multi-primary': (options: ClusterOptions) =>
    startGroupReplication({ ...options, multiPrimary: true }),
  'mariadb-replica': (options: ClusterOptions) => startReplicated('mariadb', options),
  'mysql-replica': (options: ClusterOptions) => startReplicated('mysql', options),
};

export type ClusterKind = keyof typeof STARTS;
export const CLUSTER_KINDS = Object.keys(STARTS) as ClusterKind[];

export interface ClusterOptions {
  /** Told what is about to be installed. Default: standard error. */
  log?: (line: string) => void;
  /** More options for each server, such as `--max-connections=1000`. They win over ours. */
  settings?: string[];
}

/** One server of a cluster. */
export interface Node {
  /** For mysql2; an account that may do everything, the same on all nodes. It names no database. */
  url: string;
  /** Where it listens, of 127.0.0.1. */
  port: number;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again, on the same data and the same port. Resolves when it is one of the cluster again and may be used. */
  start(): Promise<void>;
  /** SIGSTOP: it keeps its connections, and answers nothing. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** Cuts its connections to the other nodes, not those to its clients. Resolves at once: they find out by themselves. */
  cutOff(): Promise<void>;
  /** Undoes that. Resolves when it is one of the cluster again and may be used. */
  rejoin(): Promise<void>;
}

export interface Cluster {
  kind: ClusterKind;
  /** As `SELECT VERSION()` tells it. */
  version: string;
  /** All may be used. Where only one may write, it is the first. */
  nodes: Node[];
  /** Ends all nodes and removes all they wrote. */
  stop(): Promise<void>;
}

/**
 * Starts the nodes, each with a new and empty data directory, on free ports of 127.0.0.1. They end with this process at
 * the latest, however that ends.
 * @throws Error when their programs are not there and can't be installed; when one doesn't start, with the last lines of its log.
 */
export function startCluster(options: ClusterOptions & { kind: ClusterKind }): Promise<Cluster> {
  return STARTS[options.kind](options);
}
