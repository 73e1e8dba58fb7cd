/** MySQL Group Replication, three nodes: one that may be written, which dies, hangs and is cut off; and then all of them. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type Connection, type Pool, type RowDataPacket } from 'mysql2/promise';
import { connected, only } from '../../scripts/cluster/account.js';
import type { Node } from '../../scripts/cluster/cluster.js';
import { mayWrite, startGroupReplication } from '../../scripts/cluster/group-replication.js';
import { create, DoLoop, drop } from '../../src/index.js';
import { quickOrLong } from '../long.js';
import { until } from '../until.js';
import { Forwarder } from './forwarder.js';
import { assertKept, assertOnly, disturbed, nameOf, READING, refusesToWrite, rowsOn, Storm, tell } from './storm.js';

const group = await startGroupReplication();
const { nodes } = group;
const urls = nodes.map(({ url }) => url);
/** Leads to the primary, whichever node that is. */
const forwarder = await Forwarder.open(nodes[0]!.port);
const following = forwarder.follow(nodes, mayWrite);
const toPrimary = new URL(urls[0]!);
toPrimary.port = String(forwarder.port);
const pools: Pool[] = [];
const primary = open(toPrimary.href);
after(async () => {
  await Promise.all(pools.map(pool => pool.end()));
  forwarder.close();
  await following;
  await group.stop();
});

await primary.query('CREATE DATABASE app');
await primary.query("CREATE USER app IDENTIFIED BY 'secret'");
await primary.query('GRANT EXECUTE ON app.* TO app');

function open(uri: string): Pool {
  const pool = mysql.createPool({ uri, connectionLimit: 4 });
  pools.push(pool);
  return pool;
}

let loops = 0;

/** A new loop of so many ids, from 1, which all nodes have. */
async function makeLoop(size: number, by = primary): Promise<{ table: string; loop: DoLoop }> {
  loops += 1;
  const table = `app.l${loops}_loop`;
  await create(by, table);
  const loop = new DoLoop(by, table);
  await loop.add(Array.from({ length: size }, (_, i) => i + 1));
  await caughtUp();
  return { table, loop };
}

/** Resolves when all nodes have what was committed on any. */
async function caughtUp(): Promise<void> {
  const committed = await Promise.all(
    urls.map(url => connected(url, connection => only(connection, 'SELECT @@GLOBAL.gtid_executed'))),
  );
  for (const url of urls) {
    await connected(url, async connection => {
      for (const gtids of committed) {
        const late = await only(connection, 'SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)', [gtids]);
        const members = 'SELECT JSON_ARRAYAGG(member_state) FROM performance_schema.replication_group_members';
        assert.equal(late, 0, `a node stays behind: it sees ${await only(connection, members)}`);
      }
    });
  }
}

function primaryNode(): Node {
  const node = nodes.find(({ port }) => port === forwarder.target);
  assert.ok(node, 'there is a primary');
  return node;
}

/** What became of a call: its answer's first row, or its error. */
const outcome = (call: Promise<[RowDataPacket[][], unknown]>) =>
  call.then(
    ([sets]) => sets[0]!.map(({ id }) => id as number),
    (error: Error) => error,
  );

/** Two workers with the client and one with plain SQL at the primary; `disturb` is called when a fourth is given. */
async function storm(table: string, size: number, disturb: () => Promise<void>): Promise<Storm> {
  const storm = new Storm(table);
  const pool = open(toPrimary.href);
  const work = [storm.byClient('a', pool), storm.byClient('b', pool), storm.byPlainSql('c', pool)];
  await disturbed(storm, size, work, disturb);
  return storm;
}

test('a secondary answers check, stats and next to an account with EXECUTE alone; what writes is refused there with 1290, and nothing is done', async () => {
  const { table, loop } = await makeLoop(3);
  await loop.get(1);
  await caughtUp();
  const secondary = nodes.find(node => node !== primaryNode())!;
  const before = await rowsOn(secondary.url, table);
  for (const account of [{}, { user: 'app', password: 'secret' }]) {
    const reader = await mysql.createConnection({ uri: secondary.url, ...account });
    try {
      for (const call of READING) await reader.query(`CALL ${table}_${call}`);
      await refusesToWrite(reader, table);
    } finally {
      reader.destroy();
    }
  }
  const client = new DoLoop(open(secondary.url), table);
  assert.equal((await client.stats()).locked, 1);
  await assert.rejects(client.get(1), { errno: 1290, message: /read.only/ });
  await caughtUp();
  assert.deepEqual(await rowsOn(secondary.url, table), before);
});

