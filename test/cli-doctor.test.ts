/** `doloop doctor`: what it finds, provoked one by one; and that what it prints to mend it does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql, { type Connection } from 'mysql2/promise';
import { examine, NAMES } from '../scripts/cli/doctor/examine.js';
import type { Finding, Level } from '../scripts/cli/doctor/finding.js';
import { startServer } from '../scripts/server.js';
import { freePort } from '../scripts/server-process.js';
import { create, DoLoop, sqlForCreate } from '../src/index.js';
import { settings, VERSION } from '../src/render.js';
import { connect, contents, database, inConsole, makeAccount, makeLoop, rows, server, standIn } from './harness.js';
import { doloop, NOWHERE, serverUrl, shell } from './run-doloop.js';

const root = await connect();

/** What the doctor finds, on a connection of its own. */
async function look(table: string, target?: Connection): Promise<Finding[]> {
  const findings: Finding[] = [];
  for await (const finding of examine(target ?? (await connect()), { database, table })) findings.push(finding);
  return findings;
}

/** What it finds amiss of this loop: not that other tests have transactions open. */
async function amiss(table: string, target?: Connection): Promise<Finding[]> {
  return (await look(table, target)).filter(({ level, check }) => level !== 'ok' && check !== 'snapshots');
}

/** Pastes a cure: into the console of the server, or into a shell. */
async function paste(cure: string | undefined): Promise<void> {
  assert.ok(cure, 'there is a cure');
  if (cure.endsWith(';')) {
    assert.equal(inConsole(['--batch'], cure), '', cure);
  } else {
    const { code, stderr } = await shell(cure.replace(/^npx /, ''));
    assert.deepEqual([code, stderr], [0, ''], cure);
  }
}

/** A loop with two ids, which an application may use. */
async function makeHealthy(): Promise<string> {
  const { account } = await makeAccount();
  const { table, loop } = await makeLoop(root, { grant: [account] });
  await loop.add([1, 2]);
  await loop.did(2);
  assert.deepEqual(await amiss(table), []);
  return table;
}

test('a healthy loop: every check says so, on one line, and it exits with 0', async () => {
  const table = await makeHealthy();
  const findings = await look(table);
  assert.deepEqual(
    findings.filter(({ check }) => check !== 'snapshots').map(({ check, level }) => [check, level]),
    NAMES.filter(name => !['snapshots', 'triggers'].includes(name)).map(name => [name, 'ok']),
  );
  const { code, stdout, stderr } = await doloop(['doctor', table]);
  assert.deepEqual([code, stderr], [0, '']);
  const lines = stdout.split('\n').filter(line => !/snapshots|^ |^$/.test(line));
  assert.equal(lines.length, NAMES.length - 2);
  for (const line of lines) assert.match(line, /^✓ \w/);
  assert.match(stdout, new RegExp(`^✓ procedures  all 11, of doloop ${VERSION}$`, 'm'));
  assert.match(stdout, /^✓ calls {7}all answer, with the rights of root@localhost$/m);
});

test('it changes nothing', async () => {
  const table = await makeHealthy();
  const seen = async () => [await contents(root, table), await rows(root, `SHOW CREATE TABLE ${table}`)];
  const before = await seen();
  await look(table);
  assert.deepEqual(await seen(), before);
});

interface Case {
  title: string;
  /** What breaks the loop {t}. */
  breaks: string[];
  level: Level;
  check: string;
  text: RegExp;
  /** What else is found. */
  also?: string[];
  cure: RegExp;
  /** create refuses such a table, too. */
  refused?: true;
}
const alter = (changes: string, more: Omit<Case, 'breaks' | 'level'> & { level?: Level }): Case => ({
  level: 'problem',
  ...more,
  breaks: [`ALTER TABLE {t} ${changes}`],
});
const CREATE = /^npx doloop create \w+\.\w+$/;

