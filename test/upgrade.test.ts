/** Upgrades of loops in use: no call fails at a client that repeats it, and what was interrupted is taken up again. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type Connection, type Pool, type QueryOptions } from 'mysql2/promise';
import { examine } from '../scripts/cli/doctor/examine.js';
import type { Finding } from '../scripts/cli/doctor/finding.js';
import { startServer } from '../scripts/server.js';
import { parseIdType } from '../src/id-type.js';
import { create, DoLoop } from '../src/index.js';
import { INSTALLING } from '../src/installing.js';
import { PROCEDURES, procedureVersion } from '../src/render.js';
import { conforms } from './conformance.js';
import { connect, contents, database, makeAccount, makeLoop, makePool, rows, server, standIn } from './harness.js';
import { quickOrLong } from './long.js';
import { olderStatements } from './older.js';
import { beginDoloop, doloop, ended } from './run-doloop.js';
import { until } from './until.js';

const root = await connect();

/** Makes the loop what the first version would have made, whoever uses it, and lets this account call it. */
async function makeOlder(session: Connection, table: string, account?: string): Promise<void> {
  await session.query(`DO GET_LOCK(${INSTALLING}, 60)`);
  try {
    for (const statement of olderStatements(table)) {
      await session.query(statement);
      const [, made] = /^CREATE .* PROCEDURE (`\w+`)/.exec(statement) ?? [];
      if (account !== undefined && made) await session.query(`GRANT EXECUTE ON PROCEDURE ${made} TO ${account}`);
    }
  } finally {
    await session.query(`DO RELEASE_LOCK(${INSTALLING})`);
  }
}

/** What the doctor finds amiss, on a connection of its own: not that other tests have transactions open. */
async function amiss(table: string, url = server.url, schema = database): Promise<Finding[]> {
  const session = await mysql.createConnection({ uri: url, database: schema });
  const findings: Finding[] = [];
  for await (const finding of examine(session, { database: schema, table })) findings.push(finding);
  session.destroy();
  return findings.filter(({ level, check }) => level !== 'ok' && check !== 'snapshots');
}

/** The routines of a loop, by their names' last part, with what they say of their version. */
async function routinesOf(session: Connection, table: string): Promise<Map<string, string>> {
  const found = await rows(
    session,
    `SELECT routine_name AS name, SUBSTRING_INDEX(routine_comment, ':', 1) AS version FROM information_schema.routines
      WHERE routine_schema = DATABASE() AND LEFT(routine_name, ?) = ?`,
    [table.length + 1, `${table}_`],
  );
  return new Map(found.map(({ name, version }) => [name.slice(table.length + 1), version]));
}

