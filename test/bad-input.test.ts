/** Bad arguments: one clear error that names the value and the rule, and nothing is written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection } from 'mysql2/promise';
import type { Procedure } from '../src/render.js';
import {
  callProcedure,
  connect,
  connectFrozen,
  contents,
  fill,
  makeLoop,
  NOW,
  type RowValues,
  rows,
  SIGNATURES,
  TAKING_IDS,
} from './harness.js';

const MAX_SECONDS = 2_147_483_647;

const connection = await connectFrozen();
const { table } = await makeLoop(connection);

/** The procedures that take ids with the arguments behind these, such that each SQL statement in them is reached. */
const CALLS: [Procedure, ...unknown[]][] = TAKING_IDS.flatMap((procedure): [Procedure, ...unknown[]][] => {
  const autoAdd = SIGNATURES[procedure].takes.slice(1).indexOf('auto_add');
  return autoAdd < 0 ? [[procedure]] : [[procedure], [procedure, ...Array(autoAdd).fill(null), false]];
});

/** The error of a refused argument. It names the argument, the value and the rule, and people can read it whole. */
async function assertRefused(call: Promise<unknown>, argument: string, value: RegExp, rule: RegExp): Promise<void> {
  await assert.rejects(call, (error: Error & { errno?: number; sqlState?: string }) => {
    assert.equal(error.errno, 1644, error.message);
    assert.equal(error.sqlState, '45000');
    assert.ok([...error.message].length <= 128, `${[...error.message].length} characters: ${error.message}`);
    const [, before, shown, after] = /^(\w+): (.*) (?:is|are) (?:not|more) (.*)$/s.exec(error.message) ?? [];
    assert.equal(before, argument, error.message);
    assert.match(shown!, value);
    assert.match(after!, rule);
    return true;
  });
}

/** How an error shows a text: servers write their messages in utf8mb3. `length`: its beginning, at least so many characters. */
function asShown(text: string, length?: number): RegExp {
  const characters = [...text].slice(0, length).map(one => (one.length > 1 ? '?' : one));
  const pattern = characters.join('').replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${pattern}${length === undefined ? '$' : ''}`);
}

/** An id as JSON, and where a server may write it in another way, how its error shows it. */
type Bad = string | [json: string, shown: RegExp];

interface Kind {
  idType: string;
  /** As JSON: one in the loop, one not. */
  good: [known: string, unknown: string];
  rule: RegExp;
  bad: Bad[];
}

/** JSON texts, set apart by two spaces or line breaks. */
const list = ({ raw }: TemplateStringsArray) =>
  raw
    .join('')
    .trim()
    .split(/\s{2,}/);

/** No id of any type. */
const NEVER: Bad[] = [...list`null  true  false  {}  []  [1]  ["a"]  [[]]`, ['{"a": 1}', /^\{"a": ?1\}$/]];

const HUNDRED: Bad = ['1e2', /^(1e2|100\.0)$/];
const ONE_AND_A_HALF: Bad = ['1.50', /^1\.50?$/];

/** No whole number as it would stand in the table. */
const NO_WHOLE_NUMBER: Bad[] = [
  ...list`"abc"  ""  " "  "5 "  " 5"  "+5"  "05"  "5.0"  "5e0"  "0x5"  "5\n"  "5\u0000"  "--5"  "٥"  "５"
    "1 OR 1=1"  "1); DROP TABLE l1_loop; -- "  "'"
    5.5  5.0  -5.5  0.1  "99999999999999999999"  "-99999999999999999999"`,
  '"`"',
  HUNDRED,
  ONE_AND_A_HALF,
  ['99999999999999999999', /^(9{20}|1e20)$/],
];

const TEXT_NUMBERS: Bad[] = [
  '5.5',
  HUNDRED,
  ONE_AND_A_HALF,
  ['12345678901234567890123', /^(12345678901234567890123|1\.23\d*e22)$/],
];

