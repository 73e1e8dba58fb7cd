/** The checker of histories: it finds what the contract does not explain, and takes what it does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Argument } from '../../scripts/bench/soak-common.js';
import type { Procedure } from '../../src/render.js';
import { type Call, examine, type History, type Look } from '../history.js';
import type { ModelRow } from '../model.js';

/** The server's clock, where nothing is said of it. */
const NOW = 10_000;
const HOUR = 3600;
const LEASE = NOW + HOUR;

const row = (last_updated: number | null = null, lock_until: number | null = null, failures = 0): ModelRow => ({
  last_updated,
  lock_until,
  failures,
});
const NEVER = row();
const OLD = row(NOW - 9000);
const OLDER = row(NOW - 9001);
const LOCKED = row(null, LEASE);
const DONE = row(NOW);
const BUMPED = row(null, NOW);

interface When {
  sent: number;
  answered: number;
  from?: number;
  to?: number;
}
const at = (sent: number, answered = sent + 1, from = NOW, to = from): When => ({ sent, answered, from, to });
const span = ({ sent, answered, from = NOW, to = NOW }: When) => ({ sent, answered, from, to });

/** A call that answers a count. */
const call = (when: When, procedure: Procedure, ids: number[], count: number, ...args: Argument[]): Call => ({
  ...span(when),
  by: 'somebody',
  procedure,
  args: [ids, ...args],
  answer: { count, ids: [], lease: null },
});

/** A get for an hour. */
const get = (when: When, maxIds: number, ids: number[], lease: number | null = LEASE): Call => ({
  ...span(when),
  by: 'somebody',
  procedure: 'get',
  args: [maxIds, HOUR, HOUR],
  answer: { count: ids.length, ids, lease: ids.length > 0 ? lease : null },
});

const extend = (when: When, ids: number[], count: number, lease: number | null): Call => ({
  ...call(when, 'extend', ids, count, HOUR, null),
  answer: { count, ids: [], lease },
});

const look = (when: When, counts: Partial<Look['counts']>): Look => ({
  ...span(when),
  counts: { total: 1, neverUpdated: 1, bumped: 0, locked: 0, ...counts },
});

interface Made {
  title: string;
  start?: Record<number, ModelRow>;
  calls?: Call[];
  looks?: Look[];
  end?: Record<number, ModelRow>;
}

const rowsOf = (rows: Record<number, ModelRow>) => new Map(Object.entries(rows).map(([id, its]) => [Number(id), its]));
const history = ({ start = {}, calls = [], looks = [], end = start }: Made): History => ({
  start: rowsOf(start),
  calls,
  looks,
  end: rowsOf(end),
});