test('claimed on the primary and read on a secondary at once: may be stale, and is not with BEFORE there or AFTER on the primary', async t => {
  const rounds = quickOrLong(40, 400);
  const { table, loop } = await makeLoop(rounds);
  const secondary = nodes.find(node => node !== primaryNode())!;
  const stale: Record<string, number> = {};
  await connected(secondary.url, async reader => {
    await connected(primaryNode().url, async writer => {
      for (const [name, onWriter, onReader] of [
        ['EVENTUAL', 'EVENTUAL', 'EVENTUAL'],
        ['BEFORE', 'EVENTUAL', 'BEFORE'],
        ['AFTER', 'AFTER', 'EVENTUAL'],
      ] as const) {
        await writer.query(`SET SESSION group_replication_consistency = '${onWriter}'`);
        await reader.query(`SET SESSION group_replication_consistency = '${onReader}'`);
        stale[name] = 0;
        for (let round = 0; round < rounds; round += 1) {
          const [id] = await new DoLoop(writer, table).get(1);
          const [status] = await new DoLoop(reader, table).check(id!);
          if (status!.lockedFor === null) stale[name] += 1;
          await loop.unlock(id!);
        }
      }
    });
  });
  t.diagnostic(`stale, of ${rounds} reads: ${JSON.stringify(stale)}`);
  assert.deepEqual([stale.BEFORE, stale.AFTER], [0, 0]);
});

test('create and drop on the primary while workers run: they go on, and a loop that is made, made again and dropped disturbs nobody', async t => {
  const size = quickOrLong(4_000, 60_000);
  const { table } = await makeLoop(size);
  const made = await storm(table, size, async () => {
    for (let i = 0; i < 2; i += 1) {
      await create(primary, 'app.other_loop', { grant: ['app@%'] });
      // Their own procedures are dropped and made again under their hands.
      await connected(toPrimary.href, connection =>
        connection.query(`DROP PROCEDURE ${table}_get`).then(() => create(connection, table)),
      );
      await drop(primary, 'app.other_loop', { table: true });
    }
  });
  tell(t, made);
  await caughtUp();
  assert.equal(await assertKept(made, size, urls), 0);
  assert.equal(made.acknowledged.size, size);
});

test('kill -9 of the primary while workers run: they go on at the next one, nothing acknowledged is lost, and it comes back', async t => {
  const size = quickOrLong(6_000, 60_000);
  const { table } = await makeLoop(size);
  const old = primaryNode();
  const made = await storm(table, size, () => old.kill());
  await until('another primary', () => primaryNode() !== old);
  tell(t, made, `; the longest gap ${Math.round(made.longestGap)} ms`);
  await old.start();
  await caughtUp();
  const left = await assertKept(made, size, urls);
  t.diagnostic(`${left} ids locked by answers that were lost`);
  assert.equal(made.acknowledged.size, size - left);
});

test('a primary that hung wakes after another was elected: what it was still to do is refused, and nobody gets an id twice', async t => {
  const size = quickOrLong(6_000, 60_000);
  const { table } = await makeLoop(size);
  const old = primaryNode();
  const late = await Promise.all(Array.from({ length: 5 }, () => mysql.createConnection(old.url)));
  let calls: Promise<number[] | Error>[] = [];
  const made = await storm(table, size, async () => {
    old.freeze();
    // They are in its buffers, and run when it wakes.
    calls = late.map(connection => outcome(connection.query<RowDataPacket[][]>(`CALL ${table}_get(50, NULL, NULL)`)));
  });
  tell(t, made, `; the longest gap ${Math.round(made.longestGap)} ms`);
  await until('another primary', () => primaryNode() !== old);
  old.thaw();
  const outcomes = await Promise.all(calls);
  for (const connection of late) connection.destroy();
  t.diagnostic(`late calls: ${outcomes.map(one => (one instanceof Error ? nameOf(one) : one.length)).join()}`);
  for (const given of outcomes) {
    const twice = given instanceof Error ? [] : given.filter(id => made.holders.has(id));
    assert.deepEqual(twice, [], 'given twice');
  }
  await old.rejoin();
  await caughtUp();
  const left = await assertKept(made, size, urls);
  assert.equal(made.acknowledged.size, size - left);
});

