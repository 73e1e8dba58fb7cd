/** MariaDB Galera, three nodes: all of them written at once; and one after the other killed, frozen and cut off. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import mysql, { type Pool, type RowDataPacket } from 'mysql2/promise';
import { examine } from '../../scripts/cli/doctor/examine.js';
import type { Finding } from '../../scripts/cli/doctor/finding.js';
import { connected } from '../../scripts/cluster/account.js';
import type { Node } from '../../scripts/cluster/cluster.js';
import { mayWrite, startGalera } from '../../scripts/cluster/galera.js';
import { create, DoLoop, drop, sqlForCreate } from '../../src/index.js';
import { quickOrLong } from '../long.js';
import { until } from '../until.js';
import { Forwarder } from './forwarder.js';
import { assertKept, assertOnly, disturbed, nameOf, rowsOn, Storm, tell } from './storm.js';

const BIN = fileURLToPath(new URL('../../scripts/doloop.js', import.meta.url));
const galera = await startGalera({});
const { nodes } = galera;
const urls = nodes.map(({ url }) => url);
/** Leads to one node at a time, which is the first unless that is out of order. */
const forwarder = await Forwarder.open(nodes[0]!.port);
const following = forwarder.follow(nodes, mayWrite);
const toWriter = new URL(urls[0]!);
toWriter.port = String(forwarder.port);
const pools: Pool[] = [];
const writer = open(toWriter.href);
after(async () => {
  await Promise.all(pools.map(pool => pool.end()));
  forwarder.close();
  await following;
  await galera.stop();
});

await writer.query('CREATE DATABASE app');

function open(uri: string): Pool {
  const pool = mysql.createPool({ uri, connectionLimit: 4 });
  pools.push(pool);
  return pool;
}

/** A call to a node that hangs would wait for ever, where the proxy did not leave it. */
const LIMIT = { timeout: quickOrLong(240_000, 1_200_000) };

let loops = 0;

/** A new loop of so many ids, from 1, which all nodes have. */
async function makeLoop(size: number): Promise<{ table: string; loop: DoLoop }> {
  loops += 1;
  const table = `app.l${loops}_loop`;
  await create(writer, table);
  const loop = new DoLoop(writer, table);
  await loop.add(Array.from({ length: size }, (_, i) => i + 1));
  await caughtUp();
  return { table, loop };
}

/** Resolves when all nodes have what was committed anywhere. */
async function caughtUp(): Promise<void> {
  await Promise.all(
    urls.map(url =>
      connected(url, async connection => {
        await connection.query('SET SESSION wsrep_sync_wait = 1');
        await connection.query('SELECT COUNT(*) FROM mysql.global_priv');
      }),
    ),
  );
}

function writingNode(): Node {
  const node = nodes.find(({ port }) => port === forwarder.target);
  assert.ok(node, 'there is a node to write to');
  return node;
}

async function storm(table: string, size: number, workers: Workers, disturb: () => Promise<void>): Promise<Storm> {
  const made = new Storm(table);
  await disturbed(made, size, workers(made), disturb);
  return made;
}

type Workers = (storm: Storm) => Promise<void>[];

/** Two workers with the client and one with plain SQL, at the node that is the writer. */
const atWriter: Workers = storm => {
  const pool = open(toWriter.href);
  return [storm.byClient('a', pool), storm.byClient('b', pool), storm.byPlainSql('c', pool)];
};

/** One of each kind, with a pool of their own, at every node. */
const atEach: Workers = storm =>
  urls.flatMap((url, i) => {
    const pool = open(url);
    return [storm.byClient(`client ${i}`, pool), storm.byPlainSql(`plain ${i}`, pool)];
  });

