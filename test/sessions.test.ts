import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection, ConnectionOptions, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { create } from '../src/index.js';
import { connect, database, inConsole, isolation, rows, server, settingsOf } from './harness.js';

type Result = [RowDataPacket[], ResultSetHeader] | ResultSetHeader;

/** A kind of session: how it connects, what it sets, how it sends its statements. */
interface Kind {
  title: string;
  options?: ConnectionOptions;
  settings?: string[];
  /** Sends statements by the binary protocol. */
  prepared?: boolean;
  /** Its calls belong to a transaction, which stays open. */
  joins?: boolean;
  /** What the session's next transaction has to be. @default 'REPEATABLE READ' */
  level?: string;
}

const levels = ['READ UNCOMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'];
const otherSyntax = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,IGNORE_SPACE,HIGH_NOT_PRECEDENCE';
const timeLimit = { mariadb: 'max_statement_time = 600', mysql: 'max_execution_time = 600000' };
const withoutFoundRows: ConnectionOptions = { flags: ['-FOUND_ROWS'] };
const kinds: Kind[] = [
  { title: 'mysql2' },
  { title: 'mysql2 without FOUND_ROWS', options: withoutFoundRows },
  { title: 'prepared statements', prepared: true },
  { title: 'prepared statements without FOUND_ROWS', prepared: true, options: withoutFoundRows },
  { title: 'a connection to another database', options: { database: 'mysql' } },
  { title: 'a transaction', settings: ['START TRANSACTION'], joins: true },
  { title: 'autocommit = 0', settings: ['SET autocommit = 0'], joins: true },
  ...[
    "sql_mode = ''",
    `sql_mode = '${otherSyntax}'`,
    'NAMES latin1',
    'NAMES utf8mb4 COLLATE utf8mb4_spanish2_ci',
    'collation_connection = latin1_bin',
    'collation_connection = utf16_general_ci',
    "time_zone = '+13:00'",
    'sql_safe_updates = 1',
    'sql_select_limit = 1',
    'completion_type = CHAIN',
    "completion_type = 'RELEASE'",
    'group_concat_max_len = 4',
    timeLimit[server.kind],
  ].map(setting => ({ title: setting, settings: [`SET ${setting}`] })),
  ...levels.map(level => ({ title: level, settings: [`SET SESSION TRANSACTION ISOLATION LEVEL ${level}`], level })),
];

/** A statement and its answer: `added=3`, rows parted by `|`; one without an answer prepares the next. */
type Step = [statement: string, answer?: string];

/** JSON as SQL that means the same in any character set and sql_mode. */
const json = (value: unknown) => `_utf8mb4 X'${Buffer.from(JSON.stringify(value)).toString('hex')}'`;

const loop =
  (table: string) =>
  (procedure: string, args: string, answer: string): Step => [
    `CALL ${database}.${table}_${procedure}(${args})`,
    answer,
  ];
const number = loop('numbers');
const word = loop('words');
const moment = loop('moments');