const FAULTS: (Made & { why: RegExp })[] = [
  {
    title: 'an id is in two live leases',
    start: { 1: NEVER },
    calls: [get(at(1), 1, [1]), get(at(3), 1, [1])],
    end: { 1: LOCKED },
    why: /^id 1: nothing explains 3–4 .*get/,
  },
  {
    title: 'of two gets at once both give an id',
    start: { 1: NEVER },
    calls: [get(at(1, 3), 1, [1]), get(at(2, 4), 1, [1])],
    end: { 1: LOCKED },
    why: /^id 1: nothing explains 3?[12]–[34] .*get/,
  },
  {
    title:
      'an id is given once more by a get that ended before its lock did, and after an unlock that was refused its lease',
    start: { 1: NEVER },
    calls: [
      get(at(1), 1, [1]),
      call(at(3), 'unlock', [1], 0, null, LEASE - 1),
      get(at(5, 6, LEASE - 1), 1, [1], LEASE - 1 + HOUR),
    ],
    end: { 1: row(null, LEASE - 1 + HOUR) },
    why: /^id 1: nothing explains 5–6 .*get/,
  },
  {
    title: 'an id is opened by who has lost its lease',
    start: { 1: LOCKED },
    calls: [call(at(1), 'unlock', [1], 1, null, LEASE - 1)],
    end: { 1: NEVER },
    why: /nothing explains 1–2 .*unlock/,
  },
  { title: 'an id is lost', start: { 1: NEVER }, end: {}, why: /^id 1: nothing explains in the end it is null/ },
  { title: 'an id is there that nobody added', end: { 1: NEVER }, why: /^id 1: nothing explains in the end/ },
  ...(
    [
      ['add', NEVER, undefined, [null]],
      ['remove', NEVER, NEVER, []],
      ['did', LOCKED, LOCKED, [null, null]],
      ['did', NEVER, row(NOW - 1), [null, null]],
      ['unlock', LOCKED, LOCKED, [null, null]],
      ['bump', NEVER, NEVER, [0, null]],
      ['fail', LOCKED, LOCKED, [60, null]],
    ] as [Procedure, ModelRow, ModelRow | undefined, Argument[]][]
  ).map(([procedure, before, after, args]) => ({
    title: `${procedure} was answered, and ${JSON.stringify(after)} is left`,
    start: procedure === 'add' ? {} : { 1: before },
    calls: [call(at(1), procedure, [1], 1, ...args)],
    end: after ? { 1: after } : {},
    why: /^id 1: nothing explains in the end/,
  })),
  {
    title: 'a bump is lost: a did with the lease opens a lock that is no longer that',
    start: { 1: LOCKED },
    calls: [call(at(1), 'bump', [1], 1, 0, null), call(at(3), 'did', [1], 1, null, LEASE)],
    end: { 1: DONE },
    why: /^id 1: nothing explains in the end/,
  },
  {
    title: 'check does not see what was added',
    calls: [call(at(1), 'add', [1], 1, null), call(at(3), 'check', [1], 0)],
    end: { 1: NEVER },
    why: /nothing explains 3–4 .*check/,
  },
  {
    title: 'a lease is not the time that was asked for',
    start: { 1: NEVER },
    calls: [get(at(1), 1, [1], LEASE + 1)],
    end: { 1: row(null, LEASE + 1) },
    why: /nothing explains 1–2 .*get/,
  },
  {
    title: 'extend answers another lease than there is',
    start: { 1: row(null, NOW + 5) },
    calls: [extend(at(1), [1], 1, LEASE + 9)],
    end: { 1: LOCKED },
    why: /nothing explains 1–2 .*extend/,
  },
  {
    title: 'add counts one that was in',
    start: { 1: NEVER, 2: NEVER },
    calls: [call(at(1), 'add', [1, 2, 3], 2, null)],
    end: { 1: NEVER, 2: NEVER, 3: NEVER },
    why: /^1 to 1 are to be counted: 1–2 .*add/,
  },
  {
    title: 'two at once add the same, and neither counts it',
    calls: [call(at(1, 3), 'add', [1, 2, 3], 1, null), call(at(2, 4), 'add', [1, 2, 4], 1, null)],
    end: { 1: NEVER, 2: NEVER, 3: NEVER, 4: NEVER },
    why: /^added less removed, 2 ids should be in; 4 are/,
  },
  {
    title: 'two at once remove the same, and both count it',
    start: { 1: NEVER, 2: NEVER, 3: NEVER, 4: NEVER },
    calls: [call(at(1, 3), 'remove', [1, 2, 3], 2), call(at(2, 4), 'remove', [1, 2, 4], 3)],
    end: {},
    why: /^added less removed, -1 ids should be in; 0 are/,
  },
  {
    title: 'get gives the later of two, and leaves out the one that waited longer',
    start: { 1: OLD, 2: OLDER },
    calls: [get(at(1), 1, [1])],
    end: { 1: row(NOW - 9000, LEASE), 2: OLDER },
    why: /^2 goes before 1, and was left out/,
  },
  {
    title: 'get gives a stale one, and leaves out one that was never updated',
    start: { 1: OLD, 2: NEVER },
    calls: [get(at(1), 1, [1])],
    end: { 1: row(NOW - 9000, LEASE), 2: NEVER },
    why: /^2 goes before 1, and was left out/,
  },
  {
    title: 'get gives one that was never updated, and leaves out one that was bumped before it began',
    start: { 1: NEVER, 2: NEVER },
    calls: [call(at(1), 'bump', [2], 1, 0, null), get(at(3), 1, [1])],
    end: { 1: LOCKED, 2: BUMPED },
    why: /^2 goes before 1, and was left out/,
  },
  {
    title: 'get gives fewer than it was asked for, and leaves one out',
    start: { 1: NEVER, 2: NEVER },
    calls: [get(at(1), 5, [1])],
    end: { 1: LOCKED, 2: NEVER },
    why: /^2 was to be had, and was left out/,
  },
  {
    title: 'get gives nothing, and there was something',
    start: { 1: NEVER },
    calls: [get(at(1), 5, [])],
    why: /^1 was to be had, and was left out/,
  },
  {
    title: 'get answers in another order',
    start: { 1: NEVER, 2: BUMPED },
    calls: [get(at(1), 5, [1, 2])],
    end: { 1: LOCKED, 2: LOCKED },
    why: /^2 goes before 1: /,
  },
  {
    title: 'get gives more than it was asked for',
    start: { 1: NEVER, 2: NEVER },
    calls: [get(at(1), 1, [1, 2])],
    end: { 1: LOCKED, 2: LOCKED },
    why: /^it gives too many ids/,
  },
  {
    title: 'get gives an id twice',
    start: { 1: NEVER },
    calls: [get(at(1), 2, [1, 1])],
    end: { 1: LOCKED },
    why: /^it gives an id twice/,
  },
  {
    title: 'stats misses a row',
    start: { 1: NEVER },
    looks: [look(at(1), { total: 0 })],
    why: /^stats: total is 0, not 1 to 1/,
  },
  {
    title: 'stats counts what is gone',
    start: { 1: NEVER, 2: NEVER },
    calls: [call(at(1), 'remove', [2], 1)],
    looks: [look(at(3), { total: 2 })],
    end: { 1: NEVER },
    why: /^stats: total is 2, not 1 to 1/,
  },
  {
    title: 'stats takes what is locked for bumped',
    start: { 1: LOCKED },
    looks: [look(at(1), { bumped: 1, locked: 0 })],
    why: /^stats: bumped is 1, not 0 to 0/,
  },
  {
    title: 'stats counts an updated one among those that never were',
    start: { 1: OLD },
    looks: [look(at(1), { neverUpdated: 1 })],
    why: /^stats: neverUpdated is 1, not 0 to 0/,
  },
];
for (const { title, why, ...made } of FAULTS) {
  test(`found: ${title}`, () => {
    const { violations } = examine(history({ title, ...made }));
    assert.ok(
      violations.some(one => why.test(one)),
      violations.join('\n') || 'nothing is found',
    );
  });
}