suite('in full use', () => {
  const WORK = 300;

  /** Who has which ids in hand, and what went wrong. */
  class Ledger {
    readonly #held = new Map<number, string>();
    readonly faults: string[] = [];
    added = 0;

    /** Others may be bumped meanwhile, so that somebody else gets them, too. */
    take(holder: string, ids: readonly number[]): void {
      for (const id of ids.filter(id => id <= WORK)) {
        if (this.#held.has(id)) this.faults.push(`${holder} got ${id}, which ${this.#held.get(id)} has`);
        this.#held.set(id, holder);
      }
    }

    release(ids: readonly number[]): void {
      for (const id of ids) this.#held.delete(id);
    }
  }

  /** What a client does again and again; `n` counts its turns. */
  type Turn = (n: number) => Promise<unknown>;

  function typed(pool: Pool, table: string, ledger: Ledger, number: number): Turn {
    const loop = new DoLoop(pool, table);
    return async n => {
      const id = number * 1_000_000 + n;
      assert.equal(await loop.add(id), 1);
      ledger.added += 1;
      const batch = await loop.get(4, { minLoopTime: 0 });
      ledger.take(`client ${number}`, batch);
      assert.equal((await loop.check(id)).length, 1);
      assert.equal(await loop.bump(id, { lockFor: -1 }), 1);
      ledger.release(batch);
      assert.equal(await loop.did(batch), batch.length);
      assert.ok((await loop.stats()).maxId);
      assert.notEqual(await loop.next({ minLoopTime: 0 }), null);
    };
  }

  /** In plain SQL, on a connection: it repeats what may be repeated. */
  function plain(session: Connection, table: string, ledger: Ledger, number: number, stop: AbortSignal): Turn {
    const call = async (procedure: string, args: string) => {
      for (;;) {
        try {
          return await rows(session, `CALL ${table}_${procedure}(${args})`);
        } catch (error) {
          if (stop.aborted || ![1305, 1370, 1213].includes((error as { errno: number }).errno)) throw error;
          await sleep(Math.random() * 20);
        }
      }
    };
    return async n => {
      const id = number * 1_000_000 + n;
      assert.deepEqual(await call('add', `${id}, NULL`), [{ added: 1 }]);
      ledger.added += 1;
      const got = (await call('get', '3, NULL, 0')).map(row => row.id as number);
      ledger.take(`client ${number}`, got);
      await call('extend', `'${JSON.stringify(got)}', 7200, NULL`);
      ledger.release(got);
      assert.deepEqual(await call('did', `'${JSON.stringify(got)}', NULL, NULL`), [{ updated: got.length }]);
      assert.deepEqual(await call('unlock', `${id}, TRUE, NULL`).then(({ length }) => length), 1);
    };
  }

  test('create replaces all procedures again and again: no call fails, no id is lost or given to two', async () => {
    const { account, who } = await makeAccount(); // EXECUTE on each procedure
    const { who: another } = await makeAccount('EXECUTE'); // on the database
    const { table, loop } = await makeLoop(root, { grant: [account] });
    await loop.add(Array.from({ length: WORK }, (_, i) => i + 1));
    const ledger = new Ledger();
    const pools = [makePool(who), makePool(another), makePool()] as const;
    const sessions = await Promise.all([who, another].map(one => connect(one)));
    const stop = new AbortController();
    const turns = [
      ...[pools[0], pools[0], ...pools].map((pool, i) => typed(pool, table, ledger, i + 1)),
      ...sessions.map((session, i) => plain(session, table, ledger, i + 11, stop.signal)),
    ];
    const counts = turns.map(() => 0);
    const clients = turns.map(async (turn, i) => {
      while (!stop.signal.aborted) {
        await turn(counts[i]!).catch(error => ledger.faults.push(`client ${i}: ${error.cause ?? error}`));
        counts[i]! += 1;
      }
    });
    const workers = pools.map((pool, i) => {
      const number = turns.length + i;
      counts[number] = 0;
      return new DoLoop(pool, table).work(
        async id => {
          ledger.take(`worker ${i}`, [id]);
          await sleep(1);
          ledger.release([id]);
          counts[number]! += 1;
        },
        {
          ...{ minLoopTime: 0, maxIds: 5, concurrency: 2, signal: stop.signal },
          onEvent: event => {
            if (event.type === 'retry') ledger.faults.push(`worker ${i}: ${event.error}`);
            if (event.type === 'lost') ledger.take(`worker ${i} lost`, event.ids);
          },
        },
      );
    });
    const allHaveTurned = async () => {
      const before = [...counts];
      await until('a turn of each client', async () => counts.every((count, i) => count > before[i]! + 1));
    };
    try {
      for (let round = 0; round < quickOrLong(2, 60) && ledger.faults.length === 0; round += 1) {
        await makeOlder(root, table, account);
        await allHaveTurned();
        const made = await create(root, table);
        assert.deepEqual(made, { table: 'kept', procedures: [...PROCEDURES], warnings: [] });
        await allHaveTurned();
      }
    } finally {
      stop.abort();
      await Promise.all([...clients, ...workers]);
    }
    assert.deepEqual(ledger.faults, []);
    const ids = (await contents(root, table)).map(({ id }) => id as number);
    assert.equal(ids.length, WORK + ledger.added);
    await loop.unlock(ids);
    assert.deepEqual(
      [...(await loop.get(ids.length + 1, { minLoopTime: 0 }))].sort((a, b) => a - b),
      ids,
    );
    assert.deepEqual(await amiss(table), []);
  });

  for (const [errno, message, code] of [
    [1305, 'PROCEDURE x does not exist', 'NO_LOOP'],
    [1370, 'execute command denied', 'NOT_ALLOWED'],
  ] as const) {
    /** A loop whose procedures are away for so many calls; and what it was asked. */
    const awayFor = async (times: number, installing: 0 | 1) => {
      const { table } = await makeLoop(root);
      const asked: string[] = [];
      const pool = standIn(makePool({ connectionLimit: 1 }), sql => {
        asked.push(sql.split(/[ (]/)[0]!);
        if (sql.includes('IS_FREE_LOCK')) return [{ installing }];
        if (!sql.startsWith('CALL') || times === 0) return undefined;
        times -= 1;
        throw Object.assign(new Error(message), { errno });
      });
      return { loop: new DoLoop(pool, table), asked };
    };

    test(`on a pool a call that fails with ${errno} is made again as long as somebody installs`, async () => {
      const { loop, asked } = await awayFor(4, 1);
      assert.equal(await loop.add([1, 2]), 2);
      assert.deepEqual(
        asked.filter(one => one !== 'ROLLBACK'),
        ['CALL', ...Array.from({ length: 4 }, () => ['SELECT', 'CALL']).flat()],
      );
    });

    test(`on a pool a call that fails with ${errno} is ${code} when it failed again while nobody installs`, async () => {
      const { loop, asked } = await awayFor(2, 0);
      await assert.rejects(loop.add([1, 2]), { code });
      assert.deepEqual(
        asked.filter(one => one !== 'ROLLBACK'),
        ['CALL', 'SELECT', 'CALL'],
      );
      assert.equal(await loop.add([1, 2]), 2);
    });
  }

  test('any account sees whether somebody installs, and if there is no loop afterwards it is NO_LOOP', async () => {
    const { who } = await makeAccount('EXECUTE');
    let calls = 0;
    const pool = standIn(makePool({ ...who, connectionLimit: 1 }), sql => {
      if (sql.startsWith('CALL')) calls += 1;
      return undefined;
    });
    await root.query(`DO GET_LOCK(${INSTALLING}, 60)`);
    const call = assert.rejects(new DoLoop(pool, 'no_such_loop').next(), { code: 'NO_LOOP' });
    await until('it is called again', async () => calls > 2);
    await root.query(`DO RELEASE_LOCK(${INSTALLING})`);
    await call;
  });
});

suite('transactions that use a loop', () => {
  /** Somebody who does this in a transaction that goes on. */
  async function hold(t: TestContext, statement: string): Promise<Connection> {
    const holder = await mysql.createConnection({ uri: server.url, database });
    t.after(() => holder.destroy());
    await holder.beginTransaction();
    await holder.query(statement);
    return holder;
  }

  /** The session, but that it waits for others for 1 s only. */
  const hasty = (session: Connection) =>
    new Proxy(session, {
      get(real, key) {
        if (key === 'query') {
          return (options: QueryOptions) =>
            real.query({ ...options, sql: options.sql.replace('lock_wait_timeout = 10,', 'lock_wait_timeout = 1,') });
        }
        const value: unknown = Reflect.get(real, key);
        return typeof value === 'function' ? value.bind(real) : value;
      },
    });

  const waits = ({ threadId }: Connection) =>
    until('create waits', async () =>
      (await rows(root, 'SHOW PROCESSLIST')).some(({ Id, State }) => Id === threadId && /metadata lock/.test(State)),
    );

  /** What create says that gives up. */
  const inVain = (table: string) => ({
    message: `a transaction has used ${table} for 10 s, and calls would have had to wait with us; try again later`,
  });

  test('where nothing is missing from the table, create waits for none that uses it', async t => {
    const { table, loop } = await makeLoop(root);
    await makeOlder(root, table);
    await loop.add([1, 2, 3]);
    const holder = await hold(t, `UPDATE ${table} SET last_updated = 7 WHERE id = 1`);
    assert.deepEqual((await create(root, table)).procedures, [...PROCEDURES]);
    assert.deepEqual([...(await loop.get(9))], [2, 3]); // the other one is not free yet
    await holder.commit();
    assert.deepEqual([...(await loop.get(9))], [1]);
  });

  test('where something is, it gives up after 10 s (here 1 s), and who waited behind it goes on', {
    timeout: 120_000,
  }, async t => {
    const { table, loop } = await makeLoop(root);
    await loop.add([1, 2, 3]);
    await root.query(`ALTER TABLE ${table} DROP KEY lock_until, ADD KEY other (lock_until, last_updated)`);
    const holder = await hold(t, `SELECT * FROM ${table} WHERE id = 1 FOR UPDATE`);
    const session = await connect();
    const creating = assert.rejects(create(hasty(session), table), inVain(table));
    await waits(session);
    assert.equal((await loop.add([7])) + (await loop.add(8)), 2); // after a wait, though the holder is still there
    await creating;
    assert.deepEqual((await rows(session, 'SELECT @@lock_wait_timeout > 1000 AS was'))[0], { was: 1 });
    assert.equal((await routinesOf(root, table)).size, PROCEDURES.length);
    await holder.rollback();
    assert.equal((await create(root, table)).table, 'adopted');
    assert.deepEqual(
      [...(await loop.get(9))].sort((a, b) => a - b),
      [1, 2, 3, 7, 8],
    );
  });

  test('one that has called a procedure: on MySQL create gives up in the same way, and nothing is missing', {
    timeout: 120_000,
  }, async t => {
    const { table, loop } = await makeLoop(root);
    await makeOlder(root, table);
    await loop.add([1, 2]);
    const holder = await hold(t, `CALL ${table}_did('[1]', NULL, NULL)`);
    const session = await connect();
    if (server.kind === 'mysql') {
      const creating = assert.rejects(create(hasty(session), table), inVain(table));
      await waits(session);
      assert.equal(await loop.did(2), 1); // after a wait
      await creating;
      assert.equal((await routinesOf(root, table)).size, PROCEDURES.length);
      await holder.commit();
    }
    await create(session, table);
    assert.deepEqual((await create(session, table)).procedures, []);
    await holder.commit();
    assert.deepEqual(
      (await loop.check([1])).map(({ sinceUpdated }) => sinceUpdated !== null),
      [true],
    );
  });
});

test('several processes at once, each with --grant, upgrade a loop as one would', async () => {
  const { account } = await makeAccount();
  const { table, loop } = await makeLoop(root);
  for (let round = 0; round < quickOrLong(1, 8); round += 1) {
    await makeOlder(root, table);
    await loop.add([1, 2]);
    const before = await contents(root, table);
    const all = await Promise.all(
      Array.from({ length: 2 + (round % 3) }, () => doloop(['create', table, '--grant', account])),
    );
    for (const { code, stdout, stderr } of all) {
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(stdout, new RegExp(`^${database}\\.${table}: (upgraded, 11 procedures|up to date)\n$`));
    }
    assert.equal(all.filter(({ stdout }) => stdout.includes('upgraded')).length, 1);
    assert.deepEqual(await amiss(table), []);
    assert.deepEqual(await contents(root, table), before);
  }
  await conforms(await connect(), table);
});

suite('interrupted', () => {
  /** What the doctor says of the procedures is what is, and create makes the loop whole, whatever it was left as. */
  async function isMended(table: string, account: string, url = server.url, schema = database): Promise<void> {
    const session = await mysql.createConnection({ uri: url, database: schema });
    const look = () => amiss(table, url, schema);
    const before = await contents(session, table);
    const installed = await routinesOf(session, table);
    const current = ofToday(table);
    const missing = PROCEDURES.filter(one => !installed.has(one));
    const others = PROCEDURES.filter(one => installed.has(one) && installed.get(one) !== current.get(one));
    const told = (await look()).filter(({ check }) => check === 'procedures').map(({ text }) => text);
    assert.deepEqual(
      told.map(text => text.replace(/^another text .*: /, 'another: ')),
      [
        ...(missing.length > 0 ? [`missing: ${missing.join(', ')}`] : []),
        ...(others.length > 0 ? [`another: ${others.join(', ')}`] : []),
      ],
    );
    const { procedures } = await create(session, table);
    assert.deepEqual(
      procedures,
      PROCEDURES.filter(one => missing.includes(one) || others.includes(one)),
    );
    assert.deepEqual(new Map([...(await routinesOf(session, table))].sort()), new Map([...current].sort())); // and nothing else is left
    // On MySQL what was granted on the one that was away is gone.
    const left = await look();
    for (const { check } of left) assert.equal(check, 'grants');
    if (server.kind === 'mariadb') assert.deepEqual(left, []);
    await create(session, table, { grant: [account] });
    assert.deepEqual(await look(), []);
    assert.deepEqual(await contents(session, table), before);
    session.destroy();
  }

  /** The routines of a whole loop of today, with their versions. */
  function ofToday(table: string): Map<string, string> {
    const loop = { name: { database: undefined, table }, idType: parseIdType('INT'), engine: '' };
    return new Map(PROCEDURES.map(one => [one, `doloop ${procedureVersion(one, loop)}`]));
  }

  /** A connection that dies before the n-th statement, with the process that uses it. */
  function dyingBefore(n: number, connection: Connection): { connection: Connection; statements: string[] } {
    const statements: string[] = [];
    const dying = standIn(connection, sql => {
      statements.push(sql);
      if (statements.length < n) return undefined;
      connection.destroy();
      throw Object.assign(new Error('as ordered'), { fatal: true });
    });
    return { connection: dying, statements };
  }

  test('before whichever statement it ends: the doctor says what is missing, and create makes it whole', async () => {
    const { account } = await makeAccount();
    const { table, loop } = await makeLoop(root);
    await loop.add([1, 2, 3]);
    await loop.get(1);
    await makeOlder(root, table, account);
    const counting = dyingBefore(Number.POSITIVE_INFINITY, await connect());
    await create(counting.connection, table);
    const all = counting.statements.length;
    assert.ok(all > PROCEDURES.length);
    const rounds = quickOrLong(4, all);
    for (let round = 0; round < rounds; round += 1) {
      // In a quick test others each time.
      const n = rounds === all ? round + 1 : 1 + Math.floor(Math.random() * all);
      await makeOlder(root, table, account);
      const { connection, statements } = dyingBefore(n, await connect());
      await create(connection, table).catch(error => assert.equal(error.message, 'as ordered'));
      assert.ok(statements.length >= n, `${n} of ${all}`);
      await isMended(table, account);
    }
  });

  /**
   * Has installers wait: on MySQL for a transaction that has called `fail`, before they replace that; on MariaDB for the
   * table, before they look at it.
   */
  async function holdUp(session: Connection, table: string): Promise<void> {
    await session.beginTransaction();
    await session.query(
      server.kind === 'mysql' ? `CALL ${table}_fail('[]', NULL, NULL)` : `LOCK TABLES ${table} WRITE`,
    );
  }

  /** The connection of an installer that has come that far. */
  async function waitingInstaller(session: Connection, table: string): Promise<number> {
    let id = 0;
    await until('the installer waits', async () => {
      const waiting = (await rows(session, 'SHOW FULL PROCESSLIST')).find(
        ({ State, Info }) => /metadata lock/.test(State) && Info.includes(`\`${table}`),
      );
      id = waiting?.Id ?? 0;
      return id !== 0;
    });
    return id;
  }

  for (const how of ['kill -9', 'KILL'] as const) {
    test(`by ${how} in the middle`, async t => {
      const { account } = await makeAccount();
      const { table, loop } = await makeLoop(root);
      await loop.add([1, 2, 3]);
      await makeOlder(root, table, account);
      const holder = await mysql.createConnection({ uri: server.url, database });
      t.after(() => holder.destroy());
      await holdUp(holder, table);
      const child = beginDoloop(['create', table, '--grant', account]);
      const end = ended(child);
      const id = await waitingInstaller(root, table);
      if (how === 'KILL') await root.query(`KILL ${id}`);
      else child.kill('SIGKILL');
      const { code, signal, stdout, stderr } = await end;
      assert.equal(stdout, '');
      if (how === 'KILL') {
        assert.deepEqual([code, signal], [1, null]);
        assert.match(stderr, /^doloop: .*\n$/);
      } else {
        assert.deepEqual([code, signal], [null, 'SIGKILL']);
      }
      holder.destroy();
      await until('its connection is gone', async () =>
        (await rows(root, 'SHOW PROCESSLIST')).every(({ Id }) => Id !== id),
      );
      await isMended(table, account);
    });
  }

  test('by kill -9 of the server in the middle', async t => {
    const own = await startServer({ kind: server.kind });
    t.after(() => own.stop());
    let admin = await mysql.createConnection({ uri: own.url });
    admin.on('error', () => {});
    await admin.query('CREATE DATABASE app');
    await admin.query('USE app');
    await admin.query("CREATE USER 'app'@'%'");
    await create(admin, 'user_loop');
    await new DoLoop(admin, 'user_loop').add([1, 2, 3]);
    for (let round = 0; round < quickOrLong(1, 5); round += 1) {
      await makeOlder(admin, 'user_loop', "'app'@'%'");
      const holder = await mysql.createConnection({ uri: own.url, database: 'app' });
      holder.on('error', () => {});
      await holdUp(holder, 'user_loop');
      const child = beginDoloop(['create', 'user_loop', '--grant', 'app@%'], { MYSQL_URL: `${own.url}app` });
      const end = ended(child);
      await waitingInstaller(admin, 'user_loop');
      await own.kill();
      const { code, stdout, stderr } = await end;
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, /^doloop: .*\n$/);
      await own.restart();
      admin = await mysql.createConnection({ uri: own.url, database: 'app' });
      admin.on('error', () => {});
      await isMended('user_loop', "'app'@'%'", own.url, 'app');
    }
    await conforms(admin, 'user_loop');
    admin.destroy();
  });
});
