/**
 * Random calls in random order, each with what the model of the contract says of it: the same answer, and the same table
 * afterwards. A sequence that fails is made as short as it can be, and shown. Run again with its seed it fails again.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Connection, Pool } from 'mysql2/promise';
import { Batch, DoLoop, DoLoopError, type LoopId } from '../src/index.js';
import type { MySqlError } from '../src/mysql.js';
import type { Procedure } from '../src/render.js';
import {
  callProcedure,
  connect,
  contents,
  fill,
  makeLoop,
  makePool,
  NOW,
  type RowValues,
  SIGNATURES,
  setClock,
} from './harness.js';
import { quickOrLong } from './long.js';
import { type Answer, Model, type ModelIds, Refused } from './model.js';

/** For each id type. Each sequence has up to so many calls and transactions of calls. */
const SEQUENCES = quickOrLong(15, 250);
const LENGTH = 30;
/** `DOLOOP_TEST_SEED=…` makes the sequences of an earlier run. */
const SEED = process.env.DOLOOP_TEST_SEED;

/** How mysql2 gives what JavaScript's numbers and dates can't hold: as the server writes it. */
const EXACT = { supportBigNumbers: true, dateStrings: true };

/** A way to write an id, and how the table shows it if it came in so. Null: the column can't hold it. */
interface Written {
  json: string;
  id: number | null;
  shown: string;
}

/** An id type: some ids, in the order of the column, each in all its spellings; and what is none: JSON. */
interface Kind {
  idType: string;
  ids: { json: string; shown: string }[][];
  bad: string[];
}

/** An id that is shown in one way, however it was written. */
const plain = (shown: string, ...json: string[]) => json.map(one => ({ json: one, shown }));
const whole = (id: string) => plain(id, id, `"${id}"`);
/** An id that stays as it was written first. */
const text = (...spellings: string[]) => spellings.map(one => ({ json: JSON.stringify(one), shown: one }));
const binary = (digits: string) => plain(digits, `"${digits}"`, `"${digits.toLowerCase()}"`);

const NO_IDS = ['null', '{}', '[1]', 'true'];

const KINDS: Kind[] = [
  {
    idType: 'INT',
    ids: ['-2147483648', '-1', '0', '1', '2', '10', '2147483647'].map(whole),
    bad: [...NO_IDS, '5.5', '2147483648', '-2147483649', '"abc"', '""', '"05"', '" 5"'],
  },
  {
    idType: 'BIGINT UNSIGNED',
    ids: ['0', '1', '9007199254740993', '9223372036854775807', '9223372036854775808', '18446744073709551615'].map(
      whole,
    ),
    bad: [...NO_IDS, '-1', '18446744073709551616', '"1e2"'],
  },
  {
    idType: 'VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci',
    ids: [
      text(''),
      [...text('10'), ...plain('10', '10')],
      text('AAA', 'aaa', 'aAa '),
      text('b', 'B'),
      text('ss', 'ß', 'SS'),
      text('Ж', 'ж'),
      text('日本'),
    ],
    bad: [...NO_IDS, '5.5', `"${'x'.repeat(21)}"`],
  },
  {
    idType: 'VARBINARY(8)',
    ids: ['', '00', '0000', '61', '6100', 'C328', 'FFFFFFFFFFFFFFFF'].map(binary),
    bad: [...NO_IDS, '12', '"0"', '"zz"', `"${'00'.repeat(9)}"`],
  },
  {
    idType: 'DECIMAL(10,2)',
    ids: [
      plain('-1.50', '"-1.50"', '"-1.5"'),
      plain('0.00', '"0"', '"-0"', '0'),
      plain('1.00', '1', '"1.0"'),
      plain('1.05', '"1.05"'),
      plain('99999999.99', '"99999999.99"'),
    ],
    bad: [...NO_IDS, '1.5', '"1.005"', '"100000000"', '"1,5"'],
  },
  {
    idType: 'DATE',
    ids: ['1000-01-01', '1969-12-31', '2024-02-29', '2026-01-31', '9999-12-31'].map(one => text(one)),
    bad: [...NO_IDS, '"2026-02-30"', '"2026-1-1"', '20260131', '"2026-01-31 00:00:00"'],
  },
  {
    idType: 'DATETIME(3)',
    ids: [
      plain('1000-01-01 00:00:00.000', '"1000-01-01 00:00:00"', '"1000-01-01 00:00:00.000"'),
      text('2026-03-29 02:30:00.001'),
      plain('2026-03-29 02:30:00.500', '"2026-03-29 02:30:00.5"', '"2026-03-29 02:30:00.50"'),
      text('9999-12-31 23:59:59.999'),
    ],
    bad: [...NO_IDS, '"2026-01-31"', '"2026-01-31 23:59:59.1234"', '"2026-01-31 24:00:00"'],
  },
];