const CASES: Case[] = [
  {
    title: 'no table',
    breaks: ['DROP TABLE {t}'],
    level: 'problem',
    check: 'table',
    text: /doesn't exist/,
    cure: CREATE,
  },
  alter('ADD COLUMN `e``mail` TEXT', {
    title: 'a column too many',
    check: 'table',
    text: /^it has a column e`mail$/,
    cure: /^ALTER TABLE .* DROP COLUMN `e``mail`;$/,
    refused: true,
  }),
  alter('DROP COLUMN failures', {
    title: 'no failures, as in a table of the original',
    check: 'table',
    text: /^it has no failures$/,
    cure: CREATE,
  }),
  alter('DROP COLUMN last_updated', {
    title: 'no last_updated',
    check: 'table',
    text: /^it has no last_updated$/,
    also: ['keys'],
    cure: /ADD COLUMN `last_updated` BIGINT DEFAULT NULL COMMENT 'Unix time, s; NULL: never';$/,
    refused: true,
  }),
  alter('MODIFY last_updated BIGINT UNSIGNED', {
    title: 'unsigned times',
    check: 'table',
    text: /^last_updated BIGINT(\(20\))? UNSIGNED, not BIGINT DEFAULT NULL/,
    cure: /MODIFY COLUMN `last_updated` BIGINT DEFAULT NULL/,
    refused: true,
  }),
  alter('MODIFY lock_until BIGINT DEFAULT 0', {
    title: 'a time that is something by default',
    check: 'table',
    text: /^lock_until BIGINT(\(20\))? DEFAULT 0, not/,
    cure: /MODIFY COLUMN `lock_until` BIGINT DEFAULT NULL/,
    refused: true,
  }),
  {
    title: 'failures that may be NULL',
    breaks: ['ALTER TABLE {t} MODIFY failures INT', 'UPDATE {t} SET failures = NULL WHERE id = 1'],
    level: 'problem',
    check: 'table',
    text: /^failures INT(\(11\))?, not SMALLINT UNSIGNED NOT NULL DEFAULT 0/,
    cure: /^UPDATE .* SET failures = 0 WHERE failures IS NULL; ALTER TABLE .* MODIFY COLUMN `failures` SMALLINT/,
    refused: true,
  },
  alter('MODIFY id INT AUTO_INCREMENT', {
    title: 'ids that count by themselves',
    check: 'table',
    text: /^id INT(\(11\))? NOT NULL auto_increment, not INT NOT NULL$/,
    cure: /MODIFY COLUMN `id` INT NOT NULL;$/,
    refused: true,
  }),
  alter('DROP PRIMARY KEY', {
    title: 'no primary key',
    check: 'keys',
    text: /^the primary key is \(\), not \(id\)$/,
    cure: /^ALTER TABLE \S+ ADD PRIMARY KEY \(`id`\);$/,
    refused: true,
  }),
  alter('DROP PRIMARY KEY, ADD PRIMARY KEY (failures, id)', {
    title: 'another primary key',
    check: 'keys',
    text: /^the primary key is \(failures, id\), not \(id\)$/,
    cure: /DROP PRIMARY KEY, ADD PRIMARY KEY/,
    refused: true,
  }),
  alter('DROP KEY lock_until', {
    title: 'no key for the picking',
    check: 'keys',
    text: /^there is no key lock_until \(lock_until, last_updated\)$/,
    cure: CREATE,
  }),
  alter('DROP KEY lock_until, ADD KEY lock_until (last_updated, lock_until)', {
    title: 'another key for the picking',
    check: 'keys',
    text: /^key lock_until \(last_updated, lock_until\), not key/,
    cure: /DROP KEY `lock_until`, ADD KEY `lock_until` \(`lock_until`, `last_updated`\);$/,
    refused: true,
  }),
  alter(`ALTER INDEX lock_until ${server.kind === 'mysql' ? 'INVISIBLE' : 'IGNORED'}`, {
    title: 'a key that the server makes no use of',
    check: 'keys',
    text: /^the server ignores the key lock_until$/,
    cure: /ALTER INDEX `lock_until` (VISIBLE|NOT IGNORED);$/,
  }),
  alter('ADD UNIQUE KEY `o``ne` (last_updated)', {
    title: 'a unique key',
    check: 'keys',
    text: /^unique key o`ne \(last_updated\) keeps ids from being written$/,
    cure: /DROP KEY `o``ne`;$/,
    refused: true,
  }),
  alter('ENGINE=MyISAM', {
    title: 'an engine without transactions',
    level: 'warning',
    check: 'engine',
    text: /^MyISAM has no transactions/,
    cure: /^ALTER TABLE \S+ ENGINE=InnoDB;$/,
  }),
  alter('MODIFY last_updated INT, MODIFY lock_until INT', {
    title: 'times that end in 2038',
    level: 'warning',
    check: 'times',
    text: /^last_updated and lock_until: INT holds no time past 2038/,
    cure: /MODIFY COLUMN `last_updated` BIGINT DEFAULT NULL.*, MODIFY COLUMN `lock_until` BIGINT DEFAULT NULL/,
  }),
  {
    title: 'a trigger',
    breaks: ['CREATE TRIGGER `{t} it``s` BEFORE UPDATE ON {t} FOR EACH ROW SET @seen = 1'],
    level: 'warning',
    check: 'triggers',
    text: /^trigger \w+ it`s runs for every id/,
    cure: /^DROP TRIGGER \S+\.`\w+ it``s`;$/,
  },
  {
    title: 'a lock of years',
    breaks: ['UPDATE {t} SET lock_until = UNIX_TIMESTAMP() + 3 * 366 * 86400 WHERE id = 1'],
    level: 'warning',
    check: 'locks',
    text: /^an id is locked for 1,09\d d/,
    cure: /^UPDATE /,
  },
  {
    title: 'an update in the future, in milliseconds',
    breaks: ['UPDATE {t} SET last_updated = UNIX_TIMESTAMP() * 1000 WHERE id = 2'],
    level: 'warning',
    check: 'updates',
    text: /^last_updated is in the future for 1 id: /,
    cure: /^UPDATE /,
  },
  alter('MODIFY id BIGINT NOT NULL', {
    title: 'procedures for ids of another type',
    check: 'procedures',
    text: new RegExp(`^another text than that of this ${VERSION} for ids BIGINT: add, `),
    cure: CREATE,
  }),
  {
    title: 'a procedure that is missing',
    breaks: ['DROP PROCEDURE {t}_get', 'DROP PROCEDURE {t}_did'],
    level: 'problem',
    check: 'procedures',
    text: /^missing: get, did$/,
    also: ['grants'],
    cure: CREATE,
  },
  {
    title: 'an older procedure',
    breaks: ["ALTER PROCEDURE {t}_get COMMENT 'doloop 0.0.9+00000000: older'"],
    level: 'problem',
    check: 'procedures',
    text: /^of doloop 0\.0\.9, older than this \S+: get$/,
    cure: CREATE,
  },
  {
    title: 'a procedure of the same version, with another text',
    breaks: [`ALTER PROCEDURE {t}_get COMMENT 'doloop ${VERSION}+00000000: another'`],
    level: 'problem',
    check: 'procedures',
    text: /^another text than that of this \S+ for ids INT: get$/,
    cure: CREATE,
  },
  {
    title: "a procedure that is not doloop's",
    breaks: ["ALTER PROCEDURE {t}_get COMMENT 'mine'"],
    level: 'problem',
    check: 'procedures',
    text: /^not doloop's: get$/,
    cure: /^DROP PROCEDURE `\w+`\.`\w+_get`;$/,
    refused: true,
  },
  {
    title: 'a procedure with the rights of who calls it',
    breaks: ['ALTER PROCEDURE {t}_get SQL SECURITY INVOKER'],
    level: 'problem',
    check: 'procedures',
    text: /^SQL SECURITY INVOKER.*: get$/,
    cure: CREATE,
  },
];

for (const { title, breaks, level, check, text, also = [], cure, refused } of CASES) {
  test(`${title}: found as a ${level}, and mended by what is printed`, async () => {
    const table = await makeHealthy();
    for (const statement of breaks) await root.query(statement.replaceAll('{t}', table));
    const findings = await amiss(table);
    assert.deepEqual(
      findings.map(finding => finding.check),
      [check, ...also],
    );
    const [first] = findings as [Finding];
    assert.equal(first.level, level);
    assert.match(first.text, text);
    assert.match(first.cure!, cure);
    const { code, stderr } = await doloop(['doctor', table]);
    const count = findings.filter(one => one.level === 'problem').length;
    const said = `doloop: ${database}.${table} has ${count} problem${count === 1 ? '' : 's'}\n`;
    assert.deepEqual([code, stderr], count > 0 ? [1, said] : [0, '']);
    if (refused) await assert.rejects(create(root, table), { code: 'REFUSED' });

    let left = findings;
    for (let round = 1; round <= 3 && left.length > 0; round += 1) {
      // Grants on procedures that were dropped are gone with them.
      for (const one of left) if (one.check !== 'grants') await paste(one.cure);
      left = (await amiss(table)).filter(one => one.check !== 'grants');
    }
    assert.deepEqual(left, []);
    assert.deepEqual((await create(root, table)).procedures, []);
    assert.equal(await new DoLoop(root, table).add([1, 2, 3]), title === 'no table' ? 3 : 1);
    assert.equal((await new DoLoop(root, table).get(1)).length, 1);
  });
}

test('procedures of a newer doloop are a warning, and the cure is a newer package', async () => {
  const table = await makeHealthy();
  await root.query(`ALTER PROCEDURE ${table}_get COMMENT 'doloop 10.0.1+00000000: newer'`);
  assert.deepEqual(await amiss(table), [
    {
      check: 'procedures',
      level: 'warning',
      text: `of doloop 10.0.1, newer than this ${VERSION}: get`,
      cure: 'npm install doloop@10.0.1',
    },
  ]);
});

for (const [what, setting, level] of [
  ['sql_mode', "sql_mode = ''", 'problem'],
  ['collation', "collation_connection = 'latin1_bin'", 'warning'],
] as const) {
  test(`a procedure made under another ${what} is found as a ${level}, and create makes it anew`, async () => {
    const table = await makeHealthy();
    const session = await connect();
    await session.query(settings({ database, table }).set);
    await session.query(`SET ${setting}`);
    for (const statement of sqlForCreate(table).filter(one => / PROCEDURE .*_did`/.test(one))) {
      await session.query(statement);
    }
    const [found] = (await amiss(table)).filter(({ check }) => check !== 'grants') as [Finding];
    assert.equal(found.check, 'procedures');
    assert.equal(found.level, level);
    assert.match(found.text, new RegExp(`^made under another ${what} than .*: did$`));
    await paste(found.cure);
    assert.deepEqual(await amiss(table), await amissOfGrants(table));
  });
}