test('a primary cut off from the others: calls wait for unreachable_majority_timeout, are then refused, and go on when the others are back', async t => {
  const size = quickOrLong(2_000, 20_000);
  const { table, loop } = await makeLoop(size);
  const old = primaryNode();
  const direct = await Promise.all(Array.from({ length: 3 }, () => mysql.createConnection(old.url)));
  await old.cutOff();
  const outcomes: Record<string, number> = {};
  const refused = async (connection: Connection) => {
    for (;;) {
      const answer = await outcome(connection.query<RowDataPacket[][]>(`CALL ${table}_get(50, NULL, NULL)`));
      assert.ok(answer instanceof Error, 'nobody is given an id without the others');
      outcomes[nameOf(answer)] = (outcomes[nameOf(answer)] ?? 0) + 1;
      if (nameOf(answer) === '1290') return;
    }
  };
  await Promise.all(direct.map(refused));
  for (const connection of direct) connection.destroy();
  t.diagnostic(`at the primary that was cut off: ${JSON.stringify(outcomes)}`);
  const back = old.rejoin();
  const made = new Storm(table);
  await made.byClient('a', open(toPrimary.href));
  await back;
  await caughtUp();
  // 3100 says that it was rolled back here; but the others, when they wake, may find that they have agreed to it.
  const left = await assertKept(made, size, urls);
  t.diagnostic(`${left} ids locked by calls that were told 3100`);
  assert.equal((await loop.stats()).locked, left);
  assert.equal(made.acknowledged.size, size - left);
});

test('without unreachable_majority_timeout a call waits as long as the primary is cut off, and is then answered', async () => {
  const { table, loop } = await makeLoop(100);
  const old = primaryNode();
  const setTimeoutTo = (seconds: number) =>
    connected(old.url, connection =>
      connection.query(`SET GLOBAL group_replication_unreachable_majority_timeout = ${seconds}`),
    );
  await setTimeoutTo(0);
  const direct = await mysql.createConnection(old.url);
  await old.cutOff();
  let answered = false;
  const call = outcome(direct.query<RowDataPacket[][]>(`CALL ${table}_get(50, NULL, NULL)`)).finally(() => {
    answered = true;
  });
  await until('the others are out of its sight', async () => !(await mayWrite(old)));
  await sleep(quickOrLong(2_000, 30_000));
  assert.equal(answered, false);
  await old.rejoin();
  const answer = await call;
  direct.destroy();
  await setTimeoutTo(5);
  await until('a primary', () => mayWrite(primaryNode()));
  const others = await loop.get(100);
  const all = [...(answer instanceof Error ? [] : answer), ...others];
  assert.equal(new Set(all).size, all.length);
  assert.equal(all.length, 100);
});

test('several primaries: nobody gets an id twice, nothing acknowledged is lost, and no id stays locked by nobody', async t => {
  await primaryNode().rejoin(); // one that was slow to answer may have been expelled meanwhile
  await connected(primaryNode().url, connection =>
    connection.query('SELECT group_replication_switch_to_multi_primary_mode()'),
  );
  const size = quickOrLong(5_000, 100_000);
  const { table } = await makeLoop(size, open(urls[0]!));
  const made = new Storm(table);
  await Promise.all(
    urls.flatMap((url, i) => {
      const pool = open(url);
      return [made.byClient(`client ${i}`, pool), made.byPlainSql(`plain ${i}`, pool)];
    }),
  );
  tell(t, made);
  assertOnly(made, ['3101', '1180', '1213']); // conflicts
  await caughtUp();
  assert.equal(await assertKept(made, size, urls), 0);
  assert.equal(made.acknowledged.size, size);
});
