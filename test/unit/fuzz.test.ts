/** Hostile input where no server is needed: what becomes SQL is the same but for the names, all else is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAccount, quoteAccount } from '../../src/account.js';
import { parseIdType } from '../../src/id-type.js';
import { idsToJson } from '../../src/ids.js';
import { Batch, DoLoop, scriptForCreate, sqlForCreate } from '../../src/index.js';
import { type ColumnName, parseColumnName, parseLoopName, qualifiedName, quoteName } from '../../src/names.js';
import { consoleScript, createTrigger, TRIGGERS } from '../../src/render.js';
import { holds, nasty } from '../nasty.js';

/** Text that is SQL to one server and to the other a comment, by how it begins. */
const CODE = { MySQL: /^\/\*!80000/, MariaDB: /^\/\*M!/ };

/** What stands in SQL beside names, texts and comments, which are their first characters, as a server of this kind reads it. */
function skeleton(sql: string, server: keyof typeof CODE): string {
  let rest = sql;
  let read = '';
  while (rest !== '') {
    const opened = CODE[server].exec(rest);
    const quoted = /^(?:`(?:[^`]|``)*`|'(?:[^'\\]|''|\\.)*'|"(?:[^"\\]|""|\\.)*")/s.exec(rest);
    const comment = /^(?:--\s[^\n]*|#[^\n]*)/.exec(rest);
    let length = 1;
    if (opened) length = opened[0].length;
    else if (quoted) length = quoted[0].length;
    else if (comment) length = comment[0].length;
    else if (rest.startsWith('/*')) length = commentLength(rest, server);
    read += rest.slice(0, 1);
    rest = rest.slice(length);
  }
  return read;
}

/** A comment's, with its end. MariaDB lets one that is for MySQL have others in it. */
function commentLength(sql: string, server: keyof typeof CODE): number {
  const nests = server === 'MariaDB' && sql.startsWith('/*!');
  let depth = 0;
  for (const { index, 0: mark } of sql.matchAll(/\/\*|\*\//g)) {
    if (mark === '*/') depth -= 1;
    else if (depth === 0 || nests) depth += 1;
    if (depth === 0) return index + 2;
  }
  return sql.length;
}

/** What a function answers; undefined if it refuses that with an error as it should be: of a kind, in a line, not for ever. */
function unlessRefused<T>(make: () => T, begins: RegExp): T | undefined {
  try {
    return make();
  } catch (error) {
    const { name, message } = error as Error;
    assert.match(name, /^(TypeError|RangeError)$/, message);
    assert.match(message, begins);
    assert.ok(message.length < 1000 && !/\p{Cc}/u.test(message), message);
    return undefined;
  }
}

/** Names as they may be written: as they come, in backticks, with a database. */
const written = fc.oneof(
  nasty,
  nasty.map(quoteName),
  fc.tuple(nasty, nasty).map(names => names.map(quoteName).join('.')),
);

test('any name is refused, or stands in the SQL as a name and nothing else, by every way to write it', async () => {
  const servers = ['MySQL', 'MariaDB'] as const;
  const expected = servers.map(server => [
    skeleton(sqlForCreate('x').join(';'), server),
    skeleton(sqlForCreate('y.x').join(';'), server),
  ]);
  const property = fc.property(written, name => {
    const statements = unlessRefused(() => sqlForCreate(name), /^(table|database): /);
    const script = unlessRefused(() => scriptForCreate(name), /^(table|database): /);
    assert.equal(statements === undefined, script === undefined);
    if (!statements || !script) return;
    const { database } = parseLoopName(name);
    for (const [i, server] of servers.entries()) {
      const [bare, qualified] = expected[i]!;
      // How a text is written, in quotes or in hexadecimal, is all the same.
      const read = skeleton(statements.join(';').replaceAll(/_utf8mb4 X'[\da-f]+'/g, "''"), server);
      assert.equal(read, database === undefined ? bare : qualified, server);
    }
    assert.deepEqual(parseLoopName(qualifiedName(parseLoopName(name))), parseLoopName(name));
    assert.match(script, /^-- doloop [^\n]*\n\nSET NAMES utf8mb4;\n\nDELIMITER \$\$\n/);
  });
  await holds(property, 40, 30);
});

test('any names of tables and columns that a loop is to follow are refused, or are names and nothing else', async () => {
  const loop = { database: 'app', table: 'user_loop' };
  const trigger = (source: ColumnName, columns: string[]) =>
    TRIGGERS.map(one =>
      createTrigger({ loop, source, bumpOn: columns.map(column => ({ column, isText: true })) }, one),
    ).join(';');
  const three = fc.tuple(nasty, nasty, nasty).map(names => names.map(quoteName).join('.'));
  const property = fc.property(fc.oneof(nasty, three), nasty, (name, column) => {
    const source = unlessRefused(() => parseColumnName('source', name), /^source: /);
    if (!source) return;
    for (const server of ['MySQL', 'MariaDB'] as const) {
      const of = (one: ColumnName, bumpOn: string) => skeleton(trigger(one, [bumpOn]), server);
      const plain: ColumnName = { database: source.database && 'a', table: 'b', column: 'c' };
      assert.equal(of(source, column), of(plain, 'd'));
    }
  });
  await holds(property, 300, 20);
});

test('the head of a script for the console is one line, whatever names are in it', async () => {
  const property = fc.property(nasty, name => {
    const [head, next] = consoleScript(`${quoteName(name)} follows`, ['DO 0']).split('\n');
    assert.match(head!, /^-- doloop /);
    assert.equal(next, '');
  });
  await holds(property, 200, 5);
});

test('any account, id type or engine is refused, or is in the SQL what it is and nothing else', async () => {
  const account = fc.oneof(
    nasty,
    fc.tuple(nasty, nasty).map(parts => parts.map(quoteName).join('@')),
  );
  const type = fc
    .tuple(fc.constantFrom('INT', 'VARCHAR(9)', 'DECIMAL(5,2)', 'BINARY(4)', 'DATE', ''), nasty)
    .map(([name, rest]) => name + rest);
  const engine = fc.oneof(
    nasty,
    nasty.map(text => `InnoDB${text}`),
  );
  const property = fc.property(account, type, engine, (account, idType, engine) => {
    const parsed = unlessRefused(() => parseAccount(account), /^grant: /);
    if (parsed) assert.match(quoteAccount(parsed), /^`(?:[^`]|``)*`@`(?:[^`]|``)*`$/);
    const sql = unlessRefused(() => parseIdType(idType).sql, /^id type: /);
    if (sql) assert.match(sql, /^[A-Z]+(\(\d+(,\d+)?\))?( UNSIGNED)?( CHARACTER SET \w+)?( COLLATE \w+)?$/);
    const made = unlessRefused(() => sqlForCreate('x', { engine }), /^engine: /);
    if (made) assert.match(engine, /^\w+$/);
  });
  await holds(property, 800, 20);
});

/** A value of any kind, among them objects that are not what they say. */
const anything = fc.oneof(
  nasty,
  fc.anything({
    withBigInt: true,
    withDate: true,
    withTypedArray: true,
    withNullPrototype: true,
    withSparseArray: true,
  }),
  fc.constantFrom<unknown>(
    ...[
      Number.NaN,
      -0,
      Number.POSITIVE_INFINITY,
      2 ** 53,
      0.1,
      10n ** 400n,
      Symbol('x'),
      () => 1,
      new Date(0),
      new Map([[1, 2]]),
    ],
    { toString: () => '1) -- ', valueOf: () => 1, toJSON: () => '1) -- ', [Symbol.toPrimitive]: () => '1) -- ' },
    Object.assign(() => 1, { toString: () => ({}) }),
    new Proxy([1, 2], {}),
    new Proxy({}, { get: () => '1) -- ', has: () => false }),
    JSON.parse('{"__proto__": {"lockFor": 1}, "constructor": 1}'),
  ),
);
/** JSON as the procedures take it, and nothing else. */
const JSON_OF_ID = /^(-?\d+|"(?:[^"\\\p{Cc}]|[\u007f-\u009f]|\\["\\/bfnrt]|\\u[\da-f]{4})*")$/u;

test('any value is refused as an id, or is JSON of a number or of a text, and reads back as it was', async () => {
  const property = fc.property(anything, value => {
    const json = unlessRefused(() => idsToJson([value]), /^ids: /);
    if (!json) return;
    assert.equal(json.length, 1);
    assert.match(json[0]!, JSON_OF_ID);
    if (typeof value === 'string') assert.equal(JSON.parse(json[0]!), value);
  });
  await holds(property, 2000, 20);
  assert.equal(({} as { lockFor?: number }).lockFor, undefined, 'no prototype is changed');
});

/** A connection that takes statements down, and answers as if each had done nothing. */
function listener(): { sql: string[]; loop: DoLoop } {
  const sql: string[] = [];
  const connection = {
    query: async (options: { sql: string }) => {
      sql.push(options.sql);
      return [[[{ delayed: null }], { serverStatus: 2 }], []];
    },
  };
  return { sql, loop: new DoLoop(connection as never, 'app.user_loop') };
}

const OPTIONS = ['updated', 'autoAdd', 'lease', 'lockFor', 'minLoopTime', 'retryIn', 'delayThresholds', '__proto__'];
const CALL =
  /^CALL `app`\.`user_loop_\w+`\((?:(?:null|true|false|-?\d+|'[\w[\]",. -]*'|_utf8mb4 X'[\da-f]*')(?:, )?)*\)$/;

test('any options, and any lease that a batch was given, are refused or go into the call as plain values', async () => {
  const methods = ['add', 'did', 'unlock', 'bump', 'extend', 'fail', 'get', 'stats', 'next'] as const;
  const options = fc.dictionary(fc.constantFrom(...OPTIONS), anything, { maxKeys: 2 });
  const property = fc.asyncProperty(fc.constantFrom(...methods), options, anything, async (method, options, lease) => {
    const { sql, loop } = listener();
    const batch = new Batch<number>();
    batch.lease = lease as number;
    batch.push(1);
    const given = method === 'get' ? 5 : method === 'stats' || method === 'next' ? options : batch;
    await loop[method](given as never, options as never).catch((error: Error) =>
      unlessRefused(() => {
        throw error;
      }, /^(options|lease|\w+): /),
    );
    for (const statement of sql) assert.match(statement, CALL);
  });
  await holds(property, 800, 20);
});

test('an option that changes while it is looked at goes into the call as it was when it was checked', async () => {
  for (const [method, name] of [
    ['did', 'lease'],
    ['fail', 'retryIn'],
    ['bump', 'lockFor'],
    ['add', 'updated'],
  ] as const) {
    const { sql, loop } = listener();
    let looks = 0;
    const options = {
      get [name]() {
        looks += 1;
        return looks > 1 ? { toString: () => 'NULL); DROP TABLE canary; -- ' } : name === 'updated' ? true : 7;
      },
    };
    await loop[method](1, options as never).catch(() => {});
    for (const statement of sql) assert.match(statement, CALL);
  }
  const { sql, loop } = listener();
  const thresholds = Object.assign([60], { toJSON: () => undefined, toString: () => 'NULL); DROP TABLE canary; -- ' });
  await loop.stats({ delayThresholds: thresholds }).catch(() => {});
  for (const statement of sql) assert.match(statement, CALL);
});

test('ids without an end are refused with an error, before memory is', () => {
  const long = 'x'.repeat(2 ** 20);
  let closed = false;
  function* forever() {
    try {
      for (;;) yield long;
    } finally {
      closed = true;
    }
  }
  assert.throws(() => idsToJson(forever()), {
    name: 'RangeError',
    message: /^ids: the first \d+ are all that a call can hold; make several$/,
  });
  assert.equal(closed, true, 'what gives them may end, too');
});

test("an error of the caller's own, thrown by a getter or an iterator, is the caller's to see", async () => {
  const mine = new Error('mine');
  const refuse = () => {
    throw mine;
  };
  const { sql, loop } = listener();
  const hostile = [
    () => loop.add({ [Symbol.iterator]: refuse } as never),
    () => loop.add({ [Symbol.iterator]: () => ({ next: refuse }) } as never),
    () => loop.add(1, Object.defineProperty({}, 'updated', { get: refuse, enumerable: true })),
    () => loop.get(1, new Proxy({}, { ownKeys: refuse })),
  ];
  for (const call of hostile) await assert.rejects(async () => call(), mine);
  assert.deepEqual(sql, []);
});