/** On MySQL a procedure that was made anew by hand has lost what was granted on it; that alone is left. */
async function amissOfGrants(table: string): Promise<Finding[]> {
  return (await amiss(table)).filter(({ check }) => check === 'grants');
}

const STRANGERS: [what: string, definition: string, text: RegExp, cure?: RegExp][] = [
  ['nothing', '', /^there is no \w+\.\w+, or this account may not see it$/, CREATE],
  ['another table', 'TABLE {t} (id INT PRIMARY KEY, email TEXT)', /^\w+\.\w+ is no loop, for it has no last_updated:/],
  ['a view', 'VIEW {t} AS SELECT 1 AS id, 2 AS last_updated, 3 AS lock_until', /^\w+\.\w+ is no loop but a VIEW:/],
];
for (const [i, [what, definition, text, cure]] of STRANGERS.entries()) {
  test(`${what} in the place of a loop is one problem, and nothing is proposed that could harm it`, async () => {
    const table = `stranger_${i}`;
    if (definition) await root.query(`CREATE ${definition.replace('{t}', table)}`);
    const findings = await amiss(table);
    assert.deepEqual(
      findings.map(({ check, level }) => [check, level]),
      [['table', 'problem']],
    );
    assert.match(findings[0]!.text, text);
    assert.equal(findings[0]!.cure === undefined, cure === undefined);
    if (cure) {
      await paste(findings[0]!.cure);
      assert.deepEqual(await amissOfProblems(table), []);
    } else {
      await assert.rejects(create(root, table), { code: 'REFUSED' });
    }
  });
}

