/** Hostile input on a server: by every door it does what it says, or is refused with one error, and nothing else changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Connection } from 'mysql2/promise';
import { create, DoLoop, DoLoopError, drop, type LoopId, scriptForCreate, sqlForCreate } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import { parseLoopName, qualifiedName, quoteName } from '../src/names.js';
import { PROCEDURES } from '../src/render.js';
import {
  connect,
  contents,
  database,
  inConsole,
  makeDatabase,
  makeLoop,
  type Row,
  rows,
  SIGNATURES,
  TAKING_IDS,
} from './harness.js';
import { holds, nasty } from './nasty.js';
import { doloop, serverUrl } from './run-doloop.js';

const root = await connect();
const other = await makeDatabase('');
for (const schema of [database, other]) {
  await root.query(`CREATE TABLE ${schema}.canary (n INT PRIMARY KEY)`);
  await root.query(`INSERT INTO ${schema}.canary VALUES (1), (2), (3)`);
  await root.query(`CREATE PROCEDURE ${schema}.canary_fill() DELETE FROM canary`);
}

/** What a server has of its own, and changes as it likes. */
const SYSTEM = "'mysql', 'sys', 'performance_schema', 'information_schema'";

/** All else that it has, but for other tests': databases, tables, routines, triggers, events, accounts; and the canaries. */
async function everything(): Promise<string[]> {
  const ours = (column: string) =>
    `${column} NOT IN (${SYSTEM}) AND (LEFT(${column}, 5) <> 'test_' OR ${column} LIKE '${database}%')`;
  const named = (what: string, table: string, schema: string, name: string) =>
    `SELECT CONCAT('${what} ', ${schema}, '.', ${name}) AS name FROM ${table} WHERE ${ours(schema)}`;
  const found = await rows(
    root,
    [
      named('schema', 'information_schema.schemata', 'schema_name', "''"),
      named('table', 'information_schema.tables', 'table_schema', 'table_name'),
      named('routine', 'information_schema.routines', 'routine_schema', 'routine_name'),
      named('trigger', 'information_schema.triggers', 'trigger_schema', 'trigger_name'),
      named('event', 'information_schema.events', 'event_schema', 'event_name'),
      named('account', 'mysql.user', 'user', 'host'),
      ...[database, other].map(schema => `SELECT CONCAT('canary ', n) FROM ${schema}.canary`),
    ].join(' UNION ALL '),
  );
  return found.map(({ name }) => String(name)).sort();
}

/** Loops of some types, and ids that are in them. */
const SOME = ['1', '2', '-5', 'user_loop', 'canary', 'a', "' OR 1=1 -- ", '表'];
const TEXT = 'VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin';
const KINDS = await Promise.all(
  ['INT', TEXT, 'DECIMAL(10,2)', 'DATETIME', 'VARBINARY(8)'].map(async idType => {
    const { table } = await makeLoop<LoopId>(await connect(), { idType });
    const some = idType === TEXT ? SOME : ({ INT: [1, 2, -5] }[idType] ?? []);
    return { table, idType, some };
  }),
);