/** An argument: as CALL sends it, as the client is given it, and as the model has it. */
interface Argument {
  sent: unknown;
  client: unknown;
  model: unknown;
  /** How ids that are new by this call may be shown. */
  shown?: Map<number, string[]>;
}

/** An argument that may depend on what is in the loop. */
type Given = (model: Model) => Argument;

interface Call {
  procedure: Procedure;
  given: Given[];
  by: 'CALL' | 'the client' | 'the client on a pool';
  dryRun: boolean;
}

/** The clock goes on, or back, s. */
interface Clock {
  clock: number;
}

interface Transaction {
  begin: 'START TRANSACTION' | 'SET autocommit = 0';
  steps: (Call | Clock)[];
  end: 'COMMIT' | 'ROLLBACK';
}

/** A row of the table before the first call: its id's spelling, and times from NOW. */
interface Start {
  written: Written;
  updated: number | null;
  until: number | null;
  failures: number;
}

// What there is to choose from. The edges stand beside few plain values, so that times meet often.

const SECONDS = [1, 2, 60, 3600];
const MOST = 2_147_483_647;
const clock: fc.Arbitrary<Clock> = fc
  .constantFrom(1, 2, 59, 60, 61, 3599, 3600, 90_000, -1, -60, -3600, -90_000)
  .map(seconds => ({ clock: seconds }));

const same =
  (value: unknown): Given =>
  () => ({ sent: value, client: value, model: value });

/** Most often one of the good ones. */
const some = (good: unknown[], bad: unknown[]) =>
  fc
    .oneof({ weight: 20, arbitrary: fc.constantFrom(...good) }, { weight: 1, arbitrary: fc.constantFrom(...bad) })
    .map(same);
const flag = fc.constantFrom(null, true, false).map(same);
const lockFor = some([null, ...SECONDS, MOST], [0, -1, MOST + 1, -MOST - 1]);
const bumpFor = some([null, 0, ...SECONDS, MOST, ...SECONDS.map(one => -one), -MOST], [MOST + 1, -MOST - 1]);
const fromZero = some([null, null, null, 0, ...SECONDS, MOST], [-1, MOST + 1, -MOST]);
const maxIds = some([0, 1, 1, 2, 3, 4, 5, 6, 100, Number.MAX_SAFE_INTEGER], [null, -1, Number.MIN_SAFE_INTEGER]);

/** None; the lock of an id, or near it; or anything. */
const leaseOf = ({ ids }: Kind): fc.Arbitrary<Given> =>
  fc.oneof(
    fc.constant(same(null)),
    fc.record({ of: fc.nat(ids.length - 1), plus: fc.constantFrom(0, 0, 0, 0, -1, 1) }).map(
      ({ of, plus }): Given =>
        model =>
          same((model.rows.get(of)?.lock_until ?? model.now) + plus)(model),
    ),
    fc.constantFrom(0, -1, NOW, NOW + 3600, Number.MAX_SAFE_INTEGER).map(same),
  );

