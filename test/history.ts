/**
 * What many did at once with a loop, as they saw it, and whether the contract explains it: each call did to each id what
 * the {@link Model} does, at some moment between its beginning and its end.
 */
import { inspect } from 'node:util';
import type { Answer, Argument } from '../scripts/bench/soak-common.js';
import type { Stats } from '../src/index.js';
import type { Procedure } from '../src/render.js';
import { comparePriorities, Model, type ModelRow, priority } from './model.js';

/** When something was asked and answered. */
export interface Span {
  /** Places in the one order of all that was sent and answered: what was answered before another was sent came before it. */
  sent: number;
  answered: number;
  /** The server's clock, s, at a moment before it was sent, and at one after it was answered. */
  from: number;
  to: number;
}

export interface Call extends Span {
  by: string;
  procedure: Procedure;
  args: readonly Argument[];
  answer: Answer;
}

/** The counts of a `stats`, with a threshold. */
export interface Look extends Span {
  counts: Pick<Stats<number>, 'bumped' | 'locked' | 'total' | 'neverUpdated'>;
}

export interface History {
  start: ReadonlyMap<number, ModelRow>;
  calls: readonly Call[];
  looks: readonly Look[];
  end: ReadonlyMap<number, ModelRow>;
}

export interface Findings {
  /** What the contract does not explain. Empty: all is well. */
  violations: string[];
  /** How many pairs of ids could be held against each other: one that `get` gave, and one that it might have given. */
  compared: number;
}

/** A row, or none. */
type State = ModelRow | null;

/** From one call's beginning or end to the next: what an id may have been, and whether any call was under way. */
interface Stretch {
  after: number;
  before: number;
  states: State[];
  isQuiet: boolean;
}

const show = (value: unknown) => inspect(value, { breakLength: Number.POSITIVE_INFINITY, compact: 9 });
const showCall = ({ by, procedure, args, answer, sent, answered, from, to }: Call) =>
  `${sent}–${answered} (${from}–${to}) ${by}: ${procedure}(${args.map(show).join(', ')}) → ${show(answer)}`;

const overlap = (a: Span, b: Span) => a.sent < b.answered && b.sent < a.answered;

function secondsOf({ from, to }: Span): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

/** The ids that a call has to do with; of `get`, those that it gave. */
function idsOf({ procedure, args, answer }: Call): number[] {
  if (procedure === 'get') return answer.ids;
  const [ids] = args;
  return [...new Set((typeof ids === 'number' ? [ids] : ids) as number[])];
}

/** What a call may have made of one id: the row afterwards, and what it counts of the answer. */
function outcomes(call: Call, id: number, before: State): { state: State; count: number }[] {
  const { procedure, args, answer } = call;
  const [, second = null, third = null] = args;
  const n = idsOf(call).length;
  return secondsOf(call).flatMap(now => {
    const model = new Model(new Map(before ? [[id, { ...before }]] : []), now);
    const [row] = model.call(procedure, procedure === 'get' ? 1 : [id], second, third);
    const state = model.rows.get(id) ?? null;
    const count =
      procedure === 'get' || procedure === 'check' ? Number(row !== undefined) : Number(Object.values(row!)[0]);
    if (procedure === 'get' && (count === 0 || row!.lock_until !== answer.lease)) return [];
    if (procedure === 'check' && count !== Number(answer.ids.includes(id))) return [];
    if (procedure === 'extend' && count === 1 && row!.lock_until !== answer.lease) return [];
    // Of a part of the ids it is not said which.
    if (answer.count === 0 && count === 1) return [];
    if (answer.count === n && count === 0) return [];
    return [{ state, count }];
  });
}

/** What is known of one id. */
class Story {
  readonly stretches: Stretch[] = [];
  /** The least and the most that each call may have counted for it. */
  readonly counts = new Map<Call, { least: number; most: number }>();
  violation: string | undefined;

  constructor(
    readonly id: number,
    readonly calls: readonly Call[],
    start: State,
    end: State,
  ) {
    this.#tell(start, end);
  }

  /** What it may have been at any moment of this. */
  during({ sent, answered }: Span): State[] {
    return this.stretches.filter(({ after, before }) => after < answered && sent < before).flatMap(one => one.states);
  }

  /** What it may have been all through this, if nobody did anything with it. */
  unchangedDuring({ sent, answered }: Span): State[] | undefined {
    return this.stretches.find(({ after, before, isQuiet }) => isQuiet && after < sent && answered < before)?.states;
  }

  /** What it may have been before this call, if nobody else did anything with it from then on until its end. */
  before(call: Call): State[] | undefined {
    if (this.calls.some(other => other !== call && overlap(other, call))) return undefined;
    return this.stretches.find(({ before }) => before === call.sent)?.states;
  }

