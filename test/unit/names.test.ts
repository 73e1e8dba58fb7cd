import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Account, parseAccount, quoteAccount } from '../../src/account.js';
import { parseLoopName, qualifiedName, quoteName, quoteText } from '../../src/names.js';

/** As written; the database and the table it means; as SQL. */
const names: [string, string | undefined, string, string][] = [
  ['user_loop', undefined, 'user_loop', '`user_loop`'],
  ['app.user_loop', 'app', 'user_loop', '`app`.`user_loop`'],
  ['my-loop', undefined, 'my-loop', '`my-loop`'],
  ['用户_loop', undefined, '用户_loop', '`用户_loop`'],
  ['数据.用户', '数据', '用户', '`数据`.`用户`'],
  ['user loop', undefined, 'user loop', '`user loop`'],
  ['my app.user loop', 'my app', 'user loop', '`my app`.`user loop`'],
  ['42', undefined, '42', '`42`'],
  ['select', undefined, 'select', '`select`'],
  ['$$', undefined, '$$', '`$$`'],
  ['it\'s "a" \\ // loop; -- #', undefined, 'it\'s "a" \\ // loop; -- #', '`it\'s "a" \\ // loop; -- #`'],
  ['{{engine}}', undefined, '{{engine}}', '`{{engine}}`'],
  ['`user_loop`', undefined, 'user_loop', '`user_loop`'],
  ['`user.loop`', undefined, 'user.loop', '`user.loop`'],
  ['`app`.`user.loop`', 'app', 'user.loop', '`app`.`user.loop`'],
  ['app.`a.b`', 'app', 'a.b', '`app`.`a.b`'],
  ['`a.b`.user_loop', 'a.b', 'user_loop', '`a.b`.`user_loop`'],
  ['`tick``ed`', undefined, 'tick`ed', '`tick``ed`'],
  ['``````', undefined, '``', '``````'],
  ['x'.repeat(57), undefined, 'x'.repeat(57), `\`${'x'.repeat(57)}\``],
  [
    `${'d'.repeat(64)}.${'用'.repeat(57)}`,
    'd'.repeat(64),
    '用'.repeat(57),
    `\`${'d'.repeat(64)}\`.\`${'用'.repeat(57)}\``,
  ],
];

