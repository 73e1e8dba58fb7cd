/** MariaDB Galera with three nodes on this machine. */
import { randomBytes } from 'node:crypto';
import { chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import { guardFolder, runGuarded } from '../server-install.js';
import { freePorts, ServerProcess } from '../server-process.js';
import { connected, told } from './account.js';
import type { Cluster, ClusterOptions, Node } from './cluster.js';
import { type GaleraPrograms, provideGalera } from './galera-install.js';

const NODES = 3;
/** For how long a node may take to be one of the cluster, ms. */
const PATIENCE_MS = 120_000;
/** As whom the nodes run where we are root: a state transfer's rsync is of no use as root, since it gives up that right. */
const NOBODY = 65_534;

/** Where a node listens. */
interface Ports {
  /** For clients. */
  clients: number;
  /** For the other nodes. */
  group: number;
  /** For what it has missed: as a few writes, or as all files. */
  writes: number;
  files: number;
}

/** What all nodes have in common. */
interface Common {
  programs: GaleraPrograms;
  /** With a folder `bin`, and one for each node. */
  folder: string;
  password: string;
  /** The group ports of all nodes. */
  group: number[];
  settings: readonly string[];
}

/** Starts the cluster. See `startCluster`. */
export async function startGalera({ log = console.error, settings = [] }: ClusterOptions): Promise<Cluster> {
  const programs = await provideGalera(log);
  // A socket's path may have about 100 characters.
  const folder = mkdtempSync(join(tmpdir().length > 70 ? '/tmp' : tmpdir(), 'doloop-'));
  const remove = guardFolder(folder);
  const password = randomBytes(16).toString('hex');
  let nodes: GaleraNode[] = [];
  const stop = async () => {
    await Promise.all(nodes.map(node => node.kill())); // what they have is removed anyway
    await remove();
  };

  try {
    giveAway(folder);
    layOut(folder, programs, password);
    for (let attempt = 1; ; attempt++) {
      const ports = await portsOfNodes();
      const common = { programs, folder, password, group: ports.map(({ group }) => group), settings };
      nodes = ports.map((its, i) => new GaleraNode(common, `${attempt}-${i + 1}`, its));
      try {
        const version = await nodes[0]!.found();
        // One after the other: two that want all files at once wait for each other.
        for (const node of nodes.slice(1)) await node.start();
        return { kind: 'galera', version, nodes, stop };
      } catch (error) {
        await Promise.all(nodes.map(node => node.kill()));
        // Another process may have taken a port meanwhile.
        if (attempt === 5 || !/address already in use/i.test(String(error))) throw error;
      }
    }
  } catch (error) {
    await stop();
    throw new Error(`The Galera cluster did not start: ${(error as Error).message}`);
  }
}

/** What a proxy asks a node before it leads anybody there: is it one of the cluster, with all the others have? */
const MAY_WRITE =
  "SELECT variable_value AS state FROM information_schema.global_status WHERE variable_name = 'wsrep_local_state'";
const SYNCED = '4';

/** Whether a node may be used, as itself sees it. False where it doesn't tell within three seconds. */
export async function mayWrite({ url }: Node): Promise<boolean> {
  return (await told(url, MAY_WRITE)) === SYNCED;
}

/** What the nodes read: where whoever they run as can, and where the server looks for scripts, which is PATH. */
function layOut(folder: string, { provider, scripts }: GaleraPrograms, password: string): void {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  copyFileSync(provider, join(bin, 'provider.so'));
  for (const script of scripts) copyFileSync(script, join(bin, basename(script)));
  writeFileSync(join(folder, 'none.cnf'), '');
  const init = join(folder, 'init.sql');
  const sql = [
    `ALTER USER root@localhost IDENTIFIED BY '${password}'`,
    "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost'",
    'FLUSH PRIVILEGES',
  ];
  writeFileSync(init, `${sql.join(';\n')};\n`, { mode: 0o600 });
  giveAway(init);
}

/** To whom the nodes run as. */
function giveAway(path: string): void {
  if (process.getuid?.() === 0) chownSync(path, NOBODY, NOBODY);
}

/** The beginning of an argv that runs the rest as whom the nodes run as. */
function asOther(): string[] {
  return process.getuid?.() === 0 ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : [];
}

async function portsOfNodes(): Promise<Ports[]> {
  const free = await freePorts(4 * NODES);
  return Array.from({ length: NODES }, (_, i) => {
    const [clients, group, writes, files] = free.slice(4 * i) as [number, number, number, number];
    return { clients, group, writes, files };
  });
}

class GaleraNode implements Node {
  readonly port: number;
  readonly url: string;
  readonly #common: Common;
  readonly #ports: Ports;
  readonly #folder: string;
  readonly #log: string;
  readonly #server: ServerProcess;

  constructor(common: Common, name: string, ports: Ports) {
    this.#common = common;
    this.#ports = ports;
    this.#folder = join(common.folder, name);
    this.#log = join(common.folder, `${name}.log`);
    this.port = ports.clients;
    this.url = `mysql://root:${common.password}@127.0.0.1:${ports.clients}/`;
    const { password } = common;
    this.#server = new ServerProcess(this.#log, { socketPath: join(this.#folder, 'socket'), user: 'root', password });
    for (const path of [this.#folder, this.#data, this.#tmp]) {
      mkdirSync(path, { mode: 0o700 });
      giveAway(path);
    }
  }

  /** Founds the cluster. Resolves to the server's version. */
  async found(): Promise<string> {
    const { programs, folder } = this.#common;
    const initialize = [...programs.mariadb.initialize, `--datadir=${this.#data}`, `--tmpdir=${this.#tmp}`];
    await runGuarded([...asOther(), ...initialize], this.#log);
    return this.#start(['--wsrep-new-cluster', `--init-file=${join(folder, 'init.sql')}`]);
  }

  async start(): Promise<void> {
    await this.#start([]);
  }

  async kill(): Promise<void> {
    await this.#server.end('SIGKILL');
  }

  freeze(): void {
    this.#server.signal('SIGSTOP');
  }

  thaw(): void {
    this.#server.signal('SIGCONT');
  }

  cutOff(): Promise<void> {
    return this.#isolate(true);
  }

  async rejoin(): Promise<void> {
    await this.#isolate(false);
    await this.#whenSynced();
  }

  get #data(): string {
    return join(this.#folder, 'data');
  }

  get #tmp(): string {
    return join(this.#folder, 'tmp');
  }

  async #start(more: string[]): Promise<string> {
    const { programs, folder, group, settings } = this.#common;
    const { clients, group: own, writes, files } = this.#ports;
    const bin = join(folder, 'bin');
    const provider = {
      base_host: '127.0.0.1',
      base_port: own,
      'gmcast.listen_addr': `tcp://127.0.0.1:${own}`,
      'ist.recv_addr': `127.0.0.1:${writes}`,
      'gcache.size': '64M',
      // For how long it waits for a node before the others go on without it.
      'evs.suspect_timeout': 'PT3S',
      'evs.inactive_timeout': 'PT6S',
    };
    const options = {
      datadir: this.#data,
      tmpdir: this.#tmp,
      socket: join(this.#folder, 'socket'),
      port: clients,
      'bind-address': '127.0.0.1',
      'innodb-buffer-pool-size': '128M',
      'max-connections': 300,
      'innodb-autoinc-lock-mode': 2,
      'binlog-format': 'ROW',
      'wsrep-on': 'ON',
      'wsrep-provider': join(bin, 'provider.so'),
      'wsrep-cluster-address': `gcomm://${group.map(port => `127.0.0.1:${port}`).join()}`,
      'wsrep-node-address': '127.0.0.1',
      'wsrep-sst-method': 'rsync',
      'wsrep-sst-receive-address': `127.0.0.1:${files}`,
      'wsrep-provider-options': Object.entries(provider)
        .map(([key, value]) => `${key}=${value}`)
        .join(';'),
    };
    const argv = [
      ...[...asOther(), ...programs.mariadb.server, `--defaults-file=${join(folder, 'none.cnf')}`],
      ...Object.entries(options).map(([key, value]) => `--${key}=${value}`),
      ...[...settings, ...more],
    ];
    if (existsSync(join(this.#data, 'grastate.dat'))) argv.push(await this.#position(argv));
    const version = await this.#server.start(argv, {
      ...process.env,
      PATH: [bin, process.env.PATH, '/usr/sbin'].join(delimiter),
    });
    await this.#whenSynced();
    return version;
  }

  /**
   * The option that says how far a node had come when it was killed. Without it, as a systemd service has it, one that had
   * not yet written what the others had acknowledged might found the cluster anew, and all would lose that.
   */
  async #position(argv: readonly string[]): Promise<string> {
    await runGuarded([...argv, '--wsrep-recover'], this.#log);
    const [position] = [...readFileSync(this.#log, 'utf8').matchAll(/WSREP: Recovered position: *(\S+)/g)]
      .at(-1)!
      .slice(1);
    return `--wsrep-start-position=${position}`;
  }

  async #whenSynced(): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(50)) {
      const [[state]] = await connected(this.url, connection =>
        connection.query<RowDataPacket[]>("SHOW STATUS LIKE 'wsrep_local_state_comment'"),
      );
      if (state?.Value === 'Synced') return;
      if (Date.now() > deadline) throw new Error(`a node is still ${state?.Value}`);
    }
  }

  /** Galera's own switch for tests: a node hears nothing of the others any more, nor they of it. */
  async #isolate(isolated: boolean): Promise<void> {
    await connected(this.url, connection =>
      connection.query(`SET GLOBAL wsrep_provider_options = 'gmcast.isolate=${Number(isolated)}'`),
    );
  }
}
