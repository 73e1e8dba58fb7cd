/** What stands between clients and the servers of a cluster: MySQL Router, ProxySQL, HAProxy, or an address that moves. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Node } from '../../scripts/cluster/cluster.js';

/** How often it is looked whether the writer still is one, ms. */
const LOOK_MS = 200;

/** Leads all who connect to one port of this machine, which may change. */
export class Forwarder {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: number | undefined;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', socket => this.#forward(socket));
  }

  /** @param target the port where it leads; none: who connects is sent away. */
  static async open(target?: number): Promise<Forwarder> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const forwarder = new Forwarder(server);
    forwarder.#target = target;
    return forwarder;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get target(): number | undefined {
    return this.#target;
  }

  /** Leads elsewhere from now on. Connections to where it led before are cut: one to a server that hangs would wait for ever. */
  leadTo(target: number | undefined): void {
    if (target === this.#target) return;
    this.#target = target;
    for (const socket of this.#sockets) socket.destroy();
  }

  /**
   * From now on leads to a node that may be written, and stays with it until it may not and another one may: a node that
   * is slow to tell is no reason to leave it.
   *
   * @param mayWrite whether a node may be written.
   */
  async follow(nodes: readonly Node[], mayWrite: (node: Node) => Promise<boolean>): Promise<void> {
    while (this.#server.listening) {
      const writing = await Promise.all(nodes.map(mayWrite));
      const writers = nodes.filter((_, i) => writing[i]).map(({ port }) => port);
      if (writers.length > 0 && !writers.includes(this.#target!)) this.leadTo(writers[0]);
      await sleep(LOOK_MS);
    }
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #forward(client: Socket): void {
    if (this.#target === undefined) return void client.destroy();
    const server = connect(this.#target, '127.0.0.1');
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on('error', () => {}); // told to the other side by closing it
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}
