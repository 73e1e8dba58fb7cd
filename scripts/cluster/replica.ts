/** A primary, and a replica that copies it, asynchronously: what the primary has told a client, the replica may not have yet. */
import type { Connection } from 'mysql2/promise';
import { type PrivateServer, startServer } from '../server.js';
import { type Kind, provide } from '../server-install.js';
import { type Account, connected, makeAccount, newAccount, only } from './account.js';
import type { Cluster, ClusterOptions, Node } from './cluster.js';

/** For how long the replica may be behind, s. */
const PATIENCE = 60;

/** How each kind says it. */
const STATEMENTS = {
  mariadb: {
    settings: [],
    follow: ({ user, password }: Account, port: number) =>
      `CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = ${port}, MASTER_USER = '${user}',
        MASTER_PASSWORD = '${password}', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1`,
    position: 'SELECT @@GLOBAL.gtid_binlog_pos AS position',
    reached: `SELECT MASTER_GTID_WAIT(?, ${PATIENCE}) AS late`,
  },
  mysql: {
    settings: ['--gtid-mode=ON', '--enforce-gtid-consistency=ON'],
    follow: ({ user, password }: Account, port: number) =>
      `CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = ${port}, SOURCE_USER = '${user}',
        SOURCE_PASSWORD = '${password}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1`,
    position: 'SELECT @@GLOBAL.gtid_executed AS position',
    reached: `SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ${PATIENCE}) AS late`,
  },
} satisfies Record<Kind, object>;

export interface Replicated extends Cluster {
  /** Resolves when the replica has all that the primary has now. */
  caughtUp(): Promise<void>;
  /** Makes the replica a primary of its own, which may be written: what a failover does, whether or not the old one lives. */
  promote(): Promise<void>;
}

/**
 * Starts a primary (the first node) and its replica, which is read_only.
 *
 * @throws Error as `startServer` does.
 */
export async function startReplicated(kind: Kind, options: ClusterOptions = {}): Promise<Replicated> {
  const { settings = [], log = console.error } = options;
  const its = STATEMENTS[kind];
  await provide(kind, log); // once, rather than by both at the same time
  const ends: (() => Promise<void>)[] = [];
  const stop = async () => void (await Promise.all(ends.map(end => end())));
  const start = async (number: number): Promise<PrivateServer> => {
    const server = await startServer({ kind, log, settings: [`--server-id=${number}`, ...its.settings, ...settings] });
    ends.push(() => server.kill().then(server.stop)); // its folder is removed: no need of good order
    return server;
  };
  try {
    const [primary, replica] = settled(await Promise.allSettled([start(1), start(2)]));
    const account = newAccount();
    const [from, to] = [await makeAccount(primary.url, account), await makeAccount(replica.url, account)];
    const onReplica = <T>(work: (connection: Connection) => Promise<T>) => connected(to, work);
    await onReplica(async connection => {
      await connection.query(its.follow(account, portOf(from)));
      await connection.query('START REPLICA');
      await connection.query('SET GLOBAL read_only = ON');
    });
    const wire = {
      cutOff: () => onReplica(async connection => void (await connection.query('STOP REPLICA IO_THREAD'))),
      rejoin: () => onReplica(async connection => void (await connection.query('START REPLICA IO_THREAD'))),
    };
    return {
      kind: `${kind}-replica`,
      version: primary.version,
      nodes: [nodeOf(primary, from, wire), nodeOf(replica, to, wire)],
      caughtUp: async () => {
        const position = await connected(from, connection => only(connection, its.position));
        const late = await onReplica(connection => only(connection, its.reached, [position]));
        if (late !== 0) throw new Error(`the replica is behind by more than ${PATIENCE} s`);
      },
      promote: () =>
        onReplica(async connection => {
          await connection.query('STOP REPLICA');
          await connection.query('RESET REPLICA ALL');
          await connection.query('SET GLOBAL read_only = OFF');
        }),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

const portOf = (url: string) => Number(new URL(url).port);

/** What became of both, so that neither goes on when the other has failed. */
function settled<T>([first, second]: [PromiseSettledResult<T>, PromiseSettledResult<T>]): [T, T] {
  if (first.status === 'rejected') throw first.reason;
  if (second.status === 'rejected') throw second.reason;
  return [first.value, second.value];
}

function nodeOf(server: PrivateServer, url: string, wire: Pick<Node, 'cutOff' | 'rejoin'>): Node {
  const { kill, restart, freeze, thaw } = server;
  return { url, port: portOf(url), kill, start: restart, freeze, thaw, ...wire };
}
