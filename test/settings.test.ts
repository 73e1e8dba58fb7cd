/** Whatever an account that may only call the procedures sets in its session: the calls do the same, or fail, and nothing by halves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Connection } from 'mysql2/promise';
import type { Procedure } from '../src/render.js';
import {
  connect,
  connectFrozen,
  contents,
  makeAccount,
  makeLoop,
  NOW,
  put,
  type Row,
  row,
  rows,
  server,
} from './harness.js';
import { quickOrLong } from './long.js';

const root = await connectFrozen({ dateStrings: true });
const { account, who } = await makeAccount();
const numbers = (await makeLoop(root, { grant: [account] })).table;
const decimals = (await makeLoop(root, { idType: 'DECIMAL(10,2)', grant: [account] })).table;
const words = (await makeLoop(root, { idType: 'VARCHAR(20) CHARACTER SET utf8mb4', grant: [account] })).table;
const moments = (await makeLoop(root, { idType: 'DATETIME', grant: [account] })).table;

const START: Record<string, Row[]> = {
  [numbers]: [
    row(1),
    row(2, { updated: -9000 }),
    row(3, { until: -5 }),
    row(4, { until: 5, failures: 2 }),
    row(5, { updated: -5 }),
  ],
  [decimals]: [row('0.00'), row('1.50')],
  [words]: [row('a'), row('b b')],
  [moments]: [row('2026-01-31 23:59:59')],
};

/** Calls in which each statement of the procedures has its part. */
const CALLS: [table: string, procedure: Procedure, args: string][] = [
  [numbers, 'check', "'[1, 3, 4, 404]'"],
  [numbers, 'stats', "'[60, 3600]'"],
  [numbers, 'next', 'NULL'],
  [numbers, 'get', '2, NULL, NULL'],
  [numbers, 'get', '9, 60, 0'],
  [numbers, 'add', "'[9, 8, 7, 1]', TRUE"],
  [numbers, 'bump', "'[9, 1]', -60, NULL"],
  [numbers, 'bump', "'[8, 404]', 60, FALSE"],
  [numbers, 'extend', "'[1, 2, 5]', 600, NULL"],
  [numbers, 'fail', `'[2, 5, 404]', NULL, ${NOW + 600}`],
  [numbers, 'did', "'[3, 10]', NULL, NULL"],
  [numbers, 'did', "'[4, 405]', FALSE, NULL"],
  [numbers, 'unlock', "'[5, 11]', NULL, NULL"],
  [numbers, 'unlock', "'[2, 406]', FALSE, NULL"],
  [numbers, 'remove', "'[1, 7, 407]'"],
  [decimals, 'check', `'["0", "1.5"]'`],
  [decimals, 'remove', "_utf8mb4 X'5b22785c6e30225d'"], // ["x\\n0"]: 0 stands in its second line
  [decimals, 'get', '5, NULL, NULL'],
  [words, 'add', `'["c", "A", 5]', NULL`],
  [words, 'get', '9, NULL, NULL'],
  [moments, 'check', `'["2026-01-31 23:59:59"]'`],
  [moments, 'did', `'["2026-02-28 00:00:00"]', NULL, NULL`],
];

interface Outcome {
  answer?: string;
  error?: string;
  after: Row[];
}

/** Where the session has its results as bytes, they are the bytes of that text. */
const asText = (row: object) =>
  Object.fromEntries(
    Object.entries(row).map(([column, value]) => [column, Buffer.isBuffer(value) ? value.toString() : value]),
  );

async function outcome(session: Connection, [table, procedure, args]: (typeof CALLS)[number]): Promise<Outcome> {
  const told = await rows(session, `CALL ${table}_${procedure}(${args})`).then(
    answer => ({ answer: JSON.stringify(answer.map(asText)) }),
    ({ errno, message }) => ({ error: `${errno}: ${message}` }),
  );
  return { ...told, after: await contents(root, table) };
}

async function begin(): Promise<void> {
  for (const [table, all] of Object.entries(START)) await put(root, table, all);
}

await begin();
const expected: Outcome[] = [];
for (const call of CALLS) expected.push(await outcome(root, call));

/** These end or stop a session that waits for us: nothing about what a call does. */
const TIMEOUTS = /_timeout$|^(timestamp|autocommit)$|^debug/i;
const CHARACTER_SETS = ['latin1', 'gbk', 'sjis', 'big5', 'ascii', 'binary', 'utf8mb3'];
const COLLATIONS = ['latin1_bin', 'gbk_bin', 'utf8mb4_bin', 'utf8mb4_spanish_ci', 'binary', 'utf16_general_ci'];
const MODES = [
  ...[
    'ANSI',
    'TRADITIONAL',
    'NO_BACKSLASH_ESCAPES',
    'PAD_CHAR_TO_FULL_LENGTH',
    'NO_UNSIGNED_SUBTRACTION',
    'REAL_AS_FLOAT',
  ],
  ...(server.kind === 'mariadb'
    ? ['ORACLE', 'MSSQL', 'EMPTY_STRING_IS_NULL', 'TIME_ROUND_FRACTIONAL']
    : ['TIME_TRUNCATE_FRACTIONAL']),
];

