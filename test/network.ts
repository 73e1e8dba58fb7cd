/** A network between clients and the server under test, which can be cut at any place of a call, or swallow all there is. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { server } from './harness.js';

/** A part of the server's answer to a CALL: what it is, and its bytes in the whole answer, the header of four first. */
export interface Part {
  is: 'count' | 'column' | 'end of columns' | 'row' | 'end of rows' | 'end';
  from: number;
  to: number;
}

/** Where a call is cut. */
export interface Cut {
  /**
   * Before the request has reached the server; as soon as the request was sent; or when the server has done the call,
   * after so many bytes of its answer.
   */
  where: 'before' | 'sent' | ((answer: readonly Part[]) => number);
  /** What the client sees: a FIN, or an RST. */
  how: 'end' | 'reset';
}

export interface Network {
  /** The server's URL by way of this network. */
  readonly url: string;
  /** Asked for each statement whether it is to be cut. */
  cut: (sql: string) => Cut | undefined;
  /** How many connections of clients are open. */
  readonly open: number;
  /** How many there were in all. */
  readonly made: number;
  /** Resolves when the server has ended what was cut. */
  settled(): Promise<unknown>;
  /** Cuts all connections that are open, now. */
  drop(how: Cut['how']): void;
  /** Swallows everything from now on, and keeps all connections open. */
  freeze(): void;
  /** Goes on as if nothing had been. */
  thaw(): void;
  /** Ends it, for good. */
  close(): void;
}

export async function openNetwork(): Promise<Network> {
  const target = new URL(server.url);
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  const cutLines: Promise<unknown>[] = [];
  let made = 0;
  let isFrozen = false;

  const keep = (socket: Socket, all: Set<Socket>[]) => {
    for (const set of all) set.add(socket);
    socket.on('error', () => {}); // 'close' comes behind it
    socket.on('close', () => {
      for (const set of all) set.delete(socket);
    });
    if (isFrozen) socket.pause();
  };

  const listener = createServer({ noDelay: true }, client => {
    made += 1;
    const upstream = connect({ host: target.hostname, port: Number(target.port), noDelay: true });
    keep(client, [sockets, clients]);
    keep(upstream, [sockets]);
    let request = Buffer.alloc(0);
    let answer = Buffer.alloc(0);
    let cut: Cut | undefined;

    const hangUp = ({ how }: Cut, last = Buffer.alloc(0)) => {
      client.removeAllListeners('data').resume();
      upstream.removeAllListeners('data').resume();
      cutLines.push(new Promise(resolve => upstream.on('close', resolve)));
      client.write(last, () => (how === 'end' ? client.end() : client.resetAndDestroy()));
      upstream.end();
    };
    client.on('data', (chunk: Buffer) => {
      request = Buffer.concat([request, chunk]);
      while (request.length >= 4 && request.length >= 4 + request.readUIntLE(0, 3)) {
        const packet = request.subarray(0, 4 + request.readUIntLE(0, 3));
        request = request.subarray(packet.length);
        // A statement begins a new sequence; what belongs to the login does not.
        cut = packet[3] === 0 ? network.cut(packet.toString('latin1', 4)) : undefined;
        if (cut?.where !== 'before') upstream.write(packet);
        if (typeof cut?.where === 'string') {
          hangUp(cut);
          return;
        }
      }
    });
    upstream.on('data', (chunk: Buffer) => {
      if (typeof cut?.where !== 'function') {
        client.write(chunk);
        return;
      }
      answer = Buffer.concat([answer, chunk]);
      const parts = partsOf(answer);
      if (parts.at(-1)?.is === 'end') hangUp(cut, answer.subarray(0, cut.where(parts)));
    });
    client.on('end', () => upstream.end());
    client.on('close', () => upstream.end());
    upstream.on('close', () => client.end());
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');

  const url = new URL(server.url);
  url.hostname = '127.0.0.1';
  url.port = String((listener.address() as AddressInfo).port);
  const network: Network = {
    url: url.href,
    cut: () => undefined,
    get open() {
      return clients.size;
    },
    get made() {
      return made;
    },
    settled: () => Promise.all(cutLines.splice(0)),
    drop(how) {
      for (const client of clients) {
        if (how === 'end') client.end();
        else client.resetAndDestroy();
      }
    },
    freeze() {
      isFrozen = true;
      for (const socket of sockets) socket.pause();
    },
    thaw() {
      isFrozen = false;
      for (const socket of sockets) socket.resume();
    },
    close() {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
  return network;
}

/** The packets of an answer to a text query, as far as they are whole; the last of all is the OK, or the error. */
function partsOf(answer: Buffer): Part[] {
  const parts: Part[] = [];
  let is: Part['is'] = 'count';
  let columns = 0;
  for (let from = 0; from + 4 <= answer.length; from = parts.at(-1)!.to) {
    const to = from + 4 + answer.readUIntLE(from, 3);
    if (to > answer.length) break;
    const first = answer[from + 4]!;
    const isEnd = first === 0xfe && to - from - 4 < 9;
    if (first === 0xff || (is === 'count' && first === 0)) is = 'end';
    else if (is === 'row' && isEnd) is = 'end of rows';
    parts.push({ is, from, to });
    if (is === 'count') columns = first;
    if (is === 'column') columns -= 1;
    // What follows it.
    if (is === 'count' || is === 'column') is = columns > 0 ? 'column' : 'end of columns';
    else if (is === 'end of columns') is = 'row';
    else if (is === 'end of rows') is = 'count';
  }
  return parts;
}