  /**
   * Goes through what was sent and answered, in order, with all that may be: each state, and which of the calls that are
   * under way have brought it about. Where a call is answered, only those remain that it had a part in.
   */
  #tell(start: State, end: State): void {
    const events = this.calls.flatMap(call => [
      { at: call.sent, call, begins: true },
      { at: call.answered, call, begins: false },
    ]);
    events.sort((a, b) => a.at - b.at);
    let possible: Possible[] = [{ state: start, done: [] }];
    let under: Call[] = [];
    let after = Number.NEGATIVE_INFINITY;
    const noteUntil = (before: number) => {
      this.stretches.push({ after, before, states: possible.map(({ state }) => state), isQuiet: under.length === 0 });
      after = before;
    };
    for (const { at, call, begins } of events) {
      noteUntil(at);
      if (begins) {
        under = [...under, call];
        possible = this.#goOn(possible, under);
        continue;
      }
      under = under.filter(one => one !== call);
      const explained = possible.filter(({ done }) => done.includes(call));
      if (explained.length === 0) {
        this.violation = this.#unexplained(showCall(call), possible, at);
        return;
      }
      possible = distinct(explained.map(({ state, done }) => ({ state, done: done.filter(one => one !== call) })));
    }
    noteUntil(Number.POSITIVE_INFINITY);
    if (!possible.some(({ state }) => keyOf(state) === keyOf(end))) {
      this.violation = this.#unexplained(`in the end it is ${show(end)}`, possible, after);
    }
  }

  /** All that may come of what may be, by calls that are under way. */
  #goOn(possible: Possible[], under: Call[]): Possible[] {
    const found = new Map(possible.map(one => [keyOf(one.state, one.done, under), one]));
    for (const { state, done } of found.values()) {
      for (const call of under) {
        // A get that wants more may claim an id once more that somebody unlocks meanwhile.
        if (done.includes(call) && call.procedure !== 'get') continue;
        for (const { state: next, count } of outcomes(call, this.id, state)) {
          const counted = this.counts.get(call) ?? { least: count, most: count };
          this.counts.set(call, { least: Math.min(counted.least, count), most: Math.max(counted.most, count) });
          const one = { state: next, done: done.includes(call) ? done : [...done, call] };
          const key = keyOf(next, one.done, under);
          if (!found.has(key)) found.set(key, one);
        }
      }
    }
    return [...found.values()];
  }

  #unexplained(what: string, possible: Possible[], at: number): string {
    const before = this.calls.filter(({ sent }) => sent <= at).slice(-12);
    return [
      `id ${this.id}: nothing explains ${what}`,
      `  before, it was ${[...new Set(possible.map(({ state }) => show(state)))].join(' or ')}`,
      ...before.map(call => `  ${showCall(call)}`),
    ].join('\n');
  }
}

/** A state, and which of the calls under way have had their part in it. */
interface Possible {
  state: State;
  done: Call[];
}

function keyOf(state: State, done: Call[] = [], under: Call[] = []): string {
  const row = state ? [state.last_updated, state.lock_until, state.failures].join() : 'none';
  return `${row};${under.map(call => Number(done.includes(call))).join('')}`;
}

function distinct(all: Possible[]): Possible[] {
  const under = [...new Set(all.flatMap(({ done }) => done))];
  return [...new Map(all.map(one => [keyOf(one.state, one.done, under), one])).values()];
}

/** Holds a history against the contract. */
export function examine(history: History): Findings {
  const { start, calls, looks, end } = history;
  const ofId = new Map<number, Call[]>([...start.keys(), ...end.keys()].map(id => [id, []]));
  for (const call of calls) {
    if (call.procedure === 'stats' || call.procedure === 'next') continue;
    for (const id of idsOf(call)) ofId.set(id, [...(ofId.get(id) ?? []), call]);
  }
  const stories = new Map(
    [...ofId].map(([id, its]) => [id, new Story(id, its, start.get(id) ?? null, end.get(id) ?? null)]),
  );
  const violations = [...stories.values()].flatMap(({ violation }) => violation ?? []);
  for (const call of calls) violations.push(...countsOf(call, stories));
  violations.push(...balanceOf(history));
  for (const look of looks) violations.push(...looksWrong(look, stories));
  const gets = calls.filter(({ procedure }) => procedure === 'get');
  let compared = 0;
  for (const get of gets) {
    violations.push(...answersWrong(get));
    // What another one looks at, it locks for a moment, and gets pass over what is locked.
    if (gets.some(other => other !== get && overlap(other, get))) continue;
    const found = priorities(get, stories);
    violations.push(...found.violations);
    compared += found.compared;
  }
  return { violations, compared };
}

