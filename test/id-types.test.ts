/** Every id type: ids go there and back unchanged, and each procedure finds just the ids it is given. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection } from 'mysql2/promise';
import { parseIdType } from '../src/id-type.js';
import { create, sqlForCreate } from '../src/index.js';
import type { Procedure } from '../src/render.js';
import { callProcedure, connect, connectFrozen, contents, makeDatabase, makeLoop, NOW, rows } from './harness.js';

const HOUR = 3600;
/** How mysql2 gives what JavaScript's numbers and dates can't hold: as the server writes it. */
const EXACT = { supportBigNumbers: true, dateStrings: true };

const connection = await connectFrozen(EXACT);

/** An id: as JSON, as it comes back, and as it stands in the table: text and bytes in hexadecimal. */
interface Id {
  json: string;
  back: unknown;
  stored: string;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex').toUpperCase();

const whole = (text: string): Id => ({
  json: text,
  back: Number.isSafeInteger(Number(text)) ? Number(text) : text,
  stored: text,
});

/** Written and read as the same string. */
const plain = (text: string): Id => ({ json: JSON.stringify(text), back: text, stored: text });

const binary = (digits: string): Id => ({
  json: `"${digits}"`,
  back: Buffer.from(digits, 'hex'),
  stored: digits.toUpperCase(),
});

type Encoding = (text: string) => Buffer;

const utf8: Encoding = text => Buffer.from(text);
const latin1: Encoding = text => Buffer.from(text, 'latin1');
const utf16le: Encoding = text => Buffer.from(text, 'utf16le');
const utf16: Encoding = text => utf16le(text).swap16();
const utf32: Encoding = text => Buffer.from([...text].flatMap(one => uint32(one.codePointAt(0)!)));
const uint32 = (n: number) => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];

/** An encoding of one byte for each character, by the name that the web has for it. */
function oneByte(label: string): Encoding {
  const characters = new TextDecoder(label).decode(Uint8Array.from({ length: 256 }, (_, i) => i));
  return text => Buffer.from([...text].map(one => characters.indexOf(one)));
}

const text =
  (encoding: Encoding) =>
  (one: string): Id => ({ json: JSON.stringify(one), back: one, stored: hex(encoding(one)) });

