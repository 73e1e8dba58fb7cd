/** Many connections do anything at once; the contract must explain what each was answered, and what is left in the end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection, Pool } from 'mysql2/promise';
import { type Argument, byClient, type Invoke, plainly, random } from '../scripts/bench/soak-common.js';
import { DoLoop } from '../src/index.js';
import type { Procedure } from '../src/render.js';
import { connect, contents, fill, makeLoop, makePool, type RowValues, rows } from './harness.js';
import { type Call, examine, type History, type Look, type Span } from './history.js';
import { quickOrLong } from './long.js';
import type { ModelRow } from './model.js';

/** Half of them make plain CALLs, half use the client on one pool. */
const WORKERS = 14;
const ROUNDS = quickOrLong(1, 12);
const CALLS = quickOrLong(50, 150);

/** Ids of which any call may be made; and those that come and go by `add` and `remove` alone. */
const ANY = 60;
const COUNTED = 30;
const idsUpTo = (n: number, first = 1) => Array.from({ length: n }, (_, i) => first + i);
const counted = idsUpTo(COUNTED, ANY + 1);

const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;

/** Some of these, in no order, perhaps twice; or just one. */
const some = (from: readonly number[]) => idsUpTo(random(3) === 0 ? 1 : 1 + random(5)).map(() => pick(from));

/** What a worker may do with ids; what it got before, under a lease, and an older lease, which is wrong. */
const DOING: [Procedure, ...Argument[]][] = [
  ['did', null],
  ['did', false],
  ['unlock', null],
  ['unlock', false],
  ['bump', 0, null],
  ['bump', -30, false],
  ['bump', 1, null],
  ['fail', 0],
  ['fail', 1],
  ['extend', 1],
  ['extend', 3600],
  ['add', true],
  ['add', null],
  ['remove'],
  ['check'],
];

/** Makes calls, and writes down what comes of them. */
class Worker {
  #got: { ids: number[]; lease: number | null } = { ids: [], lease: null };
  #lease: number | null = null;

  constructor(
    private readonly name: string,
    private readonly invoke: Invoke,
    private readonly day: Day,
  ) {}

  async get(maxIds: number): Promise<void> {
    this.#lease = this.#got.lease;
    const { ids, lease } = await this.#call('get', maxIds, pick([1, 2, 3600]), pick([0, 0, 1, 2]));
    this.#got = { ids, lease };
  }

  /** Ends, or goes on with, what it got; mostly under its lease. */
  async finish(): Promise<void> {
    const { ids, lease } = this.#got;
    if (ids.length === 0) return;
    const given = pick([lease, lease, lease, this.#lease, null]);
    const [procedure, ...args] = pick<[Procedure, ...Argument[]]>([
      ['did', false, given],
      ['unlock', false, given],
      ['fail', 0, given],
      ['extend', pick([1, 3600]), given],
    ]);
    const { lease: longer } = await this.#call(procedure, ids, ...args);
    if (procedure === 'extend') this.#got.lease = longer ?? lease;
  }

  /** Anything, with anybody's ids. */
  async meddle(): Promise<void> {
    const [procedure, ...args] = pick(DOING);
    const adds = ['did', 'unlock', 'bump'].includes(procedure) && !args.includes(false);
    await this.#call(procedure, some(adds || random(2) === 0 ? idsUpTo(ANY) : counted), ...args);
  }

  async #call(procedure: Procedure, ...args: Argument[]): Promise<Awaited<ReturnType<Invoke>>> {
    const { answer, span } = await this.day.observe(() => this.invoke(procedure, ...args));
    this.day.calls.push({ by: this.name, procedure, args, answer, ...span });
    return answer;
  }
}

/** What happened in one loop. */
class Day {
  readonly calls: Call[] = [];
  readonly looks: Look[] = [];
  #ticks = 0;

  constructor(private readonly clock: Pool) {}