const noNames: [string, RegExp][] = [
  ['', /^table: "" is not a table's name/],
  ['.', /is not a table's name/],
  ['app.', /is not a table's name/],
  ['.user_loop', /is not a table's name/],
  ['a.b.c', /is not a table's name/],
  ['a`b', /is not a table's name/],
  ['`user_loop', /is not a table's name/],
  ['``', /is not a table's name/],
  ['`a`b`', /is not a table's name/],
  ['`a` `b`', /is not a table's name/],
  ['x'.repeat(58), /^table: "x{58}" has 58 characters; at most 57 leave room for the names of its procedures$/],
  [`${'d'.repeat(65)}.user_loop`, /^database: "d{65}" has 65 characters, more than 64$/],
  ['user_loop ', /^table: "user_loop " can't be a name in MySQL/],
  ['app .user_loop', /^database: "app " can't be a name in MySQL/],
  ['user\u0000loop', /can't be a name in MySQL/],
  ['user\nloop', /can't be a name in MySQL/],
  ['user\tloop', /can't be a name in MySQL/],
  ['user_\u{1f600}', /can't be a name in MySQL/],
  ['user_\ud83d', /can't be a name in MySQL/],
  ['a*/b', /^table: "a\*\/b" has \/\* or \*\/ in it/],
  ['a/*b.user_loop', /^database: "a\/\*b" has \/\* or \*\/ in it/],
  ['`用```', /^table: "用`" has a backtick, and characters past ASCII/],
  ['x'.repeat(1e6), /^table: "x{100}"… has 1000000 characters; at most 57/],
];

test('a name is read as written, in backticks where it needs them, and quoted for SQL', () => {
  for (const [written, database, table, sql] of names) {
    assert.deepEqual(parseLoopName(written), { database, table }, written);
    assert.equal(qualifiedName({ database, table }), sql);
    assert.deepEqual(parseLoopName(sql), { database, table }, 'quoted it is the same name');
  }
});

test('what can not be a name, or leaves no room for the procedures, is refused with the reason', () => {
  for (const [written, reason] of noNames) {
    assert.throws(() => parseLoopName(written), { name: 'RangeError', message: reason }, JSON.stringify(written));
  }
  for (const written of [undefined, null, 42, ['user_loop']]) {
    assert.throws(() => parseLoopName(written as never), {
      name: 'TypeError',
      message: /^table: expected a string, /,
    });
  }
});

test('a suffix goes inside the quotes', () => {
  assert.equal(qualifiedName({ database: 'app', table: 'a`b' }, '_add'), '`app`.`a``b_add`');
  assert.equal(quoteName('`'), '````');
});

test('quoted text means the same under any sql_mode: no backslash is left in it', () => {
  const cases: [string, string][] = [
    ['', "''"],
    ['plain text: {"a"}', '\'plain text: {"a"}\''],
    ["it's", "'it''s'"],
    ["''", "''''''"],
    ['a\\b', "_utf8mb4 X'615c62'"],
    ["\\'", "_utf8mb4 X'5c27'"],
    ['é', "_utf8mb4 X'c3a9'"],
    ['\n', "_utf8mb4 X'0a'"],
  ];
  for (const [text, sql] of cases) assert.equal(quoteText(text), sql);
});

/** As written; the account it means; as SQL. */
const accounts: [string, Account, string][] = [
  ["'app'@'%'", { user: 'app', host: '%' }, '`app`@`%`'],
  ['app', { user: 'app', host: '%' }, '`app`@`%`'],
  ["'app'", { user: 'app', host: '%' }, '`app`@`%`'],
  ['app@localhost', { user: 'app', host: 'localhost' }, '`app`@`localhost`'],
  ['app@10.0.0.%', { user: 'app', host: '10.0.0.%' }, '`app`@`10.0.0.%`'],
  ['app@10.0.0.0/255.255.255.0', { user: 'app', host: '10.0.0.0/255.255.255.0' }, '`app`@`10.0.0.0/255.255.255.0`'],
  ['app@::1', { user: 'app', host: '::1' }, '`app`@`::1`'],
  ["my-app@'%.example.org'", { user: 'my-app', host: '%.example.org' }, '`my-app`@`%.example.org`'],
  ['`app`@`%`', { user: 'app', host: '%' }, '`app`@`%`'],
  ['`a``b`@localhost', { user: 'a`b', host: 'localhost' }, '`a``b`@`localhost`'],
  ["'o''brien'@localhost", { user: "o'brien", host: 'localhost' }, "`o'brien`@`localhost`"],
  ["'me@corp'@h", { user: 'me@corp', host: 'h' }, '`me@corp`@`h`'],
  ["''@localhost", { user: '', host: 'localhost' }, '``@`localhost`'],
  ["'用户'@'%'", { user: '用户', host: '%' }, '`用户`@`%`'],
];

test('an account is read as in GRANT, without a host from any, and quoted as identifiers', () => {
  for (const [written, account, sql] of accounts) {
    assert.deepEqual(parseAccount(written), account, written);
    assert.equal(quoteAccount(account), sql);
    assert.deepEqual(parseAccount(sql), account, 'quoted it is the same account');
  }
});

test('what is no account is refused, so that nothing else can get into a GRANT', () => {
  const noAccounts = [
    '',
    '@localhost',
    'app@',
    'a b',
    "'app",
    "'a'b'",
    'app@a@b',
    "app@'%' IDENTIFIED BY 'x'",
    "app, 'other'@'%'",
    'app; DROP TABLE t',
    'app@localhost WITH GRANT OPTION',
    "'app'@'%'\n",
    '用户',
  ];
  for (const written of noAccounts) {
    assert.throws(
      () => parseAccount(written),
      { name: 'RangeError', message: `grant: ${JSON.stringify(written)} is not an account, like 'app'@'%'` },
      written,
    );
  }
});