/** JSON with nothing but ASCII in it. */
const escaped = (json: string) =>
  json.replaceAll(/[^\0-~]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

interface Type {
  idType: string;
  ids: Id[];
  /** Of an id of these, other ways to write it: JSON. */
  same?: [id: number, json: string][];
}

const INTEGERS: Type[] = [
  ['TINYINT', -(2n ** 7n), 2n ** 7n - 1n],
  ['TINYINT UNSIGNED', 0n, 2n ** 8n - 1n],
  ['SMALLINT', -(2n ** 15n), 2n ** 15n - 1n],
  ['SMALLINT UNSIGNED', 0n, 2n ** 16n - 1n],
  ['MEDIUMINT', -(2n ** 23n), 2n ** 23n - 1n],
  ['MEDIUMINT UNSIGNED', 0n, 2n ** 24n - 1n],
  ['INT', -(2n ** 31n), 2n ** 31n - 1n],
  ['INT UNSIGNED', 0n, 2n ** 32n - 1n],
  ['BIGINT', -(2n ** 63n), 2n ** 63n - 1n],
  ['BIGINT UNSIGNED', 0n, 2n ** 64n - 1n],
].map(([idType, low, high]) => {
  const [least, most] = [low as bigint, high as bigint];
  const middle = [0n, 1n, 9n, 10n, 100n, 2n ** 53n + 1n, 2n ** 63n].filter(one => one < most - 1n);
  const ids = [...new Set([least, least + 1n, ...middle, most - 1n, most])].sort((a, b) => (a < b ? -1 : 1));
  return {
    idType: idType as string,
    ids: ids.map(id => whole(String(id))),
    same: ids.map((id, i): [number, string] => [i, `"${id}"`]),
  };
});

/** Texts that every character set holds; no two are alike to any collation. */
const ASCII = ['', '!', '"q"', "'", '0', '5', '05', '10', 'AB', 'B b', 'CCC', 'x/y?z=%20&_', 'z'.repeat(20)];
const LATIN = [...ASCII.slice(0, -1), 'Äh', 'ß', 'Ñandú'];
const NATIONS = [...LATIN, 'Ж', '日本語', '€', 'ﷺ'];
const ASTRAL = [...NATIONS, '😀'];
/** Alike in one way or another to a collation that isn't binary. */
const ALIKE = ['a', 'A', 'á', 'a\u0301', 'ａ', 'aA', 'Aa', 'ss', 'SS', 'i', 'I', 'İ', 'ı', 'a-a', 'aa', 'AA'];
const EMOJI = ['😀', '😁', '👩‍👩‍👧', '\u{10ffff}'];

const TEXTS: [idType: string, texts: string[], encoding: Encoding][] = [
  ['CHAR(64) CHARSET ascii', [...ASCII, 'z'.repeat(64)], utf8],
  ['CHAR(1) CHARSET ascii', ['', '0', 'a', '~'], utf8],
  ['CHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin', [...ASTRAL, ...EMOJI.slice(1), '😀'.repeat(255)], utf8],
  ['VARCHAR(20) CHARACTER SET ascii', ASCII, utf8],
  ['VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin', [...ASCII, 'a', 'b B', 'ccc', 'Ccc'], utf8],
  ['VARCHAR(3072) CHARACTER SET ascii COLLATE ascii_bin', ['a', 'A', 'x'.repeat(3072), 'y'.repeat(3071)], utf8],
  ['VARCHAR(20) CHARACTER SET latin1', LATIN, latin1],
  ['VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin', [...LATIN, 'Abc', 'abc', 'xyz ', 'ä', '\u00ff'], latin1],
  ['VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_general_cs', [...LATIN, 'Abc', 'abc'], latin1],
  ['VARCHAR(20) CHARACTER SET utf8mb4', ASTRAL, utf8],
  [
    'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
    [...ASTRAL, ...ALIKE.slice(0, -2), ...EMOJI.slice(1)],
    utf8,
  ],
  ['VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci', ASTRAL, utf8],
  ['VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci', ASTRAL, utf8],
  ['VARCHAR(20) COLLATE utf8mb4_bin', [...ALIKE, ...EMOJI], utf8],
  ['VARCHAR(768) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin', ['a', 'A', '😀'.repeat(768), 'é'.repeat(767)], utf8],
  ['VARCHAR(20) CHARACTER SET utf8mb3', NATIONS, utf8],
  ['VARCHAR(20) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin', [...NATIONS, 'abc', 'Abc'], utf8],
  ['VARCHAR(20) CHARACTER SET ucs2', NATIONS, utf16],
  ['VARCHAR(20) CHARACTER SET utf16', ASTRAL, utf16],
  ['VARCHAR(20) CHARACTER SET utf16le', ASTRAL, utf16le],
  ['VARCHAR(20) CHARACTER SET utf32', ASTRAL, utf32],
  ['VARCHAR(20) CHARACTER SET cp1251', [...ASCII, 'Ёж', 'я'], oneByte('windows-1251')],
  ['VARCHAR(20) CHARACTER SET koi8r COLLATE koi8r_bin', [...ASCII, 'Ёж', 'ёж', 'я'], oneByte('koi8-r')],
  ['VARCHAR(20) CHARACTER SET greek', [...ASCII, 'Ωμέγα'], oneByte('iso-8859-7')],
  ['CHAR(20) CHARACTER SET utf16 COLLATE utf16_bin', [...ASTRAL, 'a', ...EMOJI.slice(1)], utf16],
];

const OTHERS: Type[] = [
  ...[
    ['gbk', 'C8D5B1BE'],
    ['big5', 'A4E9A5BB'],
    ['cp932', '93FA967B'],
    ['eucjpms', 'C6FCCBDC'],
  ].map(
    ([charset, stored]): Type => ({
      idType: `CHAR(2) CHARACTER SET ${charset}`,
      ids: [text(utf8)('a'), { json: '"日本"', back: '日本', stored: stored! }],
      same: [[1, escaped('"日本"')]],
    }),
  ),
  { idType: 'BINARY(1)', ids: ['00', '20', '61', '80', 'ff'].map(binary) },
  {
    idType: 'BINARY(4)',
    ids: ['00000000', '00000001', '20202020', '61620000', '61622020', 'deadbeef', 'ffffffff'].map(binary),
    same: [[5, '"DEADbeef"']],
  },
  { idType: 'BINARY(16)', ids: ['00'.repeat(16), '0123456789abcdef0123456789abcdef', 'ff'.repeat(16)].map(binary) },
  {
    idType: 'VARBINARY(8)',
    ids: ['', '00', '0000', '20', '2020', '61', '6100', '6120', '61626364', '80', 'c328', 'ff'.repeat(8)].map(binary),
    same: [[10, '"C328"']],
  },
  { idType: 'VARBINARY(3072)', ids: ['00', '00ff'.repeat(1536), 'ff'.repeat(3072)].map(binary) },
  {
    idType: 'DECIMAL(10,2)',
    ids: ['-99999999.99', '-1.50', '-0.01', '0.00', '0.01', '1.00', '1.05', '1.50', '99999999.99'].map(plain),
    same: [
      [1, '"-1.5"'],
      [3, '"0"'],
      [3, '"-0"'],
      [5, '"1.0"'],
      [5, '1'],
      [7, '"1.5"'],
    ],
  },
  { idType: 'DECIMAL(5,0) UNSIGNED', ids: ['0', '1', '99999'].map(plain) },
  { idType: 'DECIMAL(2,2)', ids: ['-0.99', '-0.01', '0.00', '0.01', '0.99'].map(plain) },
  {
    idType: 'DECIMAL(65,30)',
    ids: [
      `-${'9'.repeat(35)}.${'9'.repeat(30)}`,
      `-0.${'0'.repeat(29)}1`,
      `0.${'0'.repeat(30)}`,
      `0.${'0'.repeat(29)}1`,
      `12345678901234567890123456789012345.${'0'.repeat(29)}1`,
      `${'9'.repeat(35)}.${'9'.repeat(29)}8`,
      `${'9'.repeat(35)}.${'9'.repeat(30)}`,
    ].map(plain),
  },
  { idType: 'DECIMAL(65,0)', ids: [`-${'9'.repeat(65)}`, '-1', '0', '9'.repeat(64), '9'.repeat(65)].map(plain) },
  { idType: 'DATE', ids: ['1000-01-01', '1969-12-31', '2024-02-29', '2026-01-31', '9999-12-31'].map(plain) },
  {
    idType: 'DATETIME',
    ids: ['1000-01-01 00:00:00', '1970-01-01 00:00:00', '2026-03-29 02:30:00', '9999-12-31 23:59:59'].map(plain),
  },
  ...[1, 2, 3, 4, 5, 6].map(
    (digits): Type => ({
      idType: `DATETIME(${digits})`,
      ids: [
        `1000-01-01 00:00:00.${'0'.repeat(digits)}`,
        `2026-01-31 23:59:59.${'0'.repeat(digits - 1)}1`,
        `2026-01-31 23:59:59.${'9'.repeat(digits)}`,
        `9999-12-31 23:59:59.${'9'.repeat(digits)}`,
      ].map(plain),
      same: [
        [0, '"1000-01-01 00:00:00"'],
        [0, '"1000-01-01 00:00:00.0"'],
      ],
    }),
  ),
];

const TYPES: Type[] = [
  ...INTEGERS,
  ...TEXTS.map(([idType, texts, encoding]): Type => {
    const ids = texts.map(text(encoding));
    return { idType, ids, same: ids.map((id, i): [number, string] => [i, escaped(id.json)]) };
  }),
  ...OTHERS,
];

const isStoredAsBytes = (idType: string) => /^(VAR)?(CHAR|BINARY)/.test(idType);

/** All that ids go through, one after the other, and one by one. */
async function thereAndBack(on: Connection, table: string, { idType, ids, same = [] }: Type): Promise<void> {
  const call = (procedure: Procedure, ...args: unknown[]) => callProcedure(on, table, procedure, ...args);
  const json = (some: Id[]) => `[${some.map(id => id.json).join(', ')}]`;
  const all = json(ids);
  const n = ids.length;
  const byValue = (some: unknown[]) =>
    some.map(one => (Buffer.isBuffer(one) ? hex(one) : `${typeof one} ${one}`)).sort();
  const backs = ids.map(id => id.back);
  const inTable = async () => (await contents(on, table)).map(row => (row as { id: unknown }).id);

  assert.deepEqual(await call('add', all), [{ added: n }]);
  const stored = isStoredAsBytes(idType) ? 'HEX(id)' : 'CAST(id AS CHAR)';
  const values = await rows(on, `SELECT ${stored} AS kept FROM \`${table}\``);
  assert.deepEqual(values.map(row => row.kept).sort(), ids.map(id => id.stored).sort());
  assert.deepEqual(byValue(await inTable()), byValue(backs));
  const ordered = await inTable();

  assert.deepEqual(await call('add', all), [{ added: 0 }]);
  assert.deepEqual(await call('add', json([...ids, ...ids])), [{ added: 0 }]);

  const got = await call('get', n + 1);
  assert.deepEqual(byValue(got.map(row => row.id)), byValue(backs));

  const check = (argument = all) => call('check', argument);
  const status = { since_updated: null, locked_for: HOUR, failures: 0 };
  assert.deepEqual(
    await check(),
    ordered.map(id => ({ id, ...status })),
  );
  assert.deepEqual(await call('extend', all, 60, NOW + HOUR), [{ extended: n, lock_until: NOW + 60 }]);
  assert.deepEqual(await call('fail', all), [{ failed: n }]);
  assert.deepEqual(await call('bump', all), [{ bumped: n }]);
  assert.deepEqual(await call('bump', all, -1, false), [{ bumped: n }]);
  assert.deepEqual(await call('unlock', all), [{ unlocked: n }]);
  assert.deepEqual(await call('did', all, false), [{ updated: n }]);
  assert.deepEqual(
    await check(),
    ordered.map(id => ({ id, since_updated: 0, locked_for: null, failures: 0 })),
  );
  const [stats] = await call('stats');
  assert.deepEqual([stats!.min_id, stats!.max_id], [ordered[0], ordered.at(-1)]);

  // Each by itself touches itself alone.
  for (const id of ids) {
    await call('unlock', all);
    assert.deepEqual(await call('bump', id.json, 9), [{ bumped: 1 }]);
    const bumped = (await contents(on, table)) as { id: unknown; lock_until: number | null }[];
    assert.deepEqual(
      bumped.filter(row => row.lock_until !== null).map(row => row.id),
      [id.back],
    );
    assert.deepEqual(await check(id.json), [{ id: id.back, since_updated: 0, locked_for: 9, failures: 0 }]);
    assert.deepEqual(await call('extend', `[${id.json}]`), [{ extended: 1, lock_until: NOW + HOUR }]);
    assert.deepEqual(await call('unlock', id.json, false), [{ unlocked: 1 }]);
  }
  for (const [i, other] of same) {
    const id = ids[i]!;
    assert.deepEqual(await call('add', other), [{ added: 0 }], other);
    assert.deepEqual(await call('did', `[${other}, ${id.json}]`), [{ updated: 1 }], other);
    assert.deepEqual((await check(other)).map(row => row.id), [id.back], other); // biome-ignore format: short
  }
  for (const [i, id] of ids.entries()) {
    assert.deepEqual(await call('remove', id.json), [{ removed: 1 }]);
    assert.equal((await inTable()).length, n - i - 1);
    assert.deepEqual(await call('check', id.json), []);
  }
}

for (const type of TYPES) {
  test(`ids of ${type.idType} go there and back`, async () => {
    const { table } = await makeLoop(connection, { idType: type.idType });
    await thereAndBack(connection, table, type);
  });
}

// Without a character set: the database's.

const DEFAULTS: [defaults: string, texts: string[], encoding: Encoding][] = [
  ['CHARACTER SET latin1', LATIN, latin1],
  ['CHARACTER SET latin1 COLLATE latin1_bin', [...LATIN, 'Abc', 'abc'], latin1],
  ['CHARACTER SET utf8mb4', ASTRAL, utf8],
  ['CHARACTER SET utf8mb4 COLLATE utf8mb4_bin', [...ASTRAL, ...ALIKE.slice(0, 9), ...EMOJI.slice(1)], utf8],
  ['CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci', ASTRAL, utf8],
  ['CHARACTER SET utf8mb3', NATIONS, utf8],
  ['CHARACTER SET ascii', ASCII, utf8],
];

/** The ways to install: the loop `some_loop`. */
const INSTALLERS: [title: string, install: (on: Connection, idType: string) => Promise<unknown>][] = [
  ['create()', (on, idType) => create(on, 'some_loop', { idType })],
  [
    'the statements of sqlForCreate()',
    async (on, idType) => {
      for (const statement of sqlForCreate('some_loop', { idType })) await on.query(statement);
    },
  ],
];

for (const [title, install] of INSTALLERS) {
  for (const [defaults, texts, encoding] of DEFAULTS) {
    for (const charset of ['utf8mb4', 'latin1']) {
      test(`text is of the database's ${defaults}, made by ${title} over a ${charset} connection`, async () => {
        const name = await makeDatabase(defaults);
        const idType = 'VARCHAR(20)';
        await install(await connect({ database: name, charset }), idType);
        const caller = await connectFrozen({ ...EXACT, database: name });
        await thereAndBack(caller, 'some_loop', { idType, ids: texts.map(text(encoding)) });
        await caller.end();
      });
    }
  }

  for (const charset of ['ucs2', 'utf16', 'utf16le', 'utf32']) {
    test(`in a database of CHARACTER SET ${charset}, ${title} makes loops of numbers`, async () => {
      const caller = await connectFrozen({ ...EXACT, database: await makeDatabase(`CHARACTER SET ${charset}`) });
      await install(caller, 'INT');
      await thereAndBack(caller, 'some_loop', { idType: 'INT', ids: ['-1', '5', '15'].map(whole) });
      await caller.end();
    });

    test(`in a database of CHARACTER SET ${charset}, ${title} makes loops of text that has its own`, async () => {
      const caller = await connectFrozen({ ...EXACT, database: await makeDatabase(`CHARACTER SET ${charset}`) });
      const idType = 'VARCHAR(20) CHARACTER SET utf16';
      await install(caller, idType);
      await thereAndBack(caller, 'some_loop', { idType, ids: NATIONS.map(text(utf16)) });
      await caller.end();
    });

    test(`in a database of CHARACTER SET ${charset}, ${title} refuses text without one, and says why`, async () => {
      const caller = await connect({ database: await makeDatabase(`CHARACTER SET ${charset}`) });
      const why = `its id is VARCHAR(20) CHARACTER SET ${charset} `;
      await assert.rejects(install(caller, 'VARCHAR(20)'), (error: Error) => error.message.includes(why));
    });
  }
}

// One id in several spellings

for (const idType of [
  'CHAR(20) CHARSET ascii',
  'VARCHAR(20) CHARSET latin1',
  'VARCHAR(20)',
  'VARCHAR(20) CHARACTER SET utf8mb4',
  'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci',
  'VARCHAR(20) CHARACTER SET ucs2',
]) {
  test(`${idType}: 'AAA' is 'aaa', and stays as it was written first`, async () => {
    const { table } = await makeLoop(connection, { idType });
    const call = (procedure: Procedure, ...args: unknown[]) => callProcedure(connection, table, procedure, ...args);
    assert.deepEqual(await call('add', '"AAA"'), [{ added: 1 }]);
    assert.deepEqual(await call('add', '["aaa", "AaA", "b", "B"]'), [{ added: 1 }]);
    assert.deepEqual(await call('bump', '["aaa", "aAa"]', -1), [{ bumped: 1 }]);
    assert.deepEqual(await call('get', 1), [{ id: 'AAA', lock_until: NOW + HOUR }]);
    assert.deepEqual(await call('extend', '["aaa", "aAa"]', 60), [{ extended: 1, lock_until: NOW + 60 }]);
    assert.deepEqual(await call('fail', '["aaA", "aAa"]'), [{ failed: 1 }]);
    assert.deepEqual(await call('check', '["aaa", "AAA"]'), [
      { id: 'AAA', since_updated: null, locked_for: 60, failures: 1 },
    ]);
    assert.deepEqual(await call('unlock', '["aaa", "AAA"]', false), [{ unlocked: 1 }]);
    assert.deepEqual(await call('did', '["aaa", "AAA"]'), [{ updated: 1 }]);
    assert.deepEqual(await call('remove', '["aaa", "AAA"]'), [{ removed: 1 }]);
    assert.equal((await contents(connection, table)).length, 1);
  });
}

// Whatever the caller's character set

for (const [charset, id] of [
  ['latin1', 'éñ'],
  ['koi8r', 'Жж'],
  ['gbk', '日本'],
] as const) {
  for (const idType of ['VARCHAR(9) CHARSET utf8mb4', 'VARCHAR(9) CHARSET utf16 COLLATE utf16_bin']) {
    test(`${idType}: an id given and read over a ${charset} connection is the same`, async () => {
      const { table } = await makeLoop(connection, { idType });
      const caller = await connectFrozen({ charset });
      const json = JSON.stringify(id);
      assert.deepEqual(await callProcedure(caller, table, 'add', json), [{ added: 1 }]);
      assert.deepEqual(await callProcedure(connection, table, 'add', json), [{ added: 0 }]);
      assert.deepEqual(await callProcedure(caller, table, 'get', 1), [{ id, lock_until: NOW + HOUR }]);
      const [stats] = await callProcedure(caller, table, 'stats');
      assert.equal(stats!.min_id, id);
      assert.deepEqual(
        (await callProcedure(caller, table, 'check', json)).map(row => row.id),
        [id],
      );
      assert.deepEqual(await callProcedure(caller, table, 'did', json), [{ updated: 1 }]);
      assert.equal((await contents(connection, table)).length, 1);
    });
  }
}

// What can't be an id

const REFUSED: [idType: string, why: RegExp][] = [
  ...['FLOAT', 'float', 'FLOAT(7,3)', 'FLOAT UNSIGNED', 'DOUBLE', 'DOUBLE(10,2)', 'REAL'].map(
    (one): [string, RegExp] => [one, /is inexact/],
  ),
  ['TIMESTAMP', /time zone/],
  ['TIMESTAMP(3)', /time zone/],
  ...[
    ...['TEXT', 'TINYTEXT', 'BLOB', 'LONGBLOB', 'JSON', 'ENUM', "ENUM('a','b')", "SET('a')", 'BIT', 'BIT(8)', 'BOOL'],
    ...['TIME', 'YEAR', 'GEOMETRY', 'POINT', 'UUID', 'INET6', 'SERIAL', 'BOGUS', '', ' ', '5', 'INT INT'],
    ...[
      'INT); DROP TABLE x',
      'INT); DROP TABLE x; -- ',
      'INT -- ',
      'INT /* x */',
      'INT #',
      'INT;',
      'INT,',
      'INT`',
      'INT\0',
    ],
    ...['INT NOT NULL', 'INT NULL', 'INT NOT NULL AUTO_INCREMENT', 'INT AUTO_INCREMENT', 'INT DEFAULT 5', 'INT UNIQUE'],
    ...["INT COMMENT 'x'", 'INT PRIMARY KEY', 'INT ZEROFILL', 'INT UNSIGNED ZEROFILL', 'INT AS (1)', 'INT CHECK (1)'],
    ...['INT(', 'INT()', 'INT(-1)', 'INT(1', 'INT(a)', 'INT(1.5)', 'INT UNSIGNED SIGNED', 'UNSIGNED', 'UNSIGNED INT'],
    ...[
      "CHAR('5')",
      'CHAR(5) BINARY',
      'CHAR(5) ASCII',
      "CHAR(5) CHARSET 'ascii'",
      'CHAR(5) CHARSET ascii; DROP TABLE x',
    ],
    ...[
      'CHAR(5) CHARSET',
      'CHAR(5) COLLATE',
      'CHAR(5) COLLATE ascii_bin CHARSET ascii',
      'NATIONAL CHAR(5)',
      'NCHAR(5)',
    ],
    ...['CHAR(5) CHARSET ascii NOT NULL', 'VARCHAR(5) CHARSET `ascii`', 'DATE NOT NULL', 'DATETIME DEFAULT NOW()'],
    ...['DATETIME ON UPDATE CURRENT_TIMESTAMP', 'VARCHAR(MAX)', 'CHAR(٥)'],
  ].map((one): [string, RegExp] => [one, /is not one of TINYINT, /]),
  ...[
    'CHAR',
    'VARCHAR',
    'BINARY',
    'VARBINARY',
    'CHAR(0)',
    'VARCHAR(0)',
    'CHAR(256)',
    'VARCHAR(3073)',
    'BINARY(0)',
    'BINARY(256)',
  ].map((one): [string, RegExp] => [one, /needs a length from 1 to /]),
  ['DATETIME(7)', /needs a length from 0 to 6/],
  ['DECIMAL(66,0)', /needs a length from 1 to 65/],
  ['DECIMAL(0,0)', /needs a length from 1 to 65/],
  ['DECIMAL(65,31)', /digits after the point/],
  ['DECIMAL(5,6)', /digits after the point/],
  ['INT(5,2)', /one number too many/],
  ['CHAR(5,2)', /one number too many/],
  ['DATE(3)', /no length/],
  ['CHAR(5) UNSIGNED', /no sign/],
  ['DATE UNSIGNED', /no sign/],
  ['BINARY(5) CHARACTER SET ascii', /no character set/],
  ['INT CHARACTER SET ascii', /no character set/],
  ['INT COLLATE ascii_bin', /no character set/],
];
for (const [idType, why] of REFUSED) {
  test(`${JSON.stringify(idType)} is no type for ids: neither parsed, nor written, nor made`, async () => {
    const refused = (error: unknown) => {
      assert.ok(error instanceof RangeError);
      assert.ok(error.message.startsWith(`id type: ${JSON.stringify(idType)} `), error.message);
      assert.match(error.message, why);
      return true;
    };
    assert.throws(() => parseIdType(idType), refused);
    assert.throws(() => sqlForCreate('refused_loop', { idType }), refused);
    await assert.rejects(create(connection, 'refused_loop', { idType }), refused);
    assert.deepEqual(await rows(connection, "SHOW TABLES LIKE 'refused\\_loop'"), []);
  });
}

test('an id type that is no string is refused', () => {
  for (const idType of [5, {}, ['INT'], true]) {
    assert.throws(() => parseIdType(idType as unknown as string), TypeError);
  }
});

/** Other spellings, and the column's type as the table then has it. */
const SPELLINGS: [written: string, columnType: string][] = [
  ['int', 'INT'],
  ['INTEGER', 'INT'],
  ['INT(11)', 'INT'],
  ['INT SIGNED', 'INT'],
  ['  Bigint   unsigned ', 'BIGINT UNSIGNED'],
  ['NUMERIC(5)', 'DECIMAL(5,0)'],
  ['DEC', 'DECIMAL(10,0)'],
  ['DECIMAL ( 5 , 2 )', 'DECIMAL(5,2)'],
  ['CHARACTER(5) CHARSET ascii', 'CHAR(5) CHARACTER SET ascii'],
  ['varchar(5) character set latin1 collate latin1_bin', 'VARCHAR(5) CHARACTER SET latin1 COLLATE latin1_bin'],
  ['datetime(0)', 'DATETIME'],
];
for (const [written, columnType] of SPELLINGS) {
  test(`${JSON.stringify(written)} is ${columnType}`, () => {
    assert.equal(parseIdType(written).sql, columnType);
  });
}