/** A count is what the call did to its ids, taken together. */
function countsOf(call: Call, stories: Map<number, Story>): string[] {
  if (['get', 'check', 'stats', 'next'].includes(call.procedure)) return [];
  let [least, most] = [0, 0];
  for (const id of idsOf(call)) {
    const counted = stories.get(id)!.counts.get(call);
    least += counted?.least ?? 0;
    most += counted?.most ?? 1;
  }
  const { count } = call.answer;
  return count < least || count > most ? [`${least} to ${most} are to be counted: ${showCall(call)}`] : [];
}

/** What was added, less what was removed, is there: of the ids that only `add` puts in, since other calls don't count that. */
function balanceOf({ start, calls, end }: History): string[] {
  const adds = ({ procedure, args }: Call) =>
    procedure === 'bump' ? args[2] !== false : ['did', 'unlock'].includes(procedure) && args[1] !== false;
  const others = new Set(calls.filter(adds).flatMap(idsOf));
  const counting = calls.filter(({ procedure }) => procedure === 'add' || procedure === 'remove');
  const counted = counting.filter(call => idsOf(call).every(id => !others.has(id)));
  // It is not known how much of a count is of which of its ids.
  if (counting.some(call => !counted.includes(call) && idsOf(call).some(id => !others.has(id)))) return [];
  const number = (rows: ReadonlyMap<number, ModelRow>) => [...rows.keys()].filter(id => !others.has(id)).length;
  const sum = (one: Procedure) =>
    counted.filter(({ procedure }) => procedure === one).reduce((all, { answer }) => all + answer.count, 0);
  const expected = number(start) + sum('add') - sum('remove');
  return expected === number(end) ? [] : [`added less removed, ${expected} ids should be in; ${number(end)} are`];
}

/** What stats counts was there at some moment. */
function looksWrong(look: Look, stories: Map<number, Story>): string[] {
  const tests: Record<keyof Look['counts'], (row: ModelRow, now: number) => boolean> = {
    total: () => true,
    neverUpdated: row => row.last_updated === null,
    bumped: (row, now) => row.lock_until !== null && row.lock_until <= now,
    locked: (row, now) => row.lock_until !== null && row.lock_until > now,
  };
  return (Object.keys(tests) as (keyof Look['counts'])[]).flatMap(name => {
    let [least, most] = [0, 0];
    for (const story of stories.values()) {
      // Of one that has no explanation, nothing is known.
      const may = story.violation
        ? [false, true]
        : story.during(look).flatMap(state => secondsOf(look).map(now => state !== null && tests[name](state, now)));
      if (may.every(one => one)) least += 1;
      if (may.some(one => one)) most += 1;
    }
    const count = look.counts[name]!;
    return count < least || count > most ? [`stats: ${name} is ${count}, not ${least} to ${most}: ${show(look)}`] : [];
  });
}

function answersWrong(get: Call): string[] {
  const { ids } = get.answer;
  if (ids.length > Number(get.args[0])) return [`it gives too many ids: ${showCall(get)}`];
  return new Set(ids).size < ids.length ? [`it gives an id twice: ${showCall(get)}`] : [];
}

/**
 * The order of what one get gave; and whether it left out what it had to give: an id with which nobody else did
 * anything while it ran, that was to be had, and that goes before one that it gave, or before none if it gave fewer than
 * were wanted. Only ids of which it is known what they were are held against each other.
 */
function priorities(get: Call, stories: Map<number, Story>): Findings {
  const { args, answer } = get;
  const [maxIds, lockFor, minLoopTime] = args.map(one => (one === null ? 3600 : Number(one))) as [
    number,
    number,
    number,
  ];
  const times = answer.lease === null ? secondsOf(get) : [answer.lease - lockFor];
  /** By a state; null: it may not be had, or not be sure to be. */
  const sure = (states: State[] | undefined) => {
    if (states?.length !== 1 || states[0] === null) return null;
    const all = times.map(now => priority(states[0]!, now, minLoopTime));
    return all.every(one => one !== null) ? all[0]! : null;
  };
  const violations: string[] = [];
  let compared = 0;
  const given = answer.ids.flatMap(id => {
    const its = sure(stories.get(id)!.before(get));
    return its ? [{ id, its }] : [];
  });
  for (const [i, { id, its }] of given.entries()) {
    const next = given[i + 1];
    if (next && comparePriorities(its, next.its) > 0) violations.push(`${next.id} goes before ${id}: ${showCall(get)}`);
  }
  const isFull = answer.ids.length === maxIds;
  for (const [id, story] of stories) {
    const its = sure(story.unchangedDuring(get));
    if (!its || maxIds === 0) continue;
    compared += given.length;
    if (!isFull) violations.push(`${id} was to be had, and was left out: ${showCall(get)}`);
    for (const other of given) {
      if (comparePriorities(its, other.its) < 0) {
        violations.push(`${id} goes before ${other.id}, and was left out: ${showCall(get)}`);
      }
    }
  }
  return { violations, compared };
}