const GOOD_THRESHOLDS = [0, 59, ...SECONDS, 3601, 7200, 86_400, MOST];
const thresholds: fc.Arbitrary<Given> = fc
  .oneof(
    fc.shuffledSubarray(GOOD_THRESHOLDS, { minLength: 7 }),
    fc.array(fc.constantFrom(...GOOD_THRESHOLDS, -1, 1.5, MOST + 1), { maxLength: 4 }),
  )
  .map(all => () => ({
    sent: JSON.stringify(all.length === 1 ? all[0] : all),
    client: all,
    model: all.map(one => (Number.isInteger(one) ? one : null)),
  }));

const writtenOf = ({ ids }: Kind): Written[] =>
  ids.flatMap((spellings, id) => spellings.map(spelling => ({ ...spelling, id })));

function idsOf(kind: Kind): fc.Arbitrary<Given> {
  const good = fc.constantFrom(...writtenOf(kind));
  const bad = fc.constantFrom(...kind.bad).map((json): Written => ({ json, id: null, shown: '' }));
  const isBinary = kind.idType.includes('BINARY');
  const many = (all: Written[]): Given => {
    const shown = new Map<number, string[]>();
    for (const one of all) if (one.id !== null) shown.set(one.id, [...(shown.get(one.id) ?? []), one.shown]);
    return () => ({
      sent: `[${all.map(({ json }) => json).join(', ')}]`,
      client: all.map(one => clientId(one, isBinary)),
      model: all.map(({ id }) => id) satisfies ModelIds,
      shown,
    });
  };
  const array = fc.array(good, { maxLength: 6, size: 'max' });
  return fc.oneof(
    { weight: 40, arbitrary: array.map(many) },
    {
      weight: 10,
      arbitrary: good.map(
        (one): Given =>
          model => ({
            ...many([one])(model),
            sent: one.json,
            client: clientId(one, isBinary),
          }),
      ),
    },
    { weight: 5, arbitrary: fc.tuple(array, bad, array).map(([a, one, b]) => many([...a, one, ...b])) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(null, '', 'x', '[1', '[1,]').map(sent => () => ({ sent, client: null, model: null })),
    },
  );
}

/** An id as a program would have it. */
function clientId({ json, id }: Written, isBinary: boolean): unknown {
  if (/^-?\d+$/.test(json)) return BigInt(json);
  const value: unknown = JSON.parse(json);
  return isBinary && id !== null ? Buffer.from(value as string, 'hex') : value;
}

/** The arguments of each procedure, in their order. */
const ARGUMENTS: Record<Procedure, (kind: Kind) => fc.Arbitrary<Given>[]> = {
  add: kind => [idsOf(kind), flag],
  remove: kind => [idsOf(kind)],
  get: () => [maxIds, lockFor, fromZero],
  did: kind => [idsOf(kind), flag, leaseOf(kind)],
  unlock: kind => [idsOf(kind), flag, leaseOf(kind)],
  bump: kind => [idsOf(kind), bumpFor, flag],
  extend: kind => [idsOf(kind), lockFor, leaseOf(kind)],
  fail: kind => [idsOf(kind), fromZero, leaseOf(kind)],
  check: kind => [idsOf(kind)],
  stats: () => [fc.oneof(fc.constant(same(null)), { weight: 4, arbitrary: thresholds })],
  next: () => [fromZero],
};
const READING: Procedure[] = ['check', 'stats', 'next'];

function callOf(kind: Kind, bys: Call['by'][]): fc.Arbitrary<Call> {
  const calls = (Object.keys(ARGUMENTS) as Procedure[]).map(procedure => ({
    weight: procedure === 'get' ? 3 : 1,
    arbitrary: fc
      .record({
        given: fc.tuple(...ARGUMENTS[procedure](kind)),
        by: fc.constantFrom(...bys),
        dryRun: READING.includes(procedure) ? fc.constant(false) : fc.constantFrom(false, false, false, true),
      })
      .map((call): Call => ({ procedure, ...call, dryRun: call.dryRun && call.by !== 'CALL' })),
  }));
  return fc.oneof(...calls);
}

