/** A loop that is spread over three servers, MariaDB and MySQL mixed, as the recipe in src/README.md has it. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { createConnection, createPool, type Pool } from 'mysql2/promise';
import { type Kind, type PrivateServer, startServer } from '../../scripts/server.js';
import { create, DoLoop, type WorkOptions } from '../../src/index.js';
import { quickOrLong } from '../long.js';
import { atHome, homeOf, nextOf, type Shards, statsOf, workOn } from '../shards.js';
import { until } from '../until.js';

const SIZE = quickOrLong(300, 30_000);
const ids = Array.from({ length: SIZE }, (_, i) => i + 1);
const KINDS: Kind[] = ['mariadb', 'mysql', 'mariadb'];
const NAMES = ['a', 'b', 'c'];

const ends: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const end of ends.reverse()) await end();
});
const starting = await Promise.allSettled(KINDS.map(kind => startServer({ kind })));
for (const one of starting) if (one.status === 'fulfilled') ends.push(one.value.stop);
const servers = starting.map(one => {
  if (one.status === 'rejected') throw one.reason;
  return one.value;
}) as [PrivateServer, PrivateServer, PrivateServer];

let databases = 0;

/** A new database of a server, with a loop. */
async function makeShard(server: PrivateServer, connections = 6): Promise<{ pool: Pool; loop: DoLoop }> {
  databases += 1;
  const database = `shard_${databases}`;
  const root = await createConnection(server.url);
  await root.query(`CREATE DATABASE ${database}`);
  await root.end();
  const pool = createPool({ uri: server.url, database, connectionLimit: connections });
  ends.push(() => pool.end());
  await create(pool, 'user_loop');
  return { pool, loop: new DoLoop(pool, 'user_loop') };
}

/** A loop on each of the servers, and their pools. */
async function makeShards(): Promise<{ shards: Map<string, DoLoop>; pools: Map<string, Pool> }> {
  const made = await Promise.all(servers.map(server => makeShard(server)));
  return {
    shards: new Map(made.map(({ loop }, i) => [NAMES[i]!, loop])),
    pools: new Map(made.map(({ pool }, i) => [NAMES[i]!, pool])),
  };
}

/** The ids that are in a shard. */
async function idsIn(pool: Pool): Promise<number[]> {
  const [rows] = await pool.query('SELECT id FROM user_loop ORDER BY id');
  return (rows as { id: number }[]).map(({ id }) => id);
}

/** Each id is at its home, and nowhere else. */
async function assertAtHome(pools: ReadonlyMap<string, Pool>): Promise<void> {
  for (const [name, pool] of pools) {
    const its = ids.filter(id => homeOf(id, pools.keys()) === name);
    assert.deepEqual(await idsIn(pool), its);
  }
}

const workOnAll = (shards: Shards, handler: (id: number) => unknown, options: WorkOptions<number>) =>
  Promise.all([...shards].map(shard => workOn(shard, shards, handler, options)));

const sum = (all: readonly number[]) => all.reduce((total, n) => total + n, 0);

test('a home is a matter of names alone; one more takes its share from all, and moves nothing else', () => {
  const many = Array.from({ length: 6_000 }, (_, i) => i);
  const before = many.map(id => homeOf(id, NAMES));
  const afterwards = many.map(id => homeOf(id, ['d', ...NAMES]));
  for (const name of NAMES) {
    const share = before.filter(home => home === name).length / many.length;
    assert.ok(Math.abs(share - 1 / 3) < 0.03, `${name} has ${share}`);
    const taken = many.filter((_, i) => before[i] === name && afterwards[i] === 'd').length / many.length;
    assert.ok(Math.abs(taken - 1 / 12) < 0.03, `${taken} are taken from ${name}`);
  }
  assert.ok(many.every((_, i) => afterwards[i] === before[i] || afterwards[i] === 'd'));
  // For ever: another answer is another place for ids that are there already.
  const homes = [1, 2, 3, 4, 5, 6, 7, 8].map(id => homeOf(id, NAMES));
  assert.equal(homes.join(''), 'cccbccbc');
});

test('ids are added, bumped, read and worked on in their shards: each is in one, and updated once', async () => {
  const { shards, pools } = await makeShards();
  assert.equal(await nextOf(shards), null);
  assert.equal(sum(await atHome(shards, ids, (loop, its) => loop.add(its))), SIZE);
  await assertAtHome(pools);
  assert.equal(await nextOf(shards), 0);
  assert.equal(sum(await atHome(shards, [7, 8], (loop, its) => loop.bump(its))), 2);
  const checked = (await atHome(shards, [7, 8, SIZE + 1], (loop, its) => loop.check(its))).flat();
  assert.deepEqual(checked.map(({ id }) => id).sort(), [7, 8]);
  assert.deepEqual(await statsOf(shards), { total: SIZE, neverUpdated: SIZE, bumped: 2, locked: 0, maxUpdateTime: 0 });

  const handled: number[] = [];
  const summaries = await workOnAll(shards, id => handled.push(id), { once: true, maxIds: 50 });
  assert.deepEqual(
    handled.sort((one, other) => one - other),
    ids,
  );
  assert.equal(sum(summaries.map(({ did }) => did)), SIZE);
  const then = await statsOf(shards);
  assert.deepEqual([then.total, then.neverUpdated, then.locked], [SIZE, 0, 0]);
  const dueIn = (await nextOf(shards))!;
  assert.ok(dueIn > 0 && dueIn <= 3_600, `due in ${dueIn}`);
});