  async observe<T>(ask: () => Promise<T>): Promise<{ answer: T; span: Span }> {
    const from = await this.#time();
    this.#ticks += 1;
    const sent = this.#ticks;
    const answer = await ask();
    this.#ticks += 1;
    return { answer, span: { sent, answered: this.#ticks, from, to: await this.#time() } };
  }

  async look(loop: DoLoop): Promise<void> {
    const { answer, span } = await this.observe(() => loop.stats({ delayThresholds: [60] }));
    const { bumped, locked, total, neverUpdated } = answer;
    this.looks.push({ counts: { bumped, locked, total, neverUpdated }, ...span });
  }

  async #time(): Promise<number> {
    return (await rows(this.clock, 'SELECT UNIX_TIMESTAMP() AS time'))[0]!.time as number;
  }
}

const root = await connect();
const pool = makePool({ connectionLimit: WORKERS / 2 + 1 });
const clock = makePool({ connectionLimit: WORKERS + 1 });
const sessions = await Promise.all(Array.from({ length: WORKERS / 2 }, () => connect()));

async function tableOf(connection: Connection, table: string): Promise<Map<number, ModelRow>> {
  return new Map((await contents(connection, table)).map(({ id, ...row }) => [id as number, row]));
}

/** A loop in which there is some of everything, many that do with it what `live` says, and what came of it. */
async function history(live: (workers: Worker[], day: Day, loop: DoLoop) => Promise<unknown>): Promise<History> {
  const { table } = await makeLoop(root);
  const loop = new DoLoop(pool, table);
  const [now] = (await rows(root, 'SELECT UNIX_TIMESTAMP() AS time')) as [{ time: number }];
  const before = (seconds: number) => now.time - seconds;
  await fill(
    root,
    table,
    [...idsUpTo(ANY), ...counted]
      .filter(() => random(4) > 0)
      .map(
        (id): RowValues => [
          id,
          pick([null, before(random(100)), before(random(100)), before(-1)]),
          pick([null, null, before(random(20) - 3)]),
          random(3),
        ],
      ),
  );
  const start = await tableOf(root, table);
  const day = new Day(clock);
  const workers = [
    ...sessions.map((session, i) => new Worker(`session ${i + 1}`, plainly(session, table), day)),
    ...sessions.map((_, i) => new Worker(`client ${i + 1}`, byClient(loop), day)),
  ];
  await live(workers, day, loop);
  return { start, calls: day.calls, looks: day.looks, end: await tableOf(root, table) };
}

/** How many pairs of ids of what its gets gave and might have given could be held against each other. */
function assertExplained(all: History): number {
  const { violations, compared } = examine(all);
  assert.equal(violations.slice(0, 3).join('\n'), '', `${violations.length} violations in ${all.calls.length} calls`);
  return compared;
}

const repeat = async (times: number, once: () => Promise<unknown>) => {
  for (let i = 0; i < times; i += 1) await once();
};

test('whatever 14 connections do at once, each answer and the end are explained by some order of their calls', async () => {
  await repeat(ROUNDS, async () => {
    assertExplained(
      await history((workers, day, loop) =>
        Promise.all([
          ...workers.map(worker =>
            repeat(CALLS, () => {
              const choice = random(10);
              if (choice < 3) return worker.get(pick([0, 1, 1, 2, 5, 20]));
              return choice < 6 ? worker.finish() : worker.meddle();
            }),
          ),
          repeat(CALLS / 2, () => day.look(loop)),
        ]),
      ),
    );
  });
});

test('while 13 connections change what they like, what get gives goes before all that nobody touched meanwhile', async () => {
  let compared = 0;
  await repeat(ROUNDS, async () => {
    compared += assertExplained(
      await history(async ([getter, ...others], day, loop) => {
        let working = others.length;
        await Promise.all([
          ...others.map(worker =>
            repeat(CALLS, () => worker.meddle()).finally(() => {
              working -= 1;
            }),
          ),
          (async () => {
            do {
              await getter!.get(pick([1, 2, 5, 20]));
              await getter!.finish();
              await day.look(loop);
            } while (working > 0);
          })(),
        ]);
      }),
    );
  });
  assert.ok(compared > 0, 'nothing could be compared');
});