/** A day in the life of three loops: every procedure is called, each answer is known beforehand. */
const day: Step[] = [
  number('next', 'NULL', 'due_in=NULL'),
  number('add', "'[3, 1, 2, 2]', NULL", 'added=3'),
  number('add', "'[1, 7]', TRUE", 'added=1'),
  number('add', "'[]', NULL", 'added=0'),
  number('next', 'NULL', 'due_in=0'),
  [`UPDATE ${database}.numbers SET last_updated = UNIX_TIMESTAMP() - 20000 WHERE id = 1`],
  [`UPDATE ${database}.numbers SET last_updated = UNIX_TIMESTAMP() - 30000 WHERE id = 2`],
  number('get', '2, NULL, NULL', 'id=3 lock_until=3600|id=2 lock_until=3600'),
  number('get', '2, 1800, 25000', ''),
  number('get', '2, 1800, 15000', 'id=1 lock_until=1800'),
  number('get', '0, NULL, NULL', ''),
  number('next', 'NULL', 'due_in=1800'),
  number('did', "'[3, 9]', NULL, NULL", 'updated=2'),
  number('did', "'[2, 55]', FALSE, 1", 'updated=1'),
  number('unlock', "'[2]', NULL, 1", 'unlocked=0'),
  number('unlock', "'[2, 11]', NULL, NULL", 'unlocked=2'),
  number('unlock', "'[2, 55]', FALSE, NULL", 'unlocked=0'),
  number('bump', "'[1, 12]', -200, NULL", 'bumped=2'),
  number('bump', "'[12]', 0, NULL", 'bumped=0'),
  number('bump', "'[12, 13]', -300, FALSE", 'bumped=1'),
  number('fail', "'[1, 56]', 700, NULL", 'failed=1'),
  number('fail', "'[1]', 700, 1", 'failed=0'),
  number('extend', "'[1, 11]', 500, NULL", 'extended=1 lock_until=500'),
  number('extend', "'[11]', NULL, NULL", 'extended=0 lock_until=NULL'),
  number(
    'add',
    `'[57, "abc"]', NULL`,
    'ERROR 1644 (45000): ids: "abc" is not a whole number from -2147483648 to 2147483647',
  ),
  number('get', 'NULL, NULL, NULL', 'ERROR 1644 (45000): max_ids: NULL is not a whole number from 0 up'),
  number(
    'check',
    "'[12, 11, 1, 404, 2, 57]'",
    'id=1 since_updated=20000 locked_for=500 failures=1|id=2 since_updated=0 locked_for=NULL failures=0' +
      '|id=11 since_updated=NULL locked_for=NULL failures=0|id=12 since_updated=NULL locked_for=-300 failures=0',
  ),
  number(
    'stats',
    "'[10000, 86400]'",
    'bumped=1 locked=1 min_bump_time=300 max_bump_time=300 min_lock_time=500 max_lock_time=500 min_update_time=0' +
      ' max_update_time=20000 min_id=1 max_id=12 total=7 never_updated=2 delayed={"10000":1,"86400":0}',
  ),
  number('remove', "'[2, 404, 12]'", 'removed=2'),
  number('get', '10, 300, NULL', 'id=11 lock_until=300'),

  word('add', `${json(['é', 'e', 'E', "a'b", 'a"b', 'a\\b'])}, NULL`, 'added=6'),
  word('add', `${json(['É', 'e'])}, NULL`, 'added=1'),
  word('did', `${json(['e', 'É'])}, NULL, NULL`, 'updated=2'),
  word('unlock', `${json(['e', 'F'])}, NULL, NULL`, 'unlocked=1'),
  word('bump', `${json(['é'])}, -100, FALSE`, 'bumped=1'),
  word('bump', `${json(["a'b"])}, -50, TRUE`, 'bumped=1'),
  word('get', '2, NULL, NULL', "id=é lock_until=3600|id=a'b lock_until=3600"),
  word(
    'check',
    json(['é', 'E', 'f']),
    'id=E since_updated=NULL locked_for=NULL failures=0|id=é since_updated=NULL locked_for=3600 failures=0',
  ),
  word('remove', json(['f', 'a"b', 'É', 'é']), 'removed=3'),
  word(
    'check',
    json(['é', 'x'.repeat(21)]),
    `ERROR 1644 (45000): ids: "${'x'.repeat(21)}" is not a JSON string of at most 20 characters of utf8mb4`,
  ),

  moment('add', `'["2026-03-29 02:30:00", "1970-01-01 00:00:00"]', NULL`, 'added=2'),
  moment('did', `'"2026-03-29 02:30:00"', FALSE, NULL`, 'updated=1'),
  moment('get', '5, 300, NULL', 'id=1970-01-01 00:00:00 lock_until=300'),
];

/**
 * Columns that the clock moves, down or up: brought back to the hundred that they started from. A day takes less than
 * a hundred seconds.
 */
