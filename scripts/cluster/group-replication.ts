/** MySQL Group Replication: servers that agree on every transaction before it is committed, of which one may be written, or all. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { type PrivateServer, startServer } from '../server.js';
import { provide } from '../server-install.js';
import { freePort } from '../server-process.js';
import { type Account, connected, makeAccount, newAccount, told } from './account.js';
import type { Cluster, ClusterOptions, Node } from './cluster.js';

export interface GroupOptions extends ClusterOptions {
  /** Whether all nodes may be written, rather than one. @default false */
  multiPrimary?: boolean;
}

const SIZE = 3;
const LOCALHOST = '127.0.0.1';
/** How long a node that joins may take to get what it has missed. */
const PATIENCE_MS = 120_000;
/** Longer than a node that hung needs to hear from the others. */
const CALM_MS = 2_000;

/** What is measured is the group, not how long it waits before it takes a member for gone: see the guide. */
const IMPATIENT = ['member_expel_timeout=0', 'unreachable_majority_timeout=5', 'recovery_reconnect_interval=1'];

/**
 * Starts a group; resolves when all its nodes are online. The first one is the primary, unless all are.
 *
 * @throws Error as `startServer` does; and when a node doesn't get into the group.
 */
export async function startGroupReplication(options: GroupOptions = {}): Promise<Cluster> {
  const { multiPrimary = false, settings = [], log = console.error } = options;
  await provide('mysql', log); // once, rather than by each of them at the same time
  const numbers = Array.from({ length: SIZE }, (_, i) => i + 1);
  const ports = await Promise.all(numbers.map(freePort));
  const group = [
    ...[`group_name=${randomUUID()}`, 'start_on_boot=OFF', 'recovery_get_public_key=ON'],
    ...IMPATIENT,
    `group_seeds=${ports.map(port => `${LOCALHOST}:${port}`).join()}`,
    `single_primary_mode=${multiPrimary ? 'OFF' : 'ON'}`,
    `enforce_update_everywhere_checks=${multiPrimary ? 'ON' : 'OFF'}`,
  ];
  const ends: (() => Promise<void>)[] = [];
  const stop = async () => void (await Promise.all(ends.map(end => end())));
  const start = async (number: number): Promise<PrivateServer> => {
    const server = await startServer({
      kind: 'mysql',
      log,
      settings: [
        ...[`--server-id=${number}`, `--report-host=${LOCALHOST}`, '--gtid-mode=ON', '--enforce-gtid-consistency=ON'],
        '--plugin-load-add=group_replication.so',
        ...[...group, `local_address=${LOCALHOST}:${ports[number - 1]}`].map(it => `--loose-group_replication_${it}`),
        ...settings,
      ],
    });
    // Its folder is removed: no need to leave the group in good order, which takes seconds.
    ends.push(() => server.kill().then(server.stop));
    return server;
  };
  try {
    const started = await Promise.allSettled(numbers.map(start));
    const servers = started.map(one => {
      if (one.status === 'rejected') throw one.reason;
      return one.value;
    });
    const account = newAccount();
    const urls = await Promise.all(servers.map(({ url }) => prepare(url, account)));
    await join(urls[0]!, true);
    await Promise.all(urls.slice(1).map(url => join(url)));
    const nodes = servers.map((server, i) => nodeOf(server, urls[i]!, servers, urls));
    const kind = multiPrimary ? 'group-replication-multi-primary' : 'group-replication';
    return { kind, version: servers[0]!.version, nodes, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function nodeOf(server: PrivateServer, url: string, all: readonly PrivateServer[], urls: readonly string[]): Node {
  return {
    url,
    port: Number(new URL(url).port),
    kill: server.kill,
    start: async () => {
      await server.restart();
      await join(url);
    },
    freeze: server.freeze,
    thaw: server.thaw,
    // They listen for each other on all addresses of the machine, so nothing can be put in between: the others hang instead.
    cutOff: async () => {
      for (const other of all) if (other !== server) other.freeze();
    },
    rejoin: async () => {
      for (const one of all) one.thaw();
      await whole(urls);
    },
  };
}

/** Makes the account that a node has for its users, and for what it has missed when it joins. */
async function prepare(url: string, account: Account): Promise<string> {
  const urlOfAccount = await makeAccount(url, account);
  await connected(url, async connection => {
    await connection.query(
      `CHANGE REPLICATION SOURCE TO SOURCE_USER = '${account.user}', SOURCE_PASSWORD = '${account.password}'
        FOR CHANNEL 'group_replication_recovery'`,
    );
  });
  return urlOfAccount;
}

/** Has a node enter the group, unless it is a member, and waits until it is online. `first`: it begins a new one. */
async function join(url: string, first = false): Promise<void> {
  await connected(url, async connection => {
    if (first) await connection.query('SET GLOBAL group_replication_bootstrap_group = ON');
    for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(200)) {
      const state = await stateOf(connection);
      if (state === 'ONLINE') break;
      if (Date.now() > deadline) throw new Error(`a node is ${state}, and not online`);
      if (state === 'RECOVERING') continue;
      if (state === 'ERROR') await connection.query('STOP GROUP_REPLICATION');
      // The others may take it for a member yet, that is about to be expelled.
      await connection.query('START GROUP_REPLICATION').catch(error => {
        if (Date.now() > deadline) throw error;
      });
    }
    if (first) await connection.query('SET GLOBAL group_replication_bootstrap_group = OFF');
  });
}

/** Resolves when all nodes are online and agree on that, for a while: one that hung learns late that it was expelled. */
async function whole(urls: readonly string[]): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (let since = Date.now(); Date.now() - since < CALM_MS; await sleep(200)) {
    await Promise.all(urls.map(url => join(url)));
    const views = await Promise.all(urls.map(url => connected(url, viewOf)));
    if (new Set(views).size === 1 && views[0]!.startsWith(`${urls.length} `)) continue;
    if (Date.now() > deadline) throw new Error(`the nodes do not agree: ${views.join(', ')}`);
    since = Date.now();
  }
}

/** How many members a node sees online, and in which view of the group. */
async function viewOf(connection: Connection): Promise<string> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT CONCAT(SUM(member_state = 'ONLINE'), ' in view ', MAX(view_id)) AS view
      FROM performance_schema.replication_group_members
      LEFT JOIN performance_schema.replication_group_member_stats USING (member_id)`,
  );
  return rows[0]!.view;
}

/** ONLINE, RECOVERING, UNREACHABLE, ERROR or OFFLINE, as the node itself sees it. */
async function stateOf(connection: Connection): Promise<string> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT member_state AS state FROM performance_schema.replication_group_members
      WHERE member_id IN (@@server_uuid, '')`,
  );
  return rows[0]?.state ?? 'OFFLINE';
}

/** What a proxy asks a node before it leads anybody there: is it the group's primary, and are most of the others in sight? */
const MAY_WRITE = `
  SELECT NOT @@GLOBAL.super_read_only AND SUM(member_id = @@server_uuid AND member_state = 'ONLINE') = 1
      AND SUM(member_state <> 'UNREACHABLE') * 2 > COUNT(*) AS ok
    FROM performance_schema.replication_group_members`;

/** Whether a node may be written, as itself sees it. False where it doesn't tell within three seconds. */
export async function mayWrite({ url }: Node): Promise<boolean> {
  return (await told(url, MAY_WRITE)) === 1;
}