async function amissOfProblems(table: string): Promise<Finding[]> {
  return (await amiss(table)).filter(({ level }) => level === 'problem');
}

test('a table of the original is a loop that lacks something, and create adopts it', async () => {
  const times = 'last_updated INT, lock_until INT, KEY lock_until (lock_until, last_updated)';
  await root.query(`CREATE TABLE original_loop (id INT PRIMARY KEY, ${times})`);
  const findings = await amiss('original_loop');
  assert.deepEqual(
    findings.map(({ check, level }) => [check, level]),
    [
      ['table', 'problem'],
      ['times', 'warning'],
      ['procedures', 'problem'],
    ],
  );
  await paste(findings[0]!.cure);
  assert.deepEqual(await amissOfProblems('original_loop'), []);
});

test('ids of a type that can be none are a problem', async () => {
  const table = await makeHealthy();
  await root.query(`ALTER TABLE ${table} MODIFY id FLOAT NOT NULL`);
  const [found] = (await amiss(table)) as [Finding];
  assert.deepEqual([found.check, found.level], ['table', 'problem']);
  assert.match(found.text, /"FLOAT" is inexact$/);
});

/** An account that has made a loop, and so is the definer of its procedures. */
async function makeDefiner(): Promise<{ table: string; account: string }> {
  const { account, who } = await makeAccount(
    ...['CREATE', 'ALTER', 'CREATE ROUTINE', 'ALTER ROUTINE', 'SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  );
  const { account: user } = await makeAccount();
  const { table } = await makeLoop(await connect(who));
  await create(root, table, { grant: [user] });
  assert.deepEqual(await amiss(table), []);
  return { table, account };
}

test('a definer that lacks a right on the table is a problem, mended by a GRANT', async () => {
  const { table, account } = await makeDefiner();
  await root.query(`REVOKE DELETE ON ${database}.* FROM ${account}`);
  const [found, ...more] = (await amiss(table)) as [Finding];
  assert.deepEqual([found.check, found.level, more], ['calls', 'problem', []]);
  assert.match(found.text, /^the definer lacks rights: remove: DELETE command denied/);
  assert.match(found.cure!, /^GRANT SELECT, INSERT, UPDATE, DELETE ON \S+ TO /);
  await paste(found.cure);
  assert.deepEqual(await amiss(table), []);
});

test('a definer that lacks EXECUTE is a problem, mended by create --grant', async () => {
  const { table, account } = await makeDefiner();
  await root.query(`REVOKE EXECUTE ON PROCEDURE ${database}.${table}_stats FROM ${account}`);
  const [found, ...more] = (await amiss(table)) as [Finding];
  assert.deepEqual([found.check, found.level, more], ['calls', 'problem', []]);
  assert.match(found.text, /^the definer lacks EXECUTE: stats: /);
  await paste(found.cure);
  assert.deepEqual(await amiss(table), []);
});

test('a definer that is no more is a problem, mended by create, which keeps what was granted', async t => {
  const { table, account } = await makeDefiner();
  t.after(() => root.query(`CREATE USER ${account}`)); // the harness drops it
  await root.query(`DROP USER ${account}`);
  const [found, ...more] = (await amiss(table)) as [Finding];
  assert.deepEqual([found.check, found.level, more], ['calls', 'problem', []]);
  assert.match(found.text, /^add, remove, .*definer.* does not exist$/);
  assert.match(found.cure!, CREATE);
  await paste(found.cure);
  assert.deepEqual(await amiss(table), []);
});

test('a definer that is locked and whose password has expired does no harm', async () => {
  const { table, account } = await makeDefiner();
  await root.query(`ALTER USER ${account} PASSWORD EXPIRE`);
  await root.query(`ALTER USER ${account} ACCOUNT LOCK`);
  assert.deepEqual(await amiss(table), []);
});

test('that nobody but the definer may call is a warning, and so is who may call only some; create --grant mends both', async () => {
  const { table } = await makeLoop(root);
  const { account } = await makeAccount();
  const grants = async () => (await look(table)).filter(({ check }) => check === 'grants');
  const [nobody, ...none] = (await grants()) as [Finding];
  assert.deepEqual([nobody.level, none], ['warning', []]);
  assert.equal(nobody.cure, `npx doloop create ${database}.${table} --grant ACCOUNT`);
  await root.query(`GRANT EXECUTE ON PROCEDURE ${table}_get TO ${account}`);
  const [some, ...others] = (await grants()) as [Finding];
  assert.deepEqual([some.level, others], ['warning', []]);
  assert.match(some.text, /may not call add, remove, did, unlock, bump, extend, fail, check, stats, next$/);
  await paste(some.cure);
  assert.deepEqual(
    (await grants()).map(({ level }) => level),
    ['ok'],
  );
});

test('EXECUTE on the database, by a pattern too, counts as on all procedures', async () => {
  const { table } = await makeLoop(root);
  const { account } = await makeAccount();
  await root.query(`GRANT EXECUTE ON \`${database.slice(0, -1)}%\`.* TO ${account}`);
  const grants = (await look(table)).filter(({ check }) => check === 'grants');
  assert.deepEqual(
    grants.map(({ level }) => level),
    ['ok'],
  );
  await root.query(`REVOKE EXECUTE ON \`${database.slice(0, -1)}%\`.* FROM ${account}`);
});

test('a transaction open for long is a warning, mended by KILL', async t => {
  const table = await makeHealthy();
  const holder = await mysql.createConnection({ uri: server.url });
  holder.on('error', () => {});
  t.after(() => holder.destroy());
  await holder.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
  const mine = ({ text }: Finding) => text.startsWith(`connection ${holder.threadId} `);
  const later = await connect();
  await later.query('SET timestamp = UNIX_TIMESTAMP() + 300');
  const [found] = (await lookUntil(table, later, one => one.some(mine))).filter(mine) as [Finding];
  assert.deepEqual([found.check, found.level], ['snapshots', 'warning']);
  assert.match(found.text, /^connection \d+ of root@\S+ has a transaction open for [45] min( \d+ s)?: /);
  assert.equal((await look(table)).some(mine), false);
  await paste(found.cure);
  await lookUntil(table, later, all => !all.some(mine));
});

/** What it finds once it is so: the server makes its list of transactions anew when nobody has read it for 0.1 s. */
async function lookUntil(table: string, session: Connection, isSo: (found: Finding[]) => boolean): Promise<Finding[]> {
  for (const deadline = Date.now() + 10_000; ; await sleep(150)) {
    const found = await look(table, session);
    if (isSo(found)) return found;
    assert.ok(Date.now() < deadline, JSON.stringify(found));
  }
}

test('a transaction that XA has prepared belongs to no connection, and is found', async t => {
  const table = await makeHealthy();
  const xid = `'${database}'`;
  t.after(() => root.query(`XA ROLLBACK ${xid}`));
  const holder = await mysql.createConnection({ uri: server.url, database });
  await holder.query(`XA START ${xid}`);
  await holder.query(`INSERT INTO ${table} (id) VALUES (77)`);
  await holder.query(`XA END ${xid}`);
  await holder.query(`XA PREPARE ${xid}`);
  await holder.end();
  const session = await connect();
  await session.query('SET timestamp = UNIX_TIMESTAMP() + 300');
  const mine = ({ text }: Finding) => text.startsWith('a transaction without a connection ');
  const found = await lookUntil(table, session, all => all.some(mine));
  assert.equal(found.find(mine)!.level, 'warning');
});

/** A session that answers a query with this in it by this row. */
async function answering(part: string, row: object): Promise<Connection> {
  return standIn(await connect(), sql => (sql.includes(part) ? [row] : undefined));
}

for (const [version, text] of [
  ['5.7.44-log MySQL Community Server (GPL)', /^MySQL 8\.0\.19 or newer is needed/],
  ['10.5.29-MariaDB Source', /^MariaDB 10\.6\.0 or newer is needed/],
  ['8.0.11-TiDB-v7.5.0 TiDB Server', /^TiDB has no stored procedures/],
] as const) {
  test(`a server that can't keep a loop is the one problem: ${version}`, async () => {
    const session = await answering('@@version', { version });
    const findings = await look('any_loop', session);
    assert.deepEqual(
      findings.map(({ check, level }) => [check, level]),
      [['server', 'problem']],
    );
    assert.match(findings[0]!.text, text);
  });
}

test('a server that is far behind with the purge is a warning (its figure is stood in for)', async () => {
  const table = await makeHealthy();
  const session = await answering('trx_rseg_history_len', { behind: 2_500_000 });
  const [found] = (await look(table, session)).filter(({ check }) => check === 'snapshots') as [Finding];
  assert.equal(found.level, 'warning');
  assert.match(found.text, /^the server has 2,500,000 transactions to purge behind/);
});

const FOR_A_GROUP = [
  ...['--plugin-load-add=group_replication.so', '--server-id=1', '--gtid-mode=ON', '--enforce-gtid-consistency=ON'],
  ...['--report-host=127.0.0.1', '--loose-group_replication_start_on_boot=OFF'],
];

/** Makes a server, a MySQL with FOR_A_GROUP, a group of one in which every member is a primary. */
async function beginGroup(admin: Connection): Promise<void> {
  for (const setting of [
    "group_replication_group_name = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
    `group_replication_local_address = '127.0.0.1:${await freePort()}'`,
    'group_replication_single_primary_mode = OFF',
    'group_replication_bootstrap_group = ON',
  ]) {
    await admin.query(`SET GLOBAL ${setting}`);
  }
  await admin.query('START GROUP_REPLICATION');
}

test('settings of the whole server are found, and mended by what is printed', async t => {
  const own = await startServer({ kind: server.kind, settings: server.kind === 'mysql' ? FOR_A_GROUP : [] });
  t.after(async () => {
    await own.kill(); // a member of a group takes its time to leave
    await own.stop();
  });
  const admin = await mysql.createConnection({ uri: own.url });
  t.after(() => admin.destroy());
  await admin.query('CREATE DATABASE app');
  await create(admin, 'app.user_loop');
  const env = { MYSQL_URL: `${own.url}app` };
  const found = async () => {
    const { code, stdout } = await doloop(['doctor', 'user_loop', '--json'], env);
    const findings = (JSON.parse(stdout) as Finding[]).filter(
      ({ check, level }) => level !== 'ok' && check !== 'grants',
    );
    assert.equal(code, findings.some(({ level }) => level === 'problem') ? 1 : 0);
    return findings;
  };
  const cases: [breaks: () => Promise<unknown>, check: string, level: Level][] = [
    [() => admin.query('SET GLOBAL read_only = ON'), 'writable', 'problem'],
    [() => admin.query("SET GLOBAL binlog_format = 'STATEMENT'"), 'binary log', 'problem'],
  ];
  if (server.kind === 'mysql') cases.push([() => beginGroup(admin), 'cluster', 'warning']);
  assert.deepEqual(await found(), []);
  for (const [breaks, check, level] of cases) {
    await breaks();
    const [finding, ...more] = (await found()) as [Finding];
    assert.deepEqual([finding.check, finding.level, more], [check, level, []]);
    await admin.query(finding.cure!);
    assert.deepEqual(await found(), []);
  }
});

/** What an account that may do this finds, less what is well, and how the command ends. */
const RIGHTS: [title: string, privileges: string[], granted: boolean, amiss: Record<string, Level>, code: number][] = [
  ['EXECUTE', [], true, { snapshots: 'warning', table: 'warning', grants: 'warning' }, 0],
  ['EXECUTE and INSERT', ['INSERT'], true, { snapshots: 'warning', updates: 'warning', grants: 'warning' }, 0],
  ['SELECT', ['SELECT'], false, { snapshots: 'warning', procedures: 'warning' }, 0],
  ['nothing', ['CREATE TEMPORARY TABLES'], false, { snapshots: 'warning', table: 'problem' }, 1],
];
for (const [title, privileges, granted, expected, code] of RIGHTS) {
  test(`what an account with ${title} may not see is said, and is no problem of the loop's`, async () => {
    const table = await makeHealthy();
    const { account, who } = await makeAccount(...privileges);
    if (granted) await create(root, table, { grant: [account] });
    const user = encodeURIComponent(who.user!);
    const env = { MYSQL_URL: serverUrl({ database, user, password: who.password! }) };
    const ran = await doloop(['doctor', `${database}.${table}`, '--json'], env);
    const found = (JSON.parse(ran.stdout) as Finding[]).filter(({ level }) => level !== 'ok');
    assert.deepEqual(Object.fromEntries(found.map(({ check, level }) => [check, level])), expected);
    for (const { level, text } of found) if (level === 'warning') assert.match(text, /^not seen: needs [A-Z]/);
    assert.equal(ran.code, code);
  });
}

test('an account that may not see the table learns from the calls that something of it is missing', async () => {
  const table = await makeHealthy();
  const { account, who } = await makeAccount();
  await create(root, table, { grant: [account] });
  for (const change of [`ALTER TABLE ${table} DROP KEY lock_until`, `DROP TABLE ${table}`]) {
    await root.query(change);
    const [found] = (await look(table, await connect(who))).filter(({ check }) => check === 'table') as [Finding];
    assert.equal(found.level, 'problem');
    await paste(found.cure);
    assert.deepEqual(await amiss(table), []);
  }
});

test('a table that another session has locked is waited for some seconds, and then not seen', async t => {
  const table = await makeHealthy();
  const holder = await mysql.createConnection({ uri: server.url, database });
  t.after(() => holder.destroy());
  await holder.query(`LOCK TABLES ${table} WRITE`);
  const found = await amiss(table);
  assert.deepEqual(
    found.map(({ check, level }) => [check, level]),
    [
      ['updates', 'warning'],
      ['calls', 'warning'],
    ],
  );
  for (const { text } of found) assert.match(text, /^not seen: /);
});

test('--json: one array of findings, and a cure only where there is one', async () => {
  const table = await makeHealthy();
  await root.query(`ALTER TABLE ${table} DROP KEY lock_until`);
  const { code, stdout, stderr } = await doloop(['doctor', table, '--json']);
  assert.deepEqual([code, stderr], [1, `doloop: ${database}.${table} has 1 problem\n`]);
  const findings = JSON.parse(stdout) as Finding[];
  assert.deepEqual(
    findings.filter(({ check }) => check === 'keys'),
    [
      {
        check: 'keys',
        level: 'problem',
        text: 'there is no key lock_until (lock_until, last_updated)',
        cure: `npx doloop create ${database}.${table}`,
      },
    ],
  );
  for (const finding of findings) {
    assert.deepEqual(Object.keys(finding).slice(0, 3), ['check', 'level', 'text']);
    assert.equal('cure' in finding, finding.cure !== undefined);
  }
});

test('cures can be pasted whatever the name of the loop', async () => {
  const table = "it's `a` $(loop); -- x";
  const name = `\`${table.replaceAll('`', '``')}\``;
  await create(root, name);
  for (const broken of ['DROP KEY lock_until', 'ADD COLUMN more INT']) {
    await root.query(`ALTER TABLE ${name} ${broken}`);
    const [found] = (await amissOfProblems(table)) as [Finding];
    await paste(found.cure);
    assert.deepEqual(await amissOfProblems(table), []);
  }
});

test('wrong usage, no database, a server that is away: one line, and the right exit code', async () => {
  const cases: [args: string[], env: Record<string, string>, code: number, stderr: RegExp][] = [
    [[], NOWHERE, 2, /missing required argument 'table'/],
    [['a', 'b'], NOWHERE, 2, /too many arguments/],
    [['a', '--mend'], NOWHERE, 2, /unknown option '--mend'/],
    [['a.b.c'], NOWHERE, 2, /"a\.b\.c" is not a table's name/],
    [['a'], NOWHERE, 1, /Cannot connect/],
    [['a'], { MYSQL_URL: serverUrl() }, 1, /database: none is selected/],
  ];
  for (const [args, env, code, stderr] of cases) {
    const ran = await doloop(['doctor', ...args], env);
    assert.deepEqual([ran.code, ran.stdout], [code, '']);
    assert.match(ran.stderr, /^doloop: .*\n$/);
    assert.match(ran.stderr, stderr);
  }
});

test('--help tells what it does to the loop, and has examples', async () => {
  const { code, stdout } = await doloop(['doctor', '--help'], NOWHERE);
  assert.equal(code, 0);
  assert.match(stdout, /Nothing is changed.*\nExamples:\n {2}npx doloop doctor user_loop\n/s);
});
