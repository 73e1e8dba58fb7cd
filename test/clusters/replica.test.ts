/** A primary and its asynchronous replica: what may be called there, whether it has the same, and when it takes over. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import mysql, { type Connection, type Pool, type RowDataPacket } from 'mysql2/promise';
import { connected } from '../../scripts/cluster/account.js';
import { type Replicated, startReplicated } from '../../scripts/cluster/replica.js';
import { create, DoLoop } from '../../src/index.js';
import { quickOrLong } from '../long.js';
import { Forwarder } from './forwarder.js';
import { assertKept, READING, refusesToWrite, rowsOn, Storm } from './storm.js';

for (const [kind, name] of [
  ['mariadb', 'MariaDB'],
  ['mysql', 'MySQL'],
] as const) {
  suite(name, () => {
    let servers: Replicated;
    let urls: string[];
    let primary: Pool;
    const pools: Pool[] = [];
    const open = (uri: string) => {
      const pool = mysql.createPool({ uri, connectionLimit: 4 });
      pools.push(pool);
      return pool;
    };
    before(async () => {
      servers = await startReplicated(kind);
      urls = servers.nodes.map(({ url }) => url);
      primary = open(urls[0]!);
      await primary.query('CREATE DATABASE app');
      await primary.query("CREATE USER app IDENTIFIED BY 'secret'");
      await primary.query('GRANT EXECUTE ON app.* TO app');
    });
    after(async () => {
      await Promise.all(pools.map(pool => pool.end()));
      await servers.stop();
    });

    /** A new loop of so many ids, from 1. */
    async function makeLoop(table: string, size: number): Promise<DoLoop> {
      await create(primary, table);
      const loop = new DoLoop(primary, table);
      await loop.add(Array.from({ length: size }, (_, i) => i + 1));
      return loop;
    }

    test('a replica answers check, stats and next to an account with EXECUTE alone; what writes is refused there with 1290, whoever calls and whoever made it', async () => {
      const loop = await makeLoop('app.read_loop', 3);
      await loop.get(1);
      await servers.caughtUp();
      for (const account of [{}, { user: 'app', password: 'secret' }]) {
        const reader = await mysql.createConnection({ uri: urls[1]!, ...account });
        try {
          for (const call of READING) {
            const [here] = await reader.query<RowDataPacket[][]>(`CALL app.read_loop_${call}`);
            const [there] = await primary.query<RowDataPacket[][]>(`CALL app.read_loop_${call}`);
            assert.deepEqual(Object.keys(here[0]![0]!), Object.keys(there[0]![0]!));
            assert.equal(here[0]!.length, there[0]!.length);
          }
          await refusesToWrite(reader, 'app.read_loop');
        } finally {
          reader.destroy();
        }
      }
      const client = new DoLoop(open(urls[1]!), 'app.read_loop');
      assert.equal(await client.next(), 0);
      assert.equal((await client.stats()).locked, 1);
      await assert.rejects(client.get(1), { errno: 1290, message: /read_only/ });
      assert.deepEqual(await rowsOn(urls[1]!, 'app.read_loop'), await rowsOn(urls[0]!, 'app.read_loop'));
    });

    for (const format of ['ROW', 'MIXED']) {
      test(`binlog_format ${format}: after a storm of all procedures the replica has what the primary has`, async () => {
        const table = `app.${format.toLowerCase()}_loop`;
        await makeLoop(table, 500);
        await Promise.all(
          Array.from({ length: 6 }, () =>
            connected(urls[0]!, async connection => {
              await connection.query(`SET SESSION binlog_format = '${format}'`);
              for (let round = 0; round < quickOrLong(15, 300); round += 1) await anything(connection, table);
            }),
          ),
        );
        await servers.caughtUp();
        const [here, there] = [await rowsOn(urls[1]!, table), await rowsOn(urls[0]!, table)];
        assert.ok([...there.values()].some(row => row.lock_until !== null && row.failures > 0));
        assert.deepEqual(here, there);
      });
    }

    // The last one: then the primary is dead.
    test('failover by hand: workers go on at the promoted replica; what it had is kept, and only what it had not comes again', async () => {
      const size = quickOrLong(3_000, 50_000);
      const table = 'app.failover_loop';
      const loop = await makeLoop(table, size);
      const forwarder = await Forwarder.open(servers.nodes[0]!.port);
      const toWriter = new URL(urls[0]!);
      toWriter.port = String(forwarder.port);
      const pool = open(toWriter.href);
      try {
        const replicated = await loop.get(200);
        await loop.did(replicated);
        await servers.caughtUp();
        await servers.nodes[1]!.cutOff();
        const notReplicated = await loop.get(100);
        assert.equal(await loop.did(notReplicated), 100); // acknowledged, and to be lost
        await servers.nodes[0]!.kill();
        // They begin while nobody answers.
        const storm = new Storm(table);
        const work = Promise.all([storm.byClient('client', pool), storm.byPlainSql('plain', pool)]);
        await servers.promote();
        forwarder.leadTo(servers.nodes[1]!.port);
        await work;
        assert.equal(await assertKept(storm, size, [urls[1]!]), 0);
        assert.deepEqual(
          [...notReplicated].filter(id => !storm.acknowledged.has(id)),
          [],
          'what was lost comes again',
        );
        assert.deepEqual(
          [...replicated].filter(id => storm.holders.has(id)),
          [],
          'what was not lost does not',
        );
        assert.equal(storm.acknowledged.size, size - 200);
      } finally {
        forwarder.close();
      }
    });
  });
}

/** Some ids, of which about one in ten is new or was removed. */
function someIds(): string {
  return JSON.stringify(Array.from({ length: 20 }, () => 1 + Math.floor(Math.random() * 550)));
}

/** One call of each procedure that writes. */
async function anything(connection: Connection, table: string): Promise<void> {
  const call = (text: string) => connection.query<RowDataPacket[][]>(`CALL ${table}_${text}`);
  const [[got]] = await call('get(20, NULL, 0)');
  const [done, failed] = [got!.slice(5), got!.slice(0, 5)].map(rows => JSON.stringify(rows.map(({ id }) => id)));
  await call(`did('${done}', NULL, NULL)`);
  await call(`extend('${failed}', 60, NULL)`);
  await call(`fail('${failed}', 9, NULL)`);
  for (const text of ['add(?, NULL)', 'remove(?)', 'bump(?, 0, NULL)', 'unlock(?, NULL, NULL)']) {
    await call(text.replace('?', `'${someIds()}'`));
  }
}