const KINDS: Kind[] = [
  {
    idType: 'INT',
    good: ['1', '2'],
    rule: /^a whole number from -2147483648 to 2147483647$/,
    bad: [...NO_WHOLE_NUMBER, ...list`2147483648  -2147483649  "2147483648"  9223372036854775807`],
  },
  {
    idType: 'TINYINT UNSIGNED',
    good: ['1', '2'],
    rule: /^a whole number from 0 to 255$/,
    bad: [...NO_WHOLE_NUMBER, ...list`256  -1  "256"  "-1"`],
  },
  {
    idType: 'BIGINT',
    good: ['1', '2'],
    rule: /^a whole number from -9223372036854775808 to 9223372036854775807$/,
    bad: [
      ...NO_WHOLE_NUMBER,
      ...list`9223372036854775808  "9223372036854775808"  18446744073709551615  "-9223372036854775809"`,
      ['-9223372036854775809', /^-(9223372036854775809|9\.22\d*e18)$/],
    ],
  },
  {
    idType: 'BIGINT UNSIGNED',
    good: ['1', '18446744073709551615'],
    rule: /^a whole number from 0 to 18446744073709551615$/,
    bad: [
      ...NO_WHOLE_NUMBER,
      ...list`-1  "-1"  -9223372036854775808  "18446744073709551616"`,
      ['18446744073709551616', /^(18446744073709551616|1\.84\d*e19)$/],
    ],
  },
  {
    idType: 'DECIMAL(10,2)',
    good: ['"1.50"', '"-2"'],
    rule: /^a DECIMAL\(10,2\) in a JSON string/,
    bad: [
      ...list`"abc"  ""  "5 "  " 5"  "+5"  "05"  "1e2"  "1."  ".5"  "1,5"  "0x5"  "1.5\n"  "- 5"  "1.5 OR 1=1"
        "1.555"  "1.500"  "123456789"  "-123456789.00"  "12345678901234567890"  5.5  0.1  123456789`,
      HUNDRED,
      ONE_AND_A_HALF,
    ],
  },
  {
    idType: 'DECIMAL(5,0) UNSIGNED',
    good: ['"1"', '"99999"'],
    rule: /^an unsigned DECIMAL\(5,0\) in a JSON string/,
    bad: list`"-1"  -1  "1.0"  "100000"  "1.5"`,
  },
  {
    idType: 'DECIMAL(2,2)',
    good: ['"0.50"', '"-0.99"'],
    rule: /^a DECIMAL\(2,2\) in a JSON string/,
    bad: list`"1"  "1.00"  "0.555"  0.5`,
  },
  {
    idType: 'VARCHAR(8) CHARACTER SET utf8mb4',
    good: ['"a"', '"bcdefghi"'],
    rule: /^a JSON string of at most 8 characters of utf8mb4$/,
    bad: [...TEXT_NUMBERS, ...list`"123456789"  "12345678 "  "ééééééééé"  "😀😀😀😀😀😀😀😀😀"  123456789`],
  },
  {
    idType: 'CHAR(8) CHARSET ascii',
    good: ['"a"', '"bcdefghi"'],
    rule: /^a JSON string of at most 8 characters of ascii, no space at the end$/,
    bad: [...TEXT_NUMBERS, ...list`"123456789"  "é"  "a "  " "  "a?é"  "😀"`, ['"\\u0080"', /^"/]],
  },
  {
    idType: 'VARCHAR(8) CHARACTER SET latin1 COLLATE latin1_bin',
    good: ['"é"', '"E"'],
    rule: /^a JSON string of at most 8 characters of latin1$/,
    bad: [...list`"ł"  "Ж"  "😀"  "123456789"`, ['"e\\u0301"', /^"e/]],
  },
  {
    idType: 'VARCHAR(8) CHARACTER SET utf8mb3',
    good: ['"é"', '"日本"'],
    rule: /^a JSON string of at most 8 characters of utf8mb3$/,
    bad: [...list`"😀"  "a😀b"  "123456789"`, ['"\\ud83d\\ude00"', /^"/]],
  },
  {
    idType: 'BINARY(4)',
    good: ['"00000000"', '"00ff10AA"'],
    rule: /^a JSON string of 8 hex digits$/,
    bad: list`"abc"  "abcdefg"  "zzzzzzzz"  "00"  ""  "0000000000"  "0x000000"  "0000000 "  " 0000000"
      "ééée"  "éééééééé"  12345678  1.5`,
  },
  {
    idType: 'VARBINARY(4)',
    good: ['"00"', '"00ff10AA"'],
    rule: /^a JSON string of at most 8 hex digits, in pairs$/,
    bad: list`"abc"  "zz"  "0000000000"  "0x00"  "00 "  " 00"  "é"  "0\u0000"  12  1.5`,
  },
  {
    idType: 'DATE',
    good: ['"2026-01-31"', '"2024-02-29"'],
    rule: /^a date like "2026-01-31"$/,
    bad: list`"2026-02-30"  "2025-02-29"  "0000-00-00"  "2026-00-01"  "2026-01-00"  "2026-13-01"  "2026-04-31"
      "2026-01-31 00:00:00"  "2026-01-31T00:00:00Z"  "2026-01-31 "  " 2026-01-31"  "2026-1-31"  "26-01-31"
      "20260131"  "2026/01/31"  "10000-01-01"  "-2026-01-31"  "today"  ""  20260131  5.5`,
  },
  {
    idType: 'DATETIME',
    good: ['"2026-01-31 23:59:59"', '"2024-02-29 00:00:00"'],
    rule: /^a DATETIME like "2026-01-31 23:59:59"$/,
    bad: list`"2026-02-30 00:00:00"  "0000-00-00 00:00:00"  "2026-13-01 00:00:00"  "2026-01-31"  "2026-01-31 23:59"
      "2026-01-31 24:00:00"  "2026-01-31 23:60:00"  "2026-01-31 23:59:60"  "2026-01-31T23:59:59"
      "2026-01-31 23:59:59Z"  "2026-01-31 23:59:59+00:00"  "2026-01-31 23:59:59.0"  "2026-01-31 23:59:59 "
      ""  20260131235959  5.5`,
  },
  {
    idType: 'DATETIME(3)',
    good: ['"2026-01-31 23:59:59.999"', '"2026-01-31 23:59:59"'],
    rule: /^a DATETIME\(3\) like "2026-01-31 23:59:59"$/,
    bad: list`"2026-01-31 23:59:59.9999"  "2026-01-31 23:59:59.0000"  "2026-01-31 23:59:59."
      "2026-01-31 23:59:59.99 "  "2026-01-31 23:59:59.999+01:00"  "2026-01-31 23:59:59,999"
      "2026-02-29 23:59:59.999"`,
  },
];

for (const { idType, good, rule, bad } of KINDS) {
  const [known, unknown] = good;
  const { table } = await makeLoop(connection, { idType });
  const call = (one: (typeof CALLS)[number], ids: string) =>
    callProcedure(connection, table, one[0], ids, ...one.slice(1));

  test(`${idType}: every procedure takes the good ids that stand beside bad ones below`, async () => {
    for (const one of CALLS) {
      await call(['remove'], `[${good}]`);
      assert.deepEqual(await call(['add'], known), [{ added: 1 }]);
      await call(one, `[${good}]`);
    }
  });

  for (const entry of [...NEVER, ...bad]) {
    const [json, shown] = typeof entry === 'string' ? [entry, asShown(entry)] : entry;
    test(`${idType}: ${json} is refused by every procedure, and the good ids beside it, too`, async () => {
      await call(['remove'], `[${good}]`);
      await call(['add'], known);
      await callProcedure(connection, table, 'bump', known, 9); // each procedure would do something with it
      const before = await contents(connection, table);
      // JSON's null alone is a bad id, [] alone is none; what else is an array is one of ids.
      const alone = json.startsWith('[') ? `[${json}]` : json;
      await assertRefused(call(['add'], alone), 'ids', shown, rule);
      for (const one of CALLS) {
        await assertRefused(call(one, `[${unknown}, ${json}, ${known}]`), 'ids', shown, rule);
      }
      assert.deepEqual(await contents(connection, table), before);
    });
  }
}

// Not JSON

const NOT_JSON = [
  ...list`abc  NULL  nul  True  NaN  [1  1]  [1 2]  [1] [2]  [1], [2]  1, 2  {"a": 1  ['a']  1' OR '1' = '1
    1); DROP TABLE l1_loop; --  "\ud800"  "a  \  \0  😀`,
  ...['', ' ', 'é'.repeat(1000), '😀'.repeat(1000)],
];
const SOME: RowValues[] = [[1], [2, NOW - 9, NOW + 9, 3], [3, null, NOW - 9]];

for (const ids of [null, ...NOT_JSON]) {
  const shown = asShown(String(ids ?? 'NULL'), 20);
  test(`ids that are not JSON are refused by every procedure: ${String(ids).slice(0, 40)}`, async () => {
    await fill(connection, table, SOME);
    const before = await contents(connection, table);
    for (const [procedure, ...rest] of CALLS) {
      const call = callProcedure(connection, table, procedure, ids, ...rest);
      await assertRefused(call, 'ids', shown, /^JSON: an array of ids, or one id$/);
    }
    assert.deepEqual(await contents(connection, table), before);
  });
}

// Text that is SQL, or looks like it

test('texts that look like SQL are ids like any other, each itself alone', async () => {
  const { table } = await makeLoop(connection, { idType: 'VARCHAR(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin' });
  const texts = [
    ...list`' OR '1' = '1  '; DROP TABLE l1_loop; --  " OR 1 = 1 #  \  \\  \'  %  _  /*  */  /*!80000 1*/  ;
      NULL  null  1  0x31  {{loop}}  $[*]  ?  :id  $1  \u0000  \n`,
    ...['`', '``', '\u0000', '\n', '\u001a'],
  ];
  const all = JSON.stringify(texts);
  const call = (procedure: Procedure, ids: string) => callProcedure(connection, table, procedure, ids);
  assert.deepEqual(await call('add', all), [{ added: texts.length }]);
  for (const [i, text] of texts.entries()) {
    const one = JSON.stringify(text);
    assert.deepEqual((await call('check', one)).map(row => row.id), [text]); // biome-ignore format: short
    assert.deepEqual(await call('fail', one), [{ failed: 1 }]);
    assert.deepEqual(await call('remove', one), [{ removed: 1 }]);
    assert.equal((await contents(connection, table)).length, texts.length - i - 1);
  }
});

// Long values

/** What no type takes, however it is shown. */
const LONG: [title: string, json: string, shown: RegExp][] = [
  ...['x', 'é', '日', '😀'].map((one): [string, string, RegExp] => {
    const json = JSON.stringify(one.repeat(5000));
    return [`a long text of ${one}`, json, asShown(json, 20)];
  }),
  ['a long number', '9'.repeat(300), /./],
  ['a long array', `[${'1, '.repeat(2000)}1]`, /^\[1, ?1/],
  ['a long object', `{"a": "${'é'.repeat(5000)}"}`, /^\{"a": ?"é{20}/],
];
const LONG_RULES = [
  'INT',
  'CHAR(255) CHARSET ascii',
  'VARCHAR(768) CHARSET utf8mb4',
  'DECIMAL(65,30) UNSIGNED',
  'DATETIME(6)',
];
for (const idType of LONG_RULES) {
  const { table } = await makeLoop(connection, { idType });
  for (const [title, json, shown] of LONG) {
    test(`${idType}: the error of ${title} is cut so that the value's beginning and the rule are in it`, async () => {
      for (const [procedure, ...rest] of CALLS) {
        await assertRefused(callProcedure(connection, table, procedure, `[${json}]`, ...rest), 'ids', shown, /^an? \w/);
      }
    });
  }
}

// All other arguments

const SECONDS_FROM_0 = /^a number of seconds from 0 to 2147483647$/;
const SECONDS_FROM_1 = /^a number of seconds from 1 to 2147483647$/;
const SECONDS_EITHER_WAY = /^a number of seconds from -2147483647 to 2147483647$/;
const MAX_IDS = /^a whole number from 0 up$/;
const BELOW_0 = ['-1', '-9223372036854775808'];
const ABOVE = [String(MAX_SECONDS + 1), '9223372036854775807'];
const BELOW_1 = ['0', ...BELOW_0];
const FAR_BELOW = [String(-MAX_SECONDS - 1), '-9223372036854775808'];

const ARGUMENTS: [
  call: (value: unknown) => [Procedure, ...unknown[]],
  name: string,
  values: (string | null)[],
  rule: RegExp,
][] = [
  [value => ['get', value, null, null], 'max_ids', [null, ...BELOW_0], MAX_IDS],
  [value => ['get', 0, value, null], 'lock_for', [...BELOW_1, ...ABOVE], SECONDS_FROM_1],
  [value => ['get', 9, null, value], 'min_loop_time', [...BELOW_0, ...ABOVE], SECONDS_FROM_0],
  [value => ['bump', '[1, 9]', value, null], 'lock_for', [...FAR_BELOW, ...ABOVE], SECONDS_EITHER_WAY],
  [value => ['bump', '[]', value, false], 'lock_for', [...FAR_BELOW, ...ABOVE], SECONDS_EITHER_WAY],
  [value => ['extend', '[2]', value, null], 'lock_for', [...BELOW_1, ...ABOVE], SECONDS_FROM_1],
  [value => ['extend', '[2]', value, NOW + 9], 'lock_for', [...BELOW_1, ...ABOVE], SECONDS_FROM_1],
  [value => ['fail', '[1, 2]', value, null], 'retry_in', [...BELOW_0, ...ABOVE], SECONDS_FROM_0],
  [value => ['next', value], 'min_loop_time', [...BELOW_0, ...ABOVE], SECONDS_FROM_0],
];
for (const [call, name, values, rule] of ARGUMENTS) {
  for (const value of values) {
    test(`${call(name).map(String).join(', ')}: ${name} = ${value} is refused`, async () => {
      await fill(connection, table, SOME);
      const before = await contents(connection, table);
      const [procedure, ...args] = call(value);
      const shown = asShown(value ?? 'NULL');
      await assertRefused(callProcedure(connection, table, procedure, ...args), name, shown, rule);
      assert.deepEqual(await contents(connection, table), before);
    });
  }
}

for (const entry of [
  ...NEVER,
  ...['-1', '2147483648', '5.5', '5.0', '"abc"', '"5 "', '"05"', '"+5"', '""'],
  ['1e2', /^(1e2|100\.0)$/] satisfies Bad,
]) {
  const [json, shown] = typeof entry === 'string' ? [entry, asShown(entry)] : entry;
  test(`stats: among the delay_thresholds, ${json} is refused`, async () => {
    const alone = json.startsWith('[') ? `[${json}]` : json;
    for (const thresholds of [alone, `[60, ${json}]`, `[${json}, 60]`]) {
      await assertRefused(
        callProcedure(connection, table, 'stats', thresholds),
        'delay_thresholds',
        shown,
        SECONDS_FROM_0,
      );
    }
  });
}

for (const thresholds of NOT_JSON as string[]) {
  test(`stats: delay_thresholds that are not JSON are refused: ${thresholds.slice(0, 40)}`, async () => {
    const shown = asShown(thresholds, 20);
    await assertRefused(callProcedure(connection, table, 'stats', thresholds), 'delay_thresholds', shown, /^JSON: /);
  });
}

// Whatever the session

/** A refused call of every procedure. */
const REFUSED: [name: string, procedure: Procedure, ...args: unknown[]][] = [
  ...CALLS.flatMap(([procedure, ...rest]): [string, Procedure, ...unknown[]][] => [
    ['ids', procedure, '[9, "abc", 1]', ...rest],
    ['ids', procedure, '[9, 5.5]', ...rest],
    ['ids', procedure, '[9, 2147483648]', ...rest],
    ['ids', procedure, '[9', ...rest],
    ['ids', procedure, null, ...rest],
  ]),
  ['max_ids', 'get', null],
  ['max_ids', 'get', -1],
  ['lock_for', 'get', 9, 0],
  ['min_loop_time', 'get', 9, null, -1],
  ['lock_for', 'bump', '[1, 9]', MAX_SECONDS + 1],
  ['lock_for', 'extend', '[2]', 0],
  ['retry_in', 'fail', '[1, 2]', -1],
  ['delay_thresholds', 'stats', '["abc"]'],
  ['delay_thresholds', 'stats', 'abc'],
  ['min_loop_time', 'next', -1],
];

test("a lenient sql_mode of the caller's lets nothing through", async () => {
  const lenient = await connectFrozen();
  await lenient.query("SET sql_mode = ''");
  await fill(connection, table, SOME);
  const before = await contents(connection, table);
  for (const [name, procedure, ...args] of REFUSED) {
    await assertRefused(callProcedure(lenient, table, procedure, ...args), name, /./, /./);
    assert.deepEqual(await contents(connection, table), before);
  }
});

for (const [title, begin] of [
  ['a transaction', 'START TRANSACTION'],
  ['a transaction with autocommit off', 'SET autocommit = 0'],
  ['a transaction at READ UNCOMMITTED', 'SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; START TRANSACTION'],
] as const) {
  for (const end of ['COMMIT', 'ROLLBACK'] as const) {
    test(`in ${title} a refused argument leaves all as it was, and open: ${end} decides`, async () => {
      const caller = await connectFrozen({ multipleStatements: true });
      const seen = (by: Connection) => contents(by, table);
      for (const [name, procedure, ...args] of REFUSED) {
        await fill(connection, table, SOME);
        const before = await seen(connection);
        await caller.query(begin);
        await caller.query(`INSERT INTO \`${table}\` (id) VALUES (77)`);
        await callProcedure(caller, table, 'bump', '[1]', -5);
        const written = await seen(caller);
        await assertRefused(callProcedure(caller, table, procedure, ...args), name, /./, /./);
        assert.deepEqual(await seen(caller), written);
        assert.deepEqual(await seen(connection), before);
        await caller.query(end);
        assert.deepEqual(await seen(connection), end === 'COMMIT' ? written : before, `${procedure}(${args})`);
      }
    });
  }
}

test('after a refused argument no transaction is open where none was, and nothing is locked', async () => {
  const caller = await connectFrozen();
  const other = await connect();
  await other.query('SET SESSION innodb_lock_wait_timeout = 1');
  await fill(connection, table, SOME);
  for (const [name, procedure, ...args] of REFUSED) {
    await assertRefused(callProcedure(caller, table, procedure, ...args), name, /./, /./);
    await other.query(`UPDATE \`${table}\` SET failures = failures + 1`);
    // Refused (1568) inside a transaction.
    await caller.query('SET TRANSACTION ISOLATION LEVEL READ COMMITTED');
    assert.equal((await rows(caller, `SELECT failures FROM \`${table}\` WHERE id = 1`)).length, 1);
  }
});