const FINE: Made[] = [
  { title: 'nothing happens', start: { 1: OLD, 2: LOCKED } },
  {
    title: 'an id is given once more at the second in which its lock ends',
    start: { 1: NEVER },
    calls: [get(at(1), 1, [1]), get(at(3, 4, LEASE), 1, [1], LEASE + HOUR)],
    end: { 1: row(null, LEASE + HOUR) },
  },
  {
    title: 'an id is given once more after an unlock, of which only its beginning came before',
    start: { 1: NEVER },
    calls: [get(at(1), 1, [1]), call(at(3, 6), 'unlock', [1], 1, null, null), get(at(4), 1, [1])],
    end: { 1: LOCKED },
  },
  ...[DONE, row(NOW, NOW)].map(end => ({
    title: `a did and a bump at once leave ${JSON.stringify(end)}`,
    start: { 1: LOCKED },
    calls: [call(at(1, 3), 'did', [1], 1, null, null), call(at(2, 4), 'bump', [1], 1, 0, null)],
    end: { 1: end },
  })),
  {
    title: 'a did is no longer seen, since the id was removed and added later',
    start: { 1: NEVER },
    calls: [call(at(1), 'did', [1], 1, null, null), call(at(3), 'remove', [1], 1), call(at(5), 'add', [1], 1, null)],
    end: { 1: NEVER },
  },
  {
    title: 'a call that took seconds may have been at any of them',
    start: { 1: NEVER },
    calls: [call(at(1, 2, NOW, NOW + 3), 'did', [1], 1, null, null)],
    end: { 1: row(NOW + 2) },
  },
  {
    title: 'get leaves out what somebody else does something with meanwhile',
    start: { 1: NEVER, 2: BUMPED },
    calls: [get(at(1, 4), 1, [1]), call(at(2, 5), 'add', [2], 0, null)],
    end: { 1: LOCKED, 2: BUMPED },
  },
  {
    title: 'get leaves out what another get looks at meanwhile',
    start: { 1: NEVER, 2: BUMPED },
    calls: [get(at(1, 4), 1, [1]), get(at(2, 3), 0, [])],
    end: { 1: LOCKED, 2: BUMPED },
  },
  {
    title: 'of equals get may give either',
    start: { 1: OLD, 2: OLD },
    calls: [get(at(1), 1, [2])],
    end: { 1: OLD, 2: row(NOW - 9000, LEASE) },
  },
  {
    title: 'a get that wants more claims an id again that somebody unlocks meanwhile',
    start: { 1: NEVER },
    calls: [get(at(1, 10), 5, [1]), call(at(3, 6), 'unlock', [1], 1, null, null)],
    end: { 1: LOCKED },
  },
  {
    title: 'two at once add the same, and one of them counts it',
    calls: [call(at(1, 3), 'add', [1, 2, 3], 1, null), call(at(2, 4), 'add', [1, 2, 4], 3, null)],
    end: { 1: NEVER, 2: NEVER, 3: NEVER, 4: NEVER },
  },
  {
    title: 'stats counts what is being added, or does not',
    start: { 1: NEVER },
    calls: [call(at(1, 4), 'add', [2, 3], 2, null)],
    looks: [look(at(2), { total: 1, neverUpdated: 3 })],
    end: { 1: NEVER, 2: NEVER, 3: NEVER },
  },
];
for (const made of FINE) {
  test(`taken: ${made.title}`, () => assert.deepEqual(examine(history(made)).violations, []));
}

test('what get gave and what it might have given are held against each other only where nobody else may have had a hand in it', () => {
  const start = { 1: BUMPED, 2: NEVER, 3: OLD, 4: LOCKED, 5: NEVER };
  const others = [call(at(2, 5), 'add', [5], 0, null)];
  const made = { title: '', start, calls: [get(at(1, 4), 1, [1]), ...others], end: { ...start, 1: LOCKED } };
  assert.deepEqual(examine(history(made)), { violations: [], compared: 2 }); // 1 with 2 and 3
});