/** Ways in which a session reads SQL. */
const modes = fc.constantFrom('', 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', 'ANSI_QUOTES,PIPES_AS_CONCAT,IGNORE_SPACE');
/** Character sets in which the second half of a character may be a quote or a backslash, and the usual one. */
const charsets = fc.constantFrom('utf8mb4', 'gbk', 'sjis', 'big5', 'latin1');

async function session(mode: string, charset: string): Promise<Connection> {
  const connection = await connect();
  await connection.query(`SET NAMES ${charset}`);
  await connection.query(`SET sql_mode = '${mode}'`);
  return connection;
}

/** Longer than anything here takes on the slowest machine: what takes as long hangs. */
const PATIENCE = { timeout: 900_000 };

/** What an error of the client's may be: of a kind that the README has, in words. */
function assertRefusal(error: Error): void {
  assert.match(error.name, /^(TypeError|RangeError|DoLoopError)$/, `${error.name}: ${error.message}`);
  if (error instanceof DoLoopError) assert.equal(error.code, 'REFUSED');
  assert.match(error.message, /^[\w ]+: /);
  assert.ok(error.message.length < 1000, error.message);
}

/** The ways to make a loop. */
const DOORS = {
  'create()': (name: string, mode: string, charset: string) => inSession(mode, charset, one => create(one, name)),
  'the statements': (name: string, mode: string) =>
    inSession(mode, 'utf8mb4', async one => {
      for (const statement of sqlForCreate(name)) await one.query(statement);
    }),
  'the script': async (name: string, mode: string) => {
    const script = scriptForCreate(name);
    const said = inConsole(['--batch', `--init-command=SET sql_mode = '${mode}'`], script);
    const [, errno, message] = /ERROR (\d+) \(\w+\).*?: (.*)/s.exec(said) ?? [];
    if (said !== '') throw Object.assign(new Error(message ?? said), { errno: Number(errno) });
  },
  'the command line': async (name: string) => {
    const { code, stderr } = await doloop(['create', '--', name]);
    if (code !== 0) throw Object.assign(new RangeError(stderr.replace(/^doloop: /, '').trim()), { code });
  },
};

async function inSession<T>(mode: string, charset: string, work: (one: Connection) => Promise<T>): Promise<T> {
  const connection = await session(mode, charset);
  try {
    return await work(connection);
  } finally {
    connection.destroy();
  }
}

/** What a loop of this name adds to the server. */
const objects = ({ table }: { table: string }) => [
  `table ${database}.${table}`,
  ...PROCEDURES.map(procedure => `routine ${database}.${table}_${procedure}`),
];

const dropAdopt = (name: string) => root.query(`DROP PROCEDURE ${qualifiedName(parseLoopName(name), '_adopt')}`);

for (const [door, make] of Object.entries(DOORS)) {
  const isProgram = door === 'the command line';
  test(
    `${door}: a loop of any name is refused, or is its table and its procedures, and nothing else`,
    PATIENCE,
    async () => {
      const before = await everything();
      const any = fc.oneof(nasty, nasty.map(quoteName));
      // What a process can be given: no NUL, and no half of a character, which becomes U+FFFD on the way.
      const argument = isProgram
        ? any.filter(name => !name.includes('\0')).map(name => Buffer.from(name).toString())
        : any;
      const property = fc.asyncProperty(argument, modes, charsets, async (name, mode, charset) => {
        const refused = await make(name, mode, charset).then(
          () => undefined,
          (error: Error) => error,
        );
        if (refused) {
          if ((refused as MySqlError).errno === 1644)
            await dropAdopt(name); // stays where statements end before they are all run
          else if (!refused.message.startsWith('Unknown database')) assertRefusal(refused);
          assert.deepEqual(await everything(), before);
          return;
        }
        const parsed = parseLoopName(name);
        assert.deepEqual(await everything(), [...before, ...objects(parsed)].sort());
        const loop = new DoLoop(root, name);
        assert.equal(await loop.add([1, 2]), 2);
        assert.deepEqual([...(await loop.get(1))], [1]);
        assert.deepEqual(await rows(root, `SELECT COUNT(*) AS n FROM ${qualifiedName(parsed)}`), [{ n: 2 }]);
        await drop(root, name, { table: true });
        assert.deepEqual(await everything(), before);
      });
      await holds(property, isProgram ? 2 : 8, 30);
    },
  );
}

/** What is refused by a server's own words: a text that is no number, or too large for one. */
const NO_NUMBER = [1264, 1265, 1292, 1366, 1367];
const RAW = fc.oneof(
  nasty,
  nasty.map(text => JSON.stringify([text])),
  fc.json(),
  fc.constantFrom(
    ...[
      '1e309',
      '[-1e309]',
      '-0',
      '[NaN]',
      '\ufeff[1]',
      '[1]\0',
      '"1"\0',
      '\0',
      '{"a": 1, "a": 2}',
      '[{"__proto__": 1}]',
    ],
    ...['[', '{"a":'].map(open => open.repeat(10_000)),
    '['.repeat(10_000) + ']'.repeat(10_000),
    '{"a":'.repeat(10_000) + '1' + '}'.repeat(10_000),
    '{"a":'.repeat(100) + '1' + '}'.repeat(100),
    '9'.repeat(100_000),
    JSON.stringify('x'.repeat(100_000)),
    JSON.stringify(Array(20_000).fill(1)),
  ),
);
/** What another argument may be given as, by whoever writes SQL. */
const ARGUMENT = fc.oneof(
  fc.constantFrom('NULL', '0', '1', '-1', '9223372036854775807', '-9223372036854775808', '1e309', '0.5', 'TRUE', "''"),
  nasty.map(hex),
);

function hex(text: string): string {
  return `_utf8mb4 X'${Buffer.from(text).toString('hex')}'`;
}

/** The ids that are named in JSON, or in what looks like it, as texts. */
function namedIn(json: string): Set<string> {
  try {
    const ids = JSON.parse(json) as unknown;
    return new Set([ids].flat(1).map(String));
  } catch {
    return new Set();
  }
}

/** Rows of before that are not as they were, and were not named. */
function touched(before: Row[], after: Row[], named: ReadonlySet<string>): Row[] {
  const now = new Map(after.map(row => [String(row.id), JSON.stringify(row)]));
  return before.filter(row => !named.has(String(row.id)) && now.get(String(row.id)) !== JSON.stringify(row));
}

async function refill({ table, some }: (typeof KINDS)[number]): Promise<Row[]> {
  await root.query(`DELETE FROM ${table}`);
  if (some.length > 0) await root.query(`INSERT INTO ${table} (id) VALUES ?`, [some.map(id => [id])]);
  return contents(root, table);
}

test(
  'any text that is given to a procedure as ids is refused with one error, or changes the ids that it names alone',
  PATIENCE,
  async () => {
    const before = await everything();
    const sessions = new Map<string, Connection>();
    const call = fc.record({
      kind: fc.constantFrom(...KINDS),
      procedure: fc.constantFrom(...PROCEDURES),
      raw: RAW,
      args: fc.array(ARGUMENT, { minLength: 3, maxLength: 3 }),
      mode: modes,
      charset: charsets,
    });
    const property = fc.asyncProperty(call, async ({ kind, procedure, raw, args, mode, charset }) => {
      const key = `${mode} ${charset}`;
      const caller = sessions.get(key) ?? (await session(mode, charset));
      sessions.set(key, caller);
      const rowsBefore = await refill(kind);
      const takesJson = TAKING_IDS.includes(procedure) || procedure === 'stats';
      const given = SIGNATURES[procedure].takes.map((_, i) => (i === 0 && takesJson ? hex(raw) : args[i]!));
      // The server may print texts of a call, and does not get to the end of those that have no end.
      const statement = `CALL ${kind.table}_${procedure}(${given.join(', ')})`;
      let answered = false;
      try {
        await caller.query(statement);
        answered = true;
      } catch (error) {
        const { errno = 0, sqlState, message } = error as Error & { errno?: number; sqlState?: string };
        if (!NO_NUMBER.includes(errno)) {
          assert.equal(errno, 1644, `${message}: ${statement.slice(0, 300)}`);
          assert.equal(sqlState, '45000');
          assert.match(message, /^\w+: .* (?:is not|are more) ./s);
          assert.ok([...message].length <= 128, message);
        }
      }
      const rowsAfter = await contents(root, kind.table);
      if (!answered) assert.deepEqual(rowsAfter, rowsBefore, 'what is refused changes nothing');
      else if (procedure !== 'get') assert.deepEqual(touched(rowsBefore, rowsAfter, namedIn(raw)), []);
    });
    await holds(property, 120, 60);
    for (const caller of sessions.values()) caller.destroy();
    assert.deepEqual(await everything(), before);
  },
);

test(
  'any text is an id of a loop of texts, itself alone, in a session of any character set and mode; or is refused',
  PATIENCE,
  async () => {
    const kind = KINDS.find(({ idType }) => idType === TEXT)!;
    const before = await everything();
    const sessions = new Map<string, Connection>();
    const property = fc.asyncProperty(nasty, modes, charsets, async (text, mode, charset) => {
      const key = `${mode} ${charset}`;
      const caller = sessions.get(key) ?? (await session(mode, charset));
      sessions.set(key, caller);
      const rowsBefore = await refill(kind);
      const loop = new DoLoop<string>(caller, kind.table);
      const known = SOME.includes(text);
      fc.pre(known || !SOME.includes(text.replace(/ +$/, ''))); // the collation takes spaces at the end for nothing
      try {
        assert.equal(await loop.add(text), known ? 0 : 1);
        const [{ id }] = (await rows(root, `SELECT id FROM ${kind.table} WHERE id = ?`, [text])) as [{ id: string }];
        assert.equal(id, text);
        assert.deepEqual(
          (await loop.check([text, 'not there'])).map(({ failures }) => failures),
          [0],
        );
        assert.equal(await loop.bump(text), 1);
        assert.equal(await loop.fail(text), 1);
        assert.equal(await loop.did(text), 1);
        assert.equal(await loop.remove(text), 1);
      } catch (error) {
        assertRefusal(error as Error);
        assert.ok([...text].length > 40 || /\p{Surrogate}/u.test(text), (error as Error).message);
      }
      const rowsAfter = await contents(root, kind.table);
      assert.deepEqual(
        rowsAfter,
        rowsBefore.filter(row => row.id !== text),
      );
    });
    await holds(property, 40, 30);
    for (const caller of sessions.values()) caller.destroy();
    assert.deepEqual(await everything(), before);
  },
);

test(
  'the command line, given anything, does it or says in one line why not, and nothing else changes',
  PATIENCE,
  async () => {
    const before = await everything();
    const { table, some } = KINDS[1]!;
    const word = nasty.filter(text => !text.includes('\0'));
    const url = fc.constantFrom(serverUrl({ database }), 'mysql://');
    const args = fc.oneof(
      fc.tuple(
        fc.constantFrom('add', 'remove', 'did', 'unlock', 'bump', 'check'),
        fc.constantFrom(table),
        fc.constant('--'),
        word,
      ),
      fc.tuple(fc.constantFrom('check', 'get', 'stats', 'doctor', 'metrics', 'drop'), fc.constant('--'), word),
      fc.tuple(fc.constant('follow'), fc.constantFrom(table), fc.constant('--source'), word),
      fc.tuple(fc.constant('fill'), fc.constantFrom(table), fc.constant('--from'), word),
      fc.tuple(fc.constant('sql'), fc.constant('x'), fc.constantFrom('--id-type', '--engine'), word),
      fc.tuple(fc.constant('create'), fc.constant('x'), fc.constantFrom('--grant', '--id-type', '--engine'), word),
      fc.tuple(fc.constant('list'), fc.constantFrom('-D', '--url', '--defaults-file', '--json'), word),
      fc.tuple(word, word),
    );
    const property = fc.asyncProperty(args, word, url, async (argv, input, MYSQL_URL) => {
      const { code, signal, stderr } = await doloop(argv, { MYSQL_URL }, input);
      assert.equal(signal, null);
      assert.ok(code === 0 || code === 1 || code === 2, `exit code ${code}`);
      assert.doesNotMatch(stderr, /^ +at /m, 'no stack');
      for (const line of stderr.split('\n').slice(0, -1)) assert.match(line, /^(doloop: |Warning: |app|test_)/);
      // What was made on purpose: an engine or a type may have been a good one.
      if (code === 0 && argv[0] === 'create') await drop(root, 'x', { table: true });
    });
    await holds(property, 4, 45);
    await refill(KINDS[1]!);
    assert.ok(some.length > 0);
    assert.deepEqual(await everything(), before);
  },
);