function stepsOf(kind: Kind): fc.Arbitrary<(Call | Clock | Transaction)[]> {
  // The only connection of the pool is not the one that has a transaction open: it would wait for it.
  const inside = fc.oneof({ weight: 4, arbitrary: callOf(kind, ['CALL', 'the client']) }, clock);
  const transaction = fc.record<Transaction>({
    begin: fc.constantFrom('START TRANSACTION', 'SET autocommit = 0'),
    steps: fc.array(inside, { maxLength: 6, size: 'max' }),
    end: fc.constantFrom('COMMIT', 'ROLLBACK'),
  });
  const call = callOf(kind, ['CALL', 'the client', 'the client on a pool']);
  const step = fc.oneof({ weight: 16, arbitrary: call }, { weight: 4, arbitrary: clock }, transaction);
  return fc.array(step, { maxLength: LENGTH, size: 'max' });
}

function startOf(kind: Kind): fc.Arbitrary<Start[]> {
  const time = fc.constantFrom(null, null, 0, 1, -1, 60, -60, -3600, -3601, -7200, 3600);
  return fc.uniqueArray(
    fc.record({
      written: fc.constantFrom(...writtenOf(kind)),
      updated: time,
      until: time,
      failures: fc.constantFrom(0, 0, 0, 1, 10, 11, 12, 65_534, 65_535),
    }),
    { selector: ({ written }) => written.id, maxLength: kind.ids.length, size: 'max' },
  );
}

// One sequence, on a server and in the model.

/** What is in the loop: the model's rows, and how their ids are shown, or may be until that is seen in the table. */
class State {
  constructor(
    readonly model: Model,
    readonly shown: Map<number, string[]>,
  ) {}

  copy(): State {
    return new State(this.model.copy(), new Map(this.shown));
  }
}