test('a shard that is killed keeps no other from its ids; its own are updated when it is back', async () => {
  const { shards } = await makeShards();
  await atHome(shards, ids, (loop, its) => loop.add(its));
  const homes = new Map(ids.map(id => [id, homeOf(id, NAMES)]));
  const times = new Map(ids.map(id => [id, 0]));
  const of = (name: string) => ids.filter(id => homes.get(id) === name);
  const isDone = (name: string) => of(name).every(id => times.get(id)! > 0);
  let begun = 0;
  let killing: Promise<void> | undefined;
  const stop = new AbortController();
  const working = workOnAll(
    shards,
    async id => {
      if (homes.get(id) === 'b') {
        begun += 1;
        if (begun > of('b').length / 3) killing ??= servers[1].kill();
        await killing;
      }
      times.set(id, times.get(id)! + 1);
    },
    { signal: stop.signal, maxIds: 20, lockFor: 3, pollInterval: 1 },
  );
  await Promise.race([
    until('what the others have is done', () => isDone('a') && isDone('c') && killing !== undefined),
    working,
  ]);
  await killing;
  assert.ok(!isDone('b'));
  await assert.rejects(statsOf(shards));
  await servers[1].restart();
  await Promise.race([until('what the killed one has is done', () => isDone('b')), working]);
  stop.abort();
  await working;
  for (const name of ['a', 'c']) assert.ok(of(name).every(id => times.get(id) === 1));
  // What was in hand when it was killed may be updated once more.
  const twice = of('b').filter(id => times.get(id)! > 1).length;
  assert.ok(twice <= 60, `${twice} were updated more than once`);
  const { total, neverUpdated } = await statsOf(shards);
  assert.deepEqual([total, neverUpdated], [SIZE, 0]);
});

/** A shard whose first calls of a kind fail, as if the process had ended before them. */
class Failing extends DoLoop {
  #left = 10;

  constructor(
    pool: Pool,
    private readonly what: 'add' | 'remove',
    private readonly failing: (id: number) => unknown,
  ) {
    super(pool, 'user_loop');
  }

  override async add(...args: Parameters<DoLoop['add']>): Promise<number> {
    await this.#fail('add', args[0] as number);
    return super.add(...args);
  }

  override async remove(...args: Parameters<DoLoop['remove']>): Promise<number> {
    await this.#fail('remove', args[0] as number);
    return super.remove(...args);
  }

  async #fail(what: 'add' | 'remove', id: number): Promise<void> {
    if (what !== this.what || this.#left === 0) return;
    this.#left -= 1;
    await this.failing(id);
    throw new Error('it ended here');
  }
}

test('a fourth shard: its ids move there when they are updated; wherever that is cut short, none is lost', async () => {
  const { shards, pools } = await makeShards();
  await atHome(shards, ids, (loop, its) => loop.add(its));
  const { pool, loop } = await makeShard(servers[0]);
  pools.set('d', pool);
  let [notYetThere, inBoth] = [0, 0];
  const isIn = async (name: string, id: number) => (await new DoLoop(pools.get(name)!, 'user_loop').check(id)).length;
  const d = new Failing(pool, 'add', async id => {
    notYetThere += await isIn('a', id);
  });
  const b = new Failing(pools.get('b')!, 'remove', async id => {
    if ((await isIn('b', id)) + (await isIn('d', id)) === 2) inBoth += 1;
  });
  const four = new Map([...shards, ['d', loop]]);
  const handled = new Set<number>();
  const handler = (id: number) => handled.add(id);
  const options = { once: true, maxIds: 20, retryIn: 0 };
  await Promise.all([
    workOn(['a', shards.get('a')!], new Map([...shards, ['d', d]]), handler, options),
    workOn(['b', b], four, handler, options),
    workOn(['c', shards.get('c')!], four, handler, options),
    workOn(['d', loop], four, handler, options),
  ]);
  assert.deepEqual([notYetThere, inBoth], [10, 10]);
  assert.equal(handled.size, SIZE);
  await assertAtHome(pools);
  const stats = await statsOf(four);
  assert.deepEqual([stats.total, stats.neverUpdated, stats.bumped, stats.locked], [SIZE, 0, 0, 0]);

  // And away again: for whoever works on it, all of its ids belong elsewhere.
  await pool.query('UPDATE user_loop SET last_updated = last_updated - 7200');
  await workOn(['d', loop], shards, handler, options);
  assert.deepEqual(await idsIn(pool), []);
  pools.delete('d');
  await assertAtHome(pools);
});

test('three servers, and one of them alone, on one machine: how many ids a second', async t => {
  const { shards } = await makeShards();
  await atHome(shards, ids, (loop, its) => loop.add(its));
  const { loop: single } = await makeShard(servers[0], 12);
  await single.add(ids);
  const seconds = quickOrLong(0.5, 20);
  /** So many connections get and finish on each of these; no id may be in two hands. */
  const rate = async (loops: DoLoop[], connections: number) => {
    const end = performance.now() + seconds * 1_000;
    const held = new Set<number>();
    let count = 0;
    const goRound = async (loop: DoLoop) => {
      while (performance.now() < end) {
        const batch = await loop.get(100, { minLoopTime: 0 });
        assert.ok(!batch.some(id => held.has(id)), 'an id is in two hands');
        for (const id of batch) held.add(id);
        await othersTurn();
        for (const id of batch) held.delete(id);
        count += await loop.did(batch);
      }
    };
    await Promise.all(loops.flatMap(loop => Array.from({ length: connections }, () => goRound(loop))));
    return Math.round(count / seconds);
  };
  for (let round = 0; round < quickOrLong(1, 3); round += 1) {
    const [spread, alone] = [await rate([...shards.values()], 4), await rate([single], 12)];
    t.diagnostic(`three servers: ${spread} ids/s; one of them (${servers[0].kind}): ${alone} ids/s`);
    assert.ok(spread > 0 && alone > 0);
  }
  const { total, locked } = await statsOf(shards);
  assert.deepEqual([total, locked], [SIZE, 0]);
});