const falling = new Set(['locked_for', 'due_in', 'min_lock_time', 'max_lock_time']);
const rising = new Set(['since_updated', 'min_bump_time', 'max_bump_time', 'min_update_time', 'max_update_time']);

function settled(column: string, value: unknown, start: number): string {
  if (value === null || value === 'NULL') return 'NULL';
  if (falling.has(column)) return String(Math.ceil(Number(value) / 100) * 100);
  if (rising.has(column)) return String(Math.floor(Number(value) / 100) * 100);
  if (column === 'lock_until') return String(Math.floor((Number(value) - start) / 100) * 100);
  return column === 'delayed' ? String(value).replaceAll(' ', '') : String(value);
}

/** An answer as the day has it. */
function written(answer: object[], start: number): string {
  const fields = (row: object) =>
    Object.entries(row).map(([column, value]) => `${column}=${settled(column, value, start)}`);
  return answer.map(row => fields(row).join(' ')).join('|');
}

async function now(): Promise<number> {
  return (await rows(observer, 'SELECT UNIX_TIMESTAMP() AS now'))[0]!.now;
}

const observer = await connect();
const idTypes = {
  numbers: 'INT',
  words: 'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
  moments: 'DATETIME',
};
for (const [table, idType] of Object.entries(idTypes)) await create(observer, table, { idType });

/** Empties the loops for another day. */
async function newDay(): Promise<void> {
  for (const table of Object.keys(idTypes)) await observer.query(`DELETE FROM ${table}`);
}

async function inTransaction(session: Connection): Promise<boolean> {
  const [{ serverStatus }] = await session.query<ResultSetHeader>('DO 0');
  return (serverStatus & 1) === 1;
}

for (const { title, options = {}, settings = [], prepared, joins = false, level = 'REPEATABLE READ' } of kinds) {
  test(`the answers are the same in a session of this kind, and leave it as it was: ${title}`, async t => {
    const session = await connect({ dateStrings: true, ...options });
    t.after(() => session.destroy());
    for (const setting of settings) await session.query(setting);
    await newDay();
    await session.query('DO LAST_INSERT_ID(4242)');
    const before = await settingsOf(session);
    const start = await now();
    for (const [statement, answer] of day) {
      const got = await (prepared ? session.execute<Result>(statement) : session.query<Result>(statement)).then(
        ([result]) => written(Array.isArray(result) ? result[0]! : [], start),
        ({ errno, sqlState, message }) => `ERROR ${errno} (${sqlState}): ${message}`,
      );
      if (answer !== undefined) assert.equal(got, answer, statement);
      assert.equal((await rows(session, 'SELECT LAST_INSERT_ID() AS id'))[0]!.id, 4242, statement);
    }
    assert.deepEqual(await settingsOf(session), before);
    assert.equal(await inTransaction(session), joins);
    assert.equal(await isolation(session), level);
  });
}

for (const args of [[], ['--safe-updates']]) {
  test(`the answers in the server's console are the same: ${['batch mode', ...args].join(' with ')}`, async () => {
    await newDay();
    const end = 'end of answer';
    const input = day.map(([statement]) => `${statement};\nSELECT '${end}';\n`).join('');
    const start = await now();
    const output = inConsole(['--batch', '--raw', '--force', '--unbuffered', ...args], input);
    const answers = output.split(`${end}\n${end}\n`).map(answer => {
      const lines = answer.trimEnd().split('\n');
      const error = lines.find(line => line.startsWith('ERROR'));
      if (error !== undefined) return error.replace(/ at line \d+:/, ':');
      const [columns, ...values] = lines.map(line => line.split('\t'));
      return written(
        values.map(row => Object.fromEntries(row.map((value, i) => [columns![i], value]))),
        start,
      );
    });
    assert.equal(answers.length, day.length + 1);
    for (const [i, [statement, answer]] of day.entries()) {
      if (answer !== undefined) assert.equal(answers[i], answer, statement);
    }
  });
}
