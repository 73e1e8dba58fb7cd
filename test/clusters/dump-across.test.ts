/** From MySQL to MariaDB and back: the rows go by a dump without routines, and `create` makes the procedures anew. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, test } from 'node:test';
import mysql, { type Connection, type RowDataPacket } from 'mysql2/promise';
import { type Kind, type PrivateServer, startServer } from '../../scripts/server.js';
import { create, DoLoop } from '../../src/index.js';

const KINDS: Kind[] = ['mariadb', 'mysql'];
const servers = await Promise.all(KINDS.map(kind => startServer({ kind, clients: true })));
after(() => Promise.all(servers.map(server => server.stop())));

function run(argv: string[] | undefined, args: string[], input = ''): string {
  assert.ok(argv, 'the clients of the server are installed');
  const [program, ...rest] = [...argv, ...args];
  const { stdout, stderr, status } = spawnSync(program!, rest, { input, encoding: 'utf8', maxBuffer: 1 << 26 });
  assert.deepEqual([status, stderr], [0, '']);
  return stdout;
}

async function connect(server: PrivateServer, t: { after: (end: () => void) => void }): Promise<Connection> {
  const connection = await mysql.createConnection({ uri: server.url });
  t.after(() => connection.destroy());
  // A collation that both have; MySQL's own default is none of MariaDB's.
  await connection.query('CREATE DATABASE IF NOT EXISTS app CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci');
  await connection.query('USE app');
  return connection;
}

for (const [i, from] of servers.entries()) {
  const to = servers[1 - i]!;
  test(`from ${from.kind} to ${to.kind}: the rows as they were, and all procedures answer`, async t => {
    const [source, target] = [await connect(from, t), await connect(to, t)];
    const options = { idType: 'VARCHAR(20)' };
    const table = `from_${from.kind}_loop`;
    await create(source, table, options);
    const loop = new DoLoop<string>(source, table);
    await loop.add(['ä', "it's", 'c', 'd']);
    await loop.fail(await loop.get(1));
    await loop.did('c');
    await loop.bump('d', { lockFor: -9 });
    const seen = async (connection: Connection) =>
      (await connection.query<RowDataPacket[]>(`SELECT * FROM ${table} ORDER BY id`))[0].map(row => ({ ...row }));
    const noGtids = from.kind === 'mysql' ? ['--set-gtid-purged=OFF', '--column-statistics=0'] : [];
    const text = run(from.dump, [...noGtids, '--single-transaction', 'app', table]);
    // Its first line keeps MariaDB's own console from running commands of the system; MySQL's does not know it.
    run(to.console, ['app'], text.replace(/^\/\*M?!999999.*\n/, ''));
    assert.deepEqual(await seen(target), await seen(source));
    assert.equal((await create(target, table)).table, 'kept');
    const moved = new DoLoop<string>(target, table);
    assert.deepEqual([...(await moved.get(1))], ['d']);
    assert.equal(await moved.did(['d', 'new']), 2);
    assert.equal((await moved.check(['ä', "it's", 'c', 'd', 'new'])).length, 5);
    assert.equal((await moved.stats({ delayThresholds: [60] })).total, 5);
    assert.equal(await moved.remove('new'), 1);
    assert.equal(await moved.next(), 0);
  });
}