const textOf = (id: unknown) => (Buffer.isBuffer(id) ? id.toString('hex').toUpperCase() : String(id));
const snakeCase = (name: string) => name.replaceAll(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
const camelCase = (name: string) => name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** A call of the typed client's, and its answer in the columns of the procedure's. */
async function callByClient(loop: DoLoop<LoopId>, { procedure, dryRun }: Call, args: unknown[]): Promise<Answer> {
  const { takes, answers } = SIGNATURES[procedure];
  const leading = ['ids', 'max_ids'].includes(takes[0]!) ? 1 : 0;
  const named = takes.map((name, i) => [camelCase(name), args[i]] as const).slice(leading);
  const options = Object.fromEntries(named.filter(([, value]) => value !== null));
  if (dryRun) options.dryRun = true;
  const method = loop[procedure].bind(loop) as unknown as (...args: unknown[]) => Promise<unknown>;
  const answer = await method(...args.slice(0, leading), options);
  if (answer instanceof Batch) return [...answer].map(id => ({ id, lock_until: answer.lease }));
  if (procedure === 'extend') return [Object.fromEntries(answers.map((name, i) => [name, Object.values(answer!)[i]]))];
  if (typeof answer !== 'object' || answer === null) return [{ [answers[0]!]: answer }];
  return (Array.isArray(answer) ? (answer as object[]) : [answer]).map(row =>
    Object.fromEntries(Object.entries(row).map(([name, value]) => [snakeCase(name), value])),
  );
}

/** Sessions, one loop, and how to hold it against the model. */
class Trial {
  readonly log: string[] = [];
  readonly #indexes: Map<string, number>;
  #now: State;
  /** What others see, while a transaction is open. */
  #committed: State | undefined;

  constructor(
    readonly kind: Kind,
    private readonly session: Connection,
    private readonly observer: Connection,
    private readonly pool: Pool,
    private readonly table: string,
  ) {
    this.#indexes = new Map(writtenOf(kind).map(({ shown, id }) => [shown, id!]));
    this.#now = new State(new Model(), new Map());
  }

  async run(start: Start[], steps: (Call | Clock | Transaction)[]): Promise<void> {
    try {
      await this.#begin(start);
      for (const step of steps) {
        if (!('begin' in step)) {
          await this.#step(step);
          continue;
        }
        this.#committed = this.#now.copy();
        await this.#say(step.begin);
        for (const inside of step.steps) await this.#step(inside);
        if (step.end === 'ROLLBACK') this.#now = this.#committed;
        this.#committed = undefined;
        await this.#say(step.end);
        await this.session.query('SET autocommit = 1');
        await this.#compareTable();
      }
    } catch (error) {
      throw new Error([...this.log, (error as Error).message].join('\n'), { cause: error });
    }
  }

  async #say(statement: string): Promise<void> {
    this.log.push(`${statement};`);
    await this.session.query(statement);
  }

  async #begin(start: Start[]): Promise<void> {
    const { model, shown } = this.#now;
    // One that failed before may have ended anywhere.
    for (const statement of ['ROLLBACK', 'SET autocommit = 1']) await this.session.query(statement);
    const isBinary = this.kind.idType.includes('BINARY');
    const time = (seconds: number | null) => (seconds === null ? null : NOW + seconds);
    const rows = start.map(({ written, updated, until, failures }): Required<RowValues> => {
      const row = { last_updated: time(updated), lock_until: time(until), failures };
      model.rows.set(written.id!, row);
      shown.set(written.id!, [written.shown]);
      const id = `${isBinary ? 'X' : ''}'${written.shown}'`;
      this.log.push(`INSERT INTO ${this.table} VALUES (${[id, ...Object.values(row).map(String)].join(', ')});`);
      return [isBinary ? Buffer.from(written.shown, 'hex') : written.shown, time(updated), time(until), failures];
    });
    await fill(this.session, this.table, rows);
    await this.#setClock(NOW);
    await this.#compareTable();
  }

  async #setClock(now: number): Promise<void> {
    this.#now.model.now = now;
    if (this.#committed) this.#committed.model.now = now;
    this.log.push(`SET timestamp = ${now};`);
    for (const target of [this.session, this.pool]) await setClock(target, now);
  }

  async #step(step: Call | Clock): Promise<void> {
    if ('clock' in step) await this.#setClock(this.#now.model.now + step.clock);
    else await this.#call(step);
    await this.#compareTable();
  }

  async #call(call: Call): Promise<void> {
    const { procedure, by, dryRun } = call;
    const { model, shown } = this.#now;
    const args = call.given.map(one => one(model));
    const written = args.map(({ sent }) => (typeof sent === 'string' ? `'${sent}'` : String(sent))).join(', ');
    this.log.push(`CALL ${this.table}_${procedure}(${written}); -- by ${by}${dryRun ? ', dryRun' : ''}`);

    let answer: Answer | Error;
    try {
      answer = (await this.#send(call, args)).map(row => this.#inModelsTerms(row, shown));
    } catch (error) {
      answer = error as Error;
    }
    const actor = dryRun ? model.copy() : model;
    const preferred = procedure === 'get' && !(answer instanceof Error) ? [answer.map(({ id }) => id)] : [];
    let expected: Answer;
    try {
      expected = actor.call(procedure, ...args.map(one => one.model), ...preferred);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      isRefusal(answer, error, by);
      return;
    }
    if (answer instanceof Error) throw answer;
    assert.deepEqual(answer, expected, `it does not answer what the model does`);
    if (!dryRun) this.#noteShown(args[0]?.shown);
  }

  #send(call: Call, args: Argument[]): Promise<Answer> {
    if (call.by === 'CALL') {
      return callProcedure(this.session, this.table, call.procedure, ...args.map(({ sent }) => sent));
    }
    const target = call.by === 'the client' ? this.session : this.pool;
    return callByClient(
      new DoLoop<LoopId>(target, this.table),
      call,
      args.map(({ client }) => client),
    );
  }

  #noteShown(given: Map<number, string[]> | undefined): void {
    const { model, shown } = this.#now;
    for (const id of shown.keys()) if (!model.rows.has(id)) shown.delete(id);
    for (const id of model.rows.keys()) if (!shown.has(id)) shown.set(id, given!.get(id)!);
  }

  /** With the numbers of the model for ids; each must be shown as it is in the table. */
  #inModelsTerms(row: Record<string, unknown>, shown: Map<number, string[]>): Record<string, unknown> {
    const terms: Record<string, unknown> = { ...row };
    for (const name of ['id', 'min_id', 'max_id']) {
      if (row[name] === undefined || row[name] === null) continue;
      const id = this.#indexes.get(textOf(row[name]));
      if (id !== undefined && shown.has(id)) assert.deepEqual([textOf(row[name])], shown.get(id));
      terms[name] = id ?? row[name];
    }
    if (typeof row.delayed === 'string') terms.delayed = JSON.parse(row.delayed);
    return terms;
  }

  /** The whole table, as the session sees it, and as others do. */
  async #compareTable(): Promise<void> {
    const { model, shown } = this.#now;
    const seen = await contents(this.session, this.table);
    for (const row of seen) {
      const written = textOf(row.id);
      const id = this.#indexes.get(written);
      // Of an id that came in in two spellings at once, either may stay.
      if (id !== undefined && shown.get(id)?.includes(written)) shown.set(id, [written]);
    }
    const expected = (state: State) =>
      state.model.ids.map(id => ({ id: state.shown.get(id)!.join(' or '), ...state.model.rows.get(id) }));
    const found = (all: typeof seen) => all.map(row => ({ ...row, id: textOf(row.id) }));
    assert.deepEqual(found(seen), expected(this.#now), 'the table is not as the model has it');
    assert.equal(shown.size, model.rows.size);
    assert.deepEqual(
      found(await contents(this.observer, this.table)),
      expected(this.#committed ?? this.#now),
      'the table, as others see it, is not as the model has it',
    );
  }
}

/** One clear error that names an argument that the model refuses, too. */
function isRefusal(answer: Answer | Error, { names }: Refused, by: Call['by']): void {
  assert.ok(answer instanceof Error, `it is not refused for ${names.join(' or ')}`);
  const { message, errno, sqlState } = answer as MySqlError;
  const begins = (name: string) =>
    message.startsWith(`${name}: `) || (by !== 'CALL' && message.startsWith(`${camelCase(name)}: `));
  assert.ok(names.some(begins), `${message} (does not begin with ${names.join(' or ')})`);
  if (by === 'CALL') {
    assert.deepEqual([errno, sqlState], [1644, '45000'], message);
    assert.ok(message.length <= 128, message);
  } else {
    const isItsOwn = answer instanceof DoLoopError && answer.code === 'REFUSED';
    assert.ok(isItsOwn || answer instanceof TypeError || answer instanceof RangeError, String(answer));
  }
}

for (const kind of KINDS) {
  test(`${kind.idType}: whatever is called in whatever order, answers and table are the model's`, async () => {
    const session = await connect(EXACT);
    const { table } = await makeLoop(session, { idType: kind.idType });
    const observer = await connect(EXACT);
    const pool = makePool({ ...EXACT, connectionLimit: 1 });
    const property = fc.asyncProperty(startOf(kind), stepsOf(kind), (start, steps) =>
      new Trial(kind, session, observer, pool, table).run(start, steps),
    );
    const found = await fc.check(property, { numRuns: SEQUENCES, ...(SEED !== undefined && { seed: Number(SEED) }) });
    if (!found.failed) return;
    const again = `DOLOOP_TEST_SEED=${found.seed} node dist/scripts/test.js model`;
    assert.fail(
      `sequence ${found.numRuns} fails; made shorter ${found.numShrinks} times it is this (${again}):\n` +
        (found.errorInstance as Error).message,
    );
  });
}