/** How many transactions the nodes have undone because another node's came first. */
async function conflicts(): Promise<number> {
  const counts = urls.map(url =>
    connected(url, async connection => {
      const [rows] = await connection.query<RowDataPacket[]>(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_local_bf_aborts', 'wsrep_local_cert_failures')",
      );
      return rows.reduce((sum, row) => sum + Number(row.Value), 0);
    }),
  );
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

test(
  'all nodes written at once: nobody gets an id twice, nothing acknowledged is lost, and no id stays locked by nobody',
  LIMIT,
  async t => {
    const size = quickOrLong(4_000, 100_000);
    const { table } = await makeLoop(size);
    const before = await conflicts();
    const made = await storm(table, size, atEach, async () => {});
    const undone = (await conflicts()) - before;
    tell(t, made, `; ${undone} conflicts`);
    assert.ok(undone > 0, 'they were in the way of each other');
    assertOnly(made, ['1213', '1180']);
    await caughtUp();
    assert.equal(await assertKept(made, size, urls), 0);
    assert.equal(made.acknowledged.size, size);
  },
);

/** Counts, as an argument that is 0, how often the server runs the statement that it stands in. */
const COUNTED = '(@runs := COALESCE(@runs, 0) + 1) * 0';

test(
  'Galera makes no call again by itself, whatever wsrep_retry_autocommit says: each get is run once, and no id is locked for nobody',
  LIMIT,
  async t => {
    const size = 2_000;
    const { table } = await makeLoop(size);
    const rounds = quickOrLong(40, 400);
    /** How often the server ran what it was sent once. */
    const again = { get: 0, insert: 0 };
    const before = await conflicts();
    const work = (url: string) =>
      connected(url, async connection => {
        const loop = new DoLoop(open(url), table);
        const run = async (what: keyof typeof again, sql: string): Promise<RowDataPacket[]> => {
          await connection.query('SET @runs = 0');
          const [sets] = await connection.query<RowDataPacket[][]>(sql).catch(error => {
            assert.equal(nameOf(error), '1213');
            return [[]];
          });
          const [rows] = await connection.query<RowDataPacket[]>('SELECT @runs AS runs');
          again[what] += Number(rows[0]!.runs) - 1;
          return sets[0] ?? [];
        };
        await connection.query('SET SESSION wsrep_retry_autocommit = 100');
        for (let round = 0; round < rounds; round += 1) {
          const got = await run('get', `CALL ${table}_get(20 + ${COUNTED}, 3600, 0)`);
          // All want this row.
          const values = `(1 + ${COUNTED}) ON DUPLICATE KEY UPDATE failures = failures + 1`;
          await run('insert', `INSERT INTO ${table} (id) VALUES ${values}`);
          await loop.unlock(got.map(({ id }) => id as number));
        }
      });
    await Promise.all([...urls, ...urls].map(work));
    const undone = (await conflicts()) - before;
    const sent = 2 * urls.length * rounds;
    t.diagnostic(
      `${undone} conflicts; run again: ${again.get} of ${sent} calls of get, ${again.insert} of ${sent} INSERTs`,
    );
    assert.ok(again.insert > 0, 'it makes other statements again');
    assert.equal(again.get, 0);
    await caughtUp();
    const rows = [...(await rowsOn(urls[0]!, table)).values()];
    assert.deepEqual(
      rows.filter(({ lock_until }) => lock_until !== null),
      [],
    );
  },
);

test(
  'claimed on one node and read on another at once: may be stale, and is not with wsrep_sync_wait = 1 there',
  LIMIT,
  async t => {
    const rounds = quickOrLong(40, 1_000);
    const { table, loop } = await makeLoop(rounds);
    const stale = { without: 0, with: 0 };
    await connected(urls[1]!, async connection => {
      const reader = new DoLoop(connection, table);
      for (const how of ['without', 'with'] as const) {
        await connection.query(`SET SESSION wsrep_sync_wait = ${how === 'with' ? 1 : 0}`);
        for (let round = 0; round < rounds; round += 1) {
          const [id] = await loop.get(1);
          const [status] = await reader.check(id!);
          const { locked } = await reader.stats();
          const dueIn = await reader.next();
          if (status!.lockedFor === null || locked !== 1 || dueIn !== 0) stale[how] += 1;
          await loop.unlock(id!);
        }
      }
    });
    t.diagnostic(`stale, of ${rounds} reads: ${stale.without}, with wsrep_sync_wait = 1: ${stale.with}`);
    assert.equal(stale.with, 0);
  },
);

test(
  'create, an upgrade, follow and drop on one node while workers run on all: they go on, and the triggers act on every node',
  LIMIT,
  async t => {
    const size = quickOrLong(4_000, 60_000);
    const { table } = await makeLoop(size);
    const [first, second] = [open(urls[0]!), open(urls[1]!)];
    await first.query('CREATE TABLE app.users (id INT NOT NULL PRIMARY KEY)');
    const made = await storm(table, size, atEach, async () => {
      for (let round = 0; round < quickOrLong(1, 10); round += 1) {
        await create(first, 'app.other_loop');
        await upgrade(table, urls[0]!);
        await follow('app.other_loop', ['--source', 'app.users.id']);
        await second.query('INSERT INTO app.users VALUES (1), (2)');
        await second.query('DELETE FROM app.users WHERE id = 1');
        await caughtUp();
        assert.deepEqual([...(await rowsOn(urls[2]!, 'app.other_loop')).keys()], [2]);
        await second.query('DELETE FROM app.users');
        await follow('app.other_loop', ['--drop']);
        await drop(first, 'app.other_loop', { table: true });
      }
    });
    tell(t, made);
    assertOnly(made, ['1213', '1180', '1317']);
    await caughtUp();
    const left = await assertKept(made, size, urls);
    assert.equal(made.acknowledged.size, size - left);
  },
);

/** Makes the table and all procedures of a loop again, whatever their version. */
async function upgrade(table: string, uri: string): Promise<void> {
  await connected(uri, async connection => {
    for (const statement of sqlForCreate(table)) await connection.query(statement);
  });
}

async function follow(loop: string, args: readonly string[]): Promise<void> {
  await promisify(execFile)(process.execPath, [BIN, 'follow', loop, ...args, '--yes'], {
    env: { MYSQL_URL: urls[0]! },
  });
}

test(
  'kill -9 of the writing node while workers run: they go on at the next one, by a proxy or a pool cluster of mysql2; nothing acknowledged is lost, and it comes back',
  LIMIT,
  async t => {
    const size = quickOrLong(6_000, 60_000);
    const { table } = await makeLoop(size);
    const old = writingNode();
    const cluster = mysql.createPoolCluster({ removeNodeErrorCount: 1, restoreNodeTimeout: 1_000 });
    // In this order, lest several nodes be written.
    for (const { url } of [old, ...nodes.filter(node => node !== old)]) cluster.add(url, { uri: url });
    const byCluster = () => [...made.holders.values()].filter(who => who === 'by cluster').length;
    const made = new Storm(table);
    const workers = [...atWriter(made), made.byClient('by cluster', cluster.of('*', 'ORDER'))];
    let before = 0;
    await disturbed(made, size, workers, async () => {
      await old.kill();
      before = byCluster();
    });
    await cluster.end();
    assert.notEqual(writingNode(), old);
    assert.ok(byCluster() > before, 'the pool cluster led elsewhere');
    tell(t, made, `; the longest gap ${Math.round(made.longestGap)} ms`);
    await old.start();
    await caughtUp();
    const left = await assertKept(made, size, urls);
    t.diagnostic(`${left} ids locked by answers that were lost`);
    assert.equal(made.acknowledged.size, size - left);
  },
);

test(
  'a node that hung wakes after the others went on without it: what it was still to do is refused, and nobody gets an id twice',
  LIMIT,
  async t => {
    const size = quickOrLong(6_000, 60_000);
    const { table } = await makeLoop(size);
    const old = writingNode();
    const late = await Promise.all(Array.from({ length: 5 }, () => mysql.createConnection(old.url)));
    let calls: Promise<number[] | Error>[] = [];
    const made = await storm(table, size, atWriter, async () => {
      old.freeze();
      // They are in its buffers, and run when it wakes.
      calls = late.map(connection => outcome(connection.query<RowDataPacket[][]>(`CALL ${table}_get(50, NULL, NULL)`)));
    });
    tell(t, made, `; the longest gap ${Math.round(made.longestGap)} ms`);
    assert.notEqual(writingNode(), old);
    old.thaw();
    const outcomes = await Promise.all(calls);
    for (const connection of late) connection.destroy();
    t.diagnostic(`late calls: ${outcomes.map(one => (one instanceof Error ? nameOf(one) : one.length)).join()}`);
    for (const given of outcomes) {
      const twice = given instanceof Error ? [] : given.filter(id => made.holders.has(id));
      assert.deepEqual(twice, [], 'given twice');
    }
    await until('it is back', () => mayWrite(old));
    await caughtUp();
    const left = await assertKept(made, size, urls);
    assert.equal(made.acknowledged.size, size - left);
  },
);

/** What became of a call: the ids that it answered, or its error. */
const outcome = (call: Promise<[RowDataPacket[][], unknown]>) =>
  call.then(
    ([sets]) => sets[0]!.map(({ id }) => id as number),
    (error: Error) => error,
  );

/** What doctor finds there. */
function examined(url: string, table: string): Promise<Finding[]> {
  return connected(url, async connection => {
    const findings: Finding[] = [];
    const [database, name] = table.split('.') as [string, string];
    for await (const finding of examine(connection, { database, table: name })) findings.push(finding);
    return findings;
  });
}

/** Whether a node tells that it is not one of the cluster. One that is slow to tell may be. */
const refuses = ({ url }: Node) =>
  connected(url, connection => connection.query('SELECT COUNT(*) FROM mysql.global_priv')).then(
    () => false,
    error => nameOf(error) === '1047',
  );

test(
  'a node cut off from the others is of no use until it is back, not even to read; its workers wait for that, and those at the others go on',
  LIMIT,
  async t => {
    const size = quickOrLong(4_000, 60_000);
    const { table, loop } = await makeLoop(size);
    const cut = nodes.find(node => node !== writingNode())!;
    const made = await storm(table, size, atEach, async () => {
      await cut.cutOff();
      await until('it has noticed', () => refuses(cut));
      for (const call of ['check(1)', 'stats(NULL)', 'next(NULL)', 'get(1, NULL, NULL)', 'did(1, NULL, NULL)']) {
        await connected(cut.url, connection =>
          assert.rejects(connection.query(`CALL ${table}_${call}`), { errno: 1047 }, call),
        );
      }
      await assert.rejects(new DoLoop(open(cut.url), table).get(1), { errno: 1047 });
      const findings = await examined(cut.url, table);
      assert.deepEqual(
        findings.filter(({ level }) => level === 'problem').map(({ check }) => check),
        ['cluster', 'calls'],
      );
      await loop.did(1);
      await cut.rejoin();
    });
    tell(t, made);
    assertOnly(made, ['1213', '1180', '1047', '1205']);
    await caughtUp();
    const left = await assertKept(made, size, urls);
    t.diagnostic(`${left} ids locked by answers that were lost`);
    assert.equal(made.acknowledged.size, size - left);
  },
);

test(
  'kill -9 of all nodes at once: what was acknowledged is there when they are started again, and the work goes on',
  LIMIT,
  async t => {
    const size = quickOrLong(4_000, 60_000);
    const { table } = await makeLoop(size);
    const made = await storm(table, size, atEach, async () => {
      await Promise.all(nodes.map(node => node.kill()));
      await Promise.all(nodes.map(node => node.start()));
    });
    tell(t, made);
    await caughtUp();
    const left = await assertKept(made, size, urls);
    t.diagnostic(`${left} ids locked by answers that were lost`);
    assert.equal(made.acknowledged.size, size - left);
  },
);

test('doctor finds nothing amiss in a cluster that is well', LIMIT, async () => {
  const { table } = await makeLoop(1);
  const findings = await examined(urls[1]!, table);
  const amiss = findings.filter(({ level }) => level !== 'ok').map(({ check }) => check);
  assert.deepEqual(amiss, ['grants']); // of a loop that nobody else may call
  assert.ok(findings.some(({ check, text }) => check === 'cluster' && text === 'Galera'));
});