/** What can be set, each to its ends, and to all that it may be. */
async function settings(): Promise<string[]> {
  const found =
    server.kind === 'mariadb'
      ? await rows(
          root,
          `SELECT variable_name AS name, numeric_min_value AS low, numeric_max_value AS high, enum_value_list AS choice
            FROM information_schema.system_variables WHERE variable_scope LIKE 'SESSION%' AND read_only = 'NO'`,
        )
      : await rows(
          root,
          `SELECT variable_name AS name, NULLIF(min_value, 0) AS low, NULLIF(max_value, 0) AS high, variable_value AS choice
            FROM performance_schema.session_variables JOIN performance_schema.variables_info USING (variable_name)`,
        );
  return found.flatMap(({ name, low, high, choice }) => {
    const values = new Set<string>([low, high].filter(value => value !== null).map(String));
    for (const one of String(choice ?? '').split(',')) values.add(`'${one}'`);
    for (const one of ['ON', 'OFF', "''", '0', '1']) values.add(one);
    if (/^character_set/.test(name)) for (const one of CHARACTER_SETS) values.add(one);
    if (/^collation/.test(name)) for (const one of COLLATIONS) values.add(one);
    if (name === 'sql_mode') for (const one of MODES) values.add(`'${one}'`);
    if (name === 'optimizer_switch') values.add(`'${String(choice).replaceAll(/=(on|off)/g, '')}=off'`).add("'mrr=on'");
    return TIMEOUTS.test(name) ? [] : [...values].map(value => `${name} = ${value}`);
  });
}

/** What others would set first, if they meant harm. */
const FIRST = [
  ...[
    "sql_mode = ''",
    "sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    'sort_buffer_size = 32768',
    'join_buffer_size = 128',
  ],
  ...["optimizer_switch = 'derived_merge=off'", 'character_set_client = gbk', 'character_set_connection = sjis'],
  ...['character_set_results = latin1', 'sql_select_limit = 0', 'sql_safe_updates = 1', 'group_concat_max_len = 4'],
  ...['tmp_table_size = 1024', 'max_heap_table_size = 16384', 'default_storage_engine = MyISAM', 'big_tables = 1'],
  ...['foreign_key_checks = 0', 'unique_checks = 0', 'completion_type = CHAIN', 'div_precision_increment = 0'],
  ...[
    "lc_messages = 'de_DE'",
    'max_error_count = 0',
    'sql_auto_is_null = 1',
    'max_join_size = 1',
    'transaction_read_only = 1',
  ],
  ...["transaction_isolation = 'SERIALIZABLE'", 'last_insert_id = 99', 'insert_id = 99', 'max_sort_length = 8'],
  ...(server.kind === 'mariadb'
    ? [
        "default_regex_flags = 'MULTILINE'",
        "default_regex_flags = 'EXTENDED'",
        'join_cache_level = 8',
        'max_statement_time = 1e-6',
      ]
    : [
        'range_optimizer_max_mem_size = 1',
        'use_secondary_engine = FORCED',
        "internal_tmp_mem_storage_engine = 'MEMORY'",
      ]),
];

/** So many of these, whichever. */
function some<T>(all: readonly T[], count: number): T[] {
  const rest = [...all];
  return Array.from({ length: Math.min(count, all.length) }, () => rest.splice(Math.random() * rest.length, 1)[0]!);
}

test('whatever an account with EXECUTE alone sets in its session, calls do the same, or fail and do nothing by halves', async t => {
  const all = await settings();
  let taken = 0;
  let calls = 0;
  const failures = new Map<string, string>();
  for (const setting of [...FIRST, ...some(all, quickOrLong(25, 1e9))]) {
    const session = await connect({ ...who, dateStrings: true });
    try {
      await session.query(`SET timestamp = ${NOW}`);
      await session.query(`SET SESSION ${setting}`);
    } catch {
      session.destroy();
      continue; // not to be set, or not by such an account
    }
    taken += 1;
    await begin();
    for (const [i, call] of CALLS.entries()) {
      const before = await contents(root, call[0]);
      const got = await outcome(session, call);
      calls += 1;
      const title = `${setting}: ${call.join(' ')}`;
      if (got.error !== undefined && expected[i]!.error === undefined) {
        failures.set(setting, got.error);
        // A limit of time may come between the work and the answer.
        const isDone = isDeepStrictEqual(got.after, expected[i]!.after);
        if (!isDone) assert.deepEqual(got.after, before, `${title} failed (${got.error}), half done`);
        if (!isDone) await outcome(root, call); // the others go on from here
      } else {
        if (expected[i]!.error === undefined) assert.equal(got.answer, expected[i]!.answer, title);
        else assert.ok(got.error !== undefined, `${title}: ${got.answer}`);
        assert.deepEqual(got.after, expected[i]!.after, title);
      }
    }
    session.destroy();
  }
  for (const [setting, error] of failures) t.diagnostic(`${setting}: ${error}`);
  t.diagnostic(`${taken} settings, ${calls} calls, with ${failures.size} settings some calls fail`);
  assert.ok(taken > FIRST.length / 2 && failures.size < taken / 2);
});
