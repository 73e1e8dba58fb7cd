/** What `create` makes of older loops, and of tables of the original: it keeps what they hold, and they are loops then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import mysql, { type Connection } from 'mysql2/promise';
import { examine } from '../scripts/cli/doctor/examine.js';
import type { Finding } from '../scripts/cli/doctor/finding.js';
import { create, DoLoop, scriptForCreate } from '../src/index.js';
import { conforms } from './conformance.js';
import { connect, contents, inConsole, makeDatabase, NOW, rows, server } from './harness.js';
import { fixtures } from './older.js';

const table = 'old_loop';

/** A new database, and a session in it. */
async function makeHome(): Promise<{ database: string; session: Connection }> {
  const database = await makeDatabase('CHARACTER SET utf8mb4');
  const session = await connect({ database });
  return { database, session };
}

const run = (database: string, sql: string) => assert.equal(inConsole(['--batch'], `USE ${database};\n${sql}`), '');

/** What the doctor finds to be a problem. */
async function problems(database: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  const session = await mysql.createConnection({ uri: server.url, database });
  for await (const finding of examine(session, { database, table })) findings.push(finding);
  session.destroy();
  return findings.filter(({ level }) => level === 'problem');
}

/** The ids of a fixture, if they are not numbers. */
const idsOf = (text: string) => (/^ *`?id`? +CHAR\(64\)/m.test(text) ? (n: number) => `page ${n}` : undefined);

/** Puts some rows in, as an older program would, and says how to read them. */
async function populate(session: Connection, text: string): Promise<() => Promise<unknown>> {
  const id = idsOf(text) ?? (n => n);
  const times = [
    [NOW - 5000, NOW + 900],
    [1_500_000_000, NOW - 7],
    [2_147_483_647, 2_147_483_647],
  ];
  for (const [i, [updated, until]] of times.entries()) {
    await session.query(`INSERT INTO ${table} (id, last_updated, lock_until) VALUES (?)`, [
      [id(i + 1), updated, until],
    ]);
  }
  return () => rows(session, `SELECT id, last_updated, lock_until FROM ${table} ORDER BY id`);
}

for (const [i, { name, text }] of fixtures('procedures').entries()) {
  for (const door of i === 0 ? ['create()', 'the script'] : ['create()']) {
    test(`a loop made by doloop at ${name}: ${door} upgrades it, and keeps its rows`, async () => {
      const { database, session } = await makeHome();
      run(database, text);
      const seen = await populate(session, text);
      await session.query(`UPDATE ${table} SET failures = 3 WHERE lock_until > ${NOW}`);
      await session.query(`CALL ${table}_get(1, NULL, NULL)`); // it is in use
      const before = [await seen(), await contents(session, table)];
      assert.deepEqual(
        (await problems(database)).map(({ check }) => check),
        ['procedures'],
      );
      if (door === 'create()') {
        const { procedures, ...rest } = await create(session, table);
        assert.deepEqual(rest, { table: 'kept', warnings: [] });
        assert.notEqual(procedures.length, 0);
      } else {
        run(database, scriptForCreate(table, idsOf(text) && { idType: 'CHAR(64) COLLATE ascii_general_ci' }));
      }
      assert.deepEqual([await seen(), await contents(session, table)], before);
      assert.deepEqual(await problems(database), []);
      assert.deepEqual((await create(session, table)).procedures, []);
      await conforms(session, table, idsOf(text));
    });
  }
}

for (const { name, text } of fixtures('tables')) {
  const refused = /^-- refused: (.*)$/m.exec(text)?.[1];
  const end = refused === undefined ? 'adopted with all its rows' : `refused: ${refused}`;
  test(`the table ${name} is ${end}`, async () => {
    const { database, session } = await makeHome();
    run(database, text);
    const seen = await populate(session, text);
    const before = await seen();
    if (refused !== undefined) {
      const shape = await rows(session, `SHOW CREATE TABLE ${table}`);
      await assert.rejects(create(session, table), ({ code, message }) => {
        assert.deepEqual(
          [code, message.replace('(11)', '')],
          ['REFUSED', `table: ${table} is no loop of INT: ${refused}`],
        );
        return true;
      });
      assert.deepEqual(await rows(session, `SHOW CREATE TABLE ${table}`), shape);
      const byHand = /^-- mended by: (.*)$/m.exec(text)?.[1];
      const printed = (await problems(database)).map(({ cure }) => cure).filter(cure => cure?.endsWith(';'));
      for (const cure of byHand === undefined ? printed : [byHand]) run(database, cure!);
    }
    assert.notEqual((await create(session, table)).table, 'made');
    assert.deepEqual(await seen(), before);
    assert.deepEqual(await problems(database), []);
    const loop = new DoLoop(session, table);
    assert.equal((await loop.stats({ delayThresholds: [60] })).total, 3);
    await conforms(session, table, idsOf(text));
  });
}
