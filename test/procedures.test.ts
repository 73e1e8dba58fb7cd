/** The eleven procedures, called by plain SQL: what they take, what they answer, what they leave in the table. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROCEDURES, type Procedure } from '../src/render.js';
import {
  callProcedure,
  connect,
  connectFrozen,
  database,
  fill,
  fullRows,
  makeLoop,
  NOW,
  type RowValues,
  rows,
  rowsOf,
  SIGNATURES,
  setClock,
  TAKING_IDS,
} from './harness.js';

const HOUR = 3600;
const DAY = 86_400;
const MAX_SECONDS = 2_147_483_647;
const ALL = 1000;

const connection = await connectFrozen();
const { table } = await makeLoop(connection);

const call = (procedure: Procedure, ...args: unknown[]) => callProcedure(connection, table, procedure, ...args);
const given = (...before: RowValues[]) => fill(connection, table, before);
const state = () => rowsOf(connection, table);
const ids = (answer: Record<string, unknown>[]) => answer.map(row => row.id);
const byId = (some: RowValues[]) => fullRows(some).sort(([a], [b]) => (a as number) - (b as number));

/** One call: the rows before it, what it answers, the rows after it; the same as before, where these are left out. */
interface Case {
  before?: RowValues[];
  call: [Procedure, ...unknown[]];
  answers: Record<string, unknown>[];
  after?: RowValues[];
}

function calls(title: string, { before = [], call: [procedure, ...args], answers, after = before }: Case): void {
  test(title, async () => {
    await given(...before);
    assert.deepEqual(await call(procedure, ...args), answers);
    assert.deepEqual(await state(), byId(after));
  });
}

/** One of each kind of row. */
const NEVER: RowValues = [1];
const UPDATED: RowValues = [2, NOW - 5000, null, 1];
const LOCKED: RowValues = [3, NOW - 5000, NOW + 100, 2];
const NEVER_LOCKED: RowValues = [4, null, NOW + 1, 3];
const JUST_DUE: RowValues = [5, NOW - 10, NOW, 4];
const BUMPED: RowValues = [6, null, NOW - 100, 5];
const EACH_KIND = [NEVER, UPDATED, LOCKED, NEVER_LOCKED, JUST_DUE, BUMPED];
/** Their ids and an unknown one, out of order. */
const SEVEN = '[7, 3, 1, 6, 2, 5, 4]';

test("there are eleven procedures, and their parameters are the contract's, in its order", async () => {
  const parameters = await rows(
    connection,
    `SELECT specific_name AS routine, parameter_name AS parameter FROM information_schema.parameters
      WHERE specific_schema = ? ORDER BY specific_name, ordinal_position`,
    [database],
  );
  assert.deepEqual(
    parameters.map(({ routine, parameter }) => `${routine}: ${parameter}`),
    [...PROCEDURES].sort().flatMap(one => SIGNATURES[one].takes.map(name => `${table}_${one}: in_${name}`)),
  );
});

// What all that take ids have in common.

/** What each answers of ids that it does something with. */
const ANSWERS: Partial<Record<Procedure, (n: number) => Record<string, unknown>[]>> = {
  add: n => [{ added: n }],
  remove: n => [{ removed: n }],
  did: n => [{ updated: n }],
  unlock: n => [{ unlocked: n }],
  bump: n => [{ bumped: n }],
  extend: n => [{ extended: n, lock_until: n ? NOW + HOUR : null }],
  fail: n => [{ failed: n }],
};
/** Rows for which it does something: locked ones, and for add none. */
const subjects = (procedure: Procedure): RowValues[] =>
  procedure === 'add' ? [[8]] : [[5, 7, NOW + 5], [6, 7, NOW + 5], [8]];

for (const procedure of TAKING_IDS) {
  /** The answer for so many of the ids 5 and 6, and the state that `[5, 6]` or `[5]` leaves. */
  const outcome = async (argument: unknown) => {
    await given(...subjects(procedure));
    const answer = await call(procedure, argument);
    return { answer, after: await state() };
  };
  const counts = (answer: Record<string, unknown>[], n: number) => {
    if (procedure === 'check') assert.deepEqual(ids(answer), [5, 6].slice(0, n));
    else assert.deepEqual(answer, ANSWERS[procedure]!(n));
  };

  test(`${procedure} counts an id that stands twice once`, async () => {
    const twice = await outcome('[6, 5, 6, 5, 5]');
    counts(twice.answer, 2);
    assert.deepEqual(twice, await outcome('[5, 6]'));
  });

  test(`${procedure} takes one id without an array, as JSON text and as a number`, async () => {
    const one = await outcome('[5]');
    counts(one.answer, 1);
    assert.deepEqual(await outcome('5'), one);
    assert.deepEqual(await outcome(5), one);
    assert.deepEqual(await outcome(' 5\n'), one);
  });

  test(`${procedure} takes white space in JSON`, async () => {
    assert.deepEqual(await outcome(' [ 5,\r\n\t6 ]\n'), await outcome('[5, 6]'));
  });

  test(`${procedure} of an empty array does nothing`, async () => {
    const nothing = await outcome('[]');
    counts(nothing.answer, 0);
    assert.deepEqual(nothing.after, fullRows(subjects(procedure)));
  });

  test(`${procedure} leaves all other ids as they are`, async () => {
    await given(...EACH_KIND);
    await call(procedure, '[17, 18]');
    assert.deepEqual(
      (await state()).filter(([id]) => (id as number) < 17),
      fullRows(EACH_KIND),
    );
  });
}

// add

for (const updated of [null, false, true]) {
  calls(`add with updated = ${updated} puts new ids in as ${updated ? '' : 'never '}updated, and changes no other`, {
    before: EACH_KIND,
    call: ['add', '[9, 3, 1, 6, 2, 5, 4, 8]', updated],
    answers: [{ added: 2 }],
    after: [...EACH_KIND, [8, updated ? NOW : null], [9, updated ? NOW : null]],
  });
}

// remove

calls('remove takes ids out, locked or not, and counts those that were in', {
  before: EACH_KIND,
  call: ['remove', '[7, 3, 1, 6, 2]'],
  answers: [{ removed: 4 }],
  after: [NEVER_LOCKED, JUST_DUE],
});

calls('remove of unknown ids removes nothing', {
  before: [[1]],
  call: ['remove', '[7, 8]'],
  answers: [{ removed: 0 }],
});

// get

const lockedFor = (seconds: number) => (id: number) => ({ id, lock_until: NOW + seconds });

/** In the order in which get must pick them, each with why. */
const QUEUE: RowValues[] = [
  [30, null, NOW - 500], // bumped first; of these never updated
  [21, NOW - 9000, NOW - 500], // longest not updated
  [22, NOW - 8000, NOW - 500],
  [11, NOW, NOW - 499, 3], // due by its lock, however fresh
  [12, NOW - 9000, NOW], // its lock ends right now
  [40, null, null, 7], // never updated
  [20, NOW - 90_000], // the longest not updated
  [10, NOW - HOUR - 1],
  [31, NOW - HOUR], // just long enough ago
];
/** What get must not pick. */
const REST: RowValues[] = [
  [1, NOW - HOUR + 1],
  [2, NOW],
  [3, null, NOW + 1],
  [4, NOW - 90_000, NOW + 1],
  [5, NOW - 90_000, NOW + HOUR],
];
for (let n = 0; n <= QUEUE.length; n += 1) {
  const picked = QUEUE.slice(0, n);
  calls(`get(${n}) picks the first ${n} in line, and sets nothing but their lock_until`, {
    before: [...QUEUE, ...REST],
    call: ['get', n],
    answers: picked.map(([id]) => ({ id, lock_until: NOW + HOUR })),
    after: [
      ...picked.map(([id, updated, , failures]): RowValues => [id, updated, NOW + HOUR, failures]),
      ...QUEUE.slice(n),
      ...REST,
    ],
  });
}

for (const maxIds of [QUEUE.length + 1, ALL, 2 ** 32, '9223372036854775807']) {
  test(`get(${maxIds}) picks all there are, if there are fewer`, async () => {
    await given(...QUEUE, ...REST);
    assert.deepEqual(
      ids(await call('get', maxIds)),
      QUEUE.map(([id]) => id),
    );
  });
}

calls('get picks nothing where nothing is due', { before: REST, call: ['get', ALL], answers: [] });
calls('get picks nothing in an empty loop', { call: ['get', ALL], answers: [] });

for (const lockFor of [1, 10, HOUR + 1, MAX_SECONDS]) {
  calls(`get locks for lock_for = ${lockFor} s`, {
    before: [[1], [2, 0]],
    call: ['get', ALL, lockFor],
    answers: [1, 2].map(lockedFor(lockFor)),
    after: [
      [1, null, NOW + lockFor],
      [2, 0, NOW + lockFor],
    ],
  });
}

/** For a min_loop_time, who is stale: [just stale enough, a second too fresh]. */
for (const [minLoopTime, least] of [
  [null, HOUR],
  [HOUR, HOUR],
  [1, 1],
  [10 * DAY, 10 * DAY],
] as const) {
  calls(`get with min_loop_time = ${minLoopTime} leaves what was updated less than ${least} s ago`, {
    before: [
      [1, NOW - least + 1],
      [2, NOW - least],
      [3, NOW - least - 1],
    ],
    call: ['get', ALL, 10, minLoopTime],
    answers: [3, 2].map(lockedFor(10)),
    after: [
      [1, NOW - least + 1],
      [2, NOW - least, NOW + 10],
      [3, NOW - least - 1, NOW + 10],
    ],
  });
}

calls('get with min_loop_time = 0 picks what was updated this very second', {
  before: [[1, NOW]],
  call: ['get', 1, null, 0],
  answers: [1].map(lockedFor(HOUR)),
  after: [[1, NOW, NOW + HOUR]],
});

test('get with the largest min_loop_time picks bumped and never updated ids alone', async () => {
  await given(...QUEUE, ...REST);
  assert.deepEqual(ids(await call('get', ALL, null, MAX_SECONDS)), [30, 21, 22, 11, 12, 40]);
});

test('get called again goes on where it stopped, and comes back to the ids when their locks have run out', async () => {
  await given(...QUEUE, ...REST);
  const order = QUEUE.map(([id]) => id);
  assert.deepEqual(ids(await call('get', 4, 50)), order.slice(0, 4));
  assert.deepEqual(ids(await call('get', 4, 50)), order.slice(4, 8));
  assert.deepEqual(ids(await call('get', 4, 50)), order.slice(8));
  assert.deepEqual(ids(await call('get', 4, 50)), []);
  await connection.query(`UPDATE \`${table}\` SET lock_until = ${NOW} WHERE lock_until = ${NOW + 50}`);
  assert.deepEqual(new Set(ids(await call('get', ALL, 50))), new Set(order));
});

test('get picks more ids than group_concat_max_len has room for', async () => {
  await given(...Array.from({ length: ALL }, (_, i): RowValues => [i]));
  await connection.query('SET SESSION group_concat_max_len = 4');
  try {
    assert.equal(new Set(ids(await call('get', ALL))).size, ALL);
  } finally {
    await connection.query('SET SESSION group_concat_max_len = DEFAULT');
  }
});

// did

for (const autoAdd of [null, true, false]) {
  const added = autoAdd === false ? [] : [[7, NOW] satisfies RowValues];
  calls(`did with auto_add = ${autoAdd} marks ids, unlocks them, forgets failures, and adds ${added.length} unknown`, {
    before: EACH_KIND,
    call: ['did', SEVEN, autoAdd],
    answers: [{ updated: EACH_KIND.length + added.length }],
    after: [...EACH_KIND.map(([id]): RowValues => [id, NOW]), ...added],
  });
}

calls('did counts an id that was marked this very second already', {
  before: [[1, NOW]],
  call: ['did', '[1]'],
  answers: [{ updated: 1 }],
});

calls('did with auto_add = FALSE counts an id that was marked this very second already', {
  before: [[1, NOW]],
  call: ['did', '[1]', false],
  answers: [{ updated: 1 }],
});

// unlock

for (const autoAdd of [null, true, false]) {
  const added = autoAdd === false ? [] : [[7] satisfies RowValues];
  calls(`unlock with auto_add = ${autoAdd} opens locks, run out or not, and adds ${added.length} unknown`, {
    before: EACH_KIND,
    call: ['unlock', SEVEN, autoAdd],
    answers: [{ unlocked: 4 + added.length }],
    after: [...EACH_KIND.map(([id, updated, , failures]): RowValues => [id, updated, null, failures]), ...added],
  });
}

// bump

/** By lock_for: who changes, of the kinds above. */
const CHANGED_BY_BUMP: [lockFor: number | null, changed: RowValues[]][] = [
  [null, [NEVER, UPDATED, LOCKED, NEVER_LOCKED]],
  [0, [NEVER, UPDATED, LOCKED, NEVER_LOCKED]],
  [1, [NEVER, UPDATED, LOCKED]],
  [99, [NEVER, UPDATED, LOCKED]],
  [100, [NEVER, UPDATED]],
  [MAX_SECONDS, [NEVER, UPDATED]],
  [-1, [NEVER, UPDATED, LOCKED, NEVER_LOCKED, JUST_DUE]],
  [-100, [NEVER, UPDATED, LOCKED, NEVER_LOCKED, JUST_DUE]],
  [-101, EACH_KIND],
  [-MAX_SECONDS, EACH_KIND],
];
for (const [lockFor, changed] of CHANGED_BY_BUMP) {
  for (const autoAdd of [null, true, false]) {
    const until = NOW + (lockFor ?? 0);
    const added = autoAdd === false ? [] : [[7, null, until] satisfies RowValues];
    const bumped = (row: RowValues): RowValues => [row[0], row[1], changed.includes(row) ? until : row[2], row[3]];
    calls(`bump with lock_for = ${lockFor}, auto_add = ${autoAdd} sets lock_until where it is NULL or later`, {
      before: EACH_KIND,
      call: ['bump', SEVEN, lockFor, autoAdd],
      answers: [{ bumped: changed.length + added.length }],
      after: [...EACH_KIND.map(bumped), ...added],
    });
  }
}

calls('bump again with the same lock_for changes nothing, and counts nothing', {
  before: [[1, null, NOW + 60]],
  call: ['bump', '[1]', 60],
  answers: [{ bumped: 0 }],
});

test('bumped ids come first, the more negative the earlier', async () => {
  await given([1], [2, 0], [3, NOW], [4, NOW]);
  await call('bump', '[3]');
  await call('bump', '[4]', -1);
  assert.deepEqual(ids(await call('get', ALL)), [4, 3, 1, 2]);
});

// extend

for (const lockFor of [null, 1, 50, MAX_SECONDS]) {
  const until = NOW + (lockFor ?? HOUR);
  calls(`extend with lock_for = ${lockFor} locks anew, from now on, what is locked now, and adds nothing`, {
    before: EACH_KIND,
    call: ['extend', SEVEN, lockFor],
    answers: [{ extended: 2, lock_until: until }],
    after: EACH_KIND.map(row =>
      [LOCKED, NEVER_LOCKED].includes(row) ? ([row[0], row[1], until, row[3]] satisfies RowValues) : row,
    ),
  });
}

calls('extend counts an id whose lock already ends then', {
  before: [[1, null, NOW + HOUR]],
  call: ['extend', '[1]'],
  answers: [{ extended: 1, lock_until: NOW + HOUR }],
});

calls('extend has no new lease where nothing is locked', {
  before: [NEVER, JUST_DUE],
  call: ['extend', '[1, 5, 7]'],
  answers: [{ extended: 0, lock_until: null }],
});

// fail

const DELAYS = [60, 120, 240, 480, 960, 1920, 3840, 7680, 15_360, 30_720, 61_440, DAY, DAY, DAY];

test('fail locks for 60 s, then twice as long each time, at most a day, and counts', async () => {
  await given([1, NOW - 7]);
  for (const [i, delay] of DELAYS.entries()) {
    assert.deepEqual(await call('fail', '[1]'), [{ failed: 1 }]);
    assert.deepEqual(await state(), [[1, NOW - 7, NOW + delay, i + 1]]);
  }
});

calls('fail takes each id by its own failures, whatever its lock, and adds none', {
  before: EACH_KIND,
  call: ['fail', SEVEN],
  answers: [{ failed: EACH_KIND.length }],
  after: EACH_KIND.map(
    ([id, updated, , failures = 0]): RowValues => [id, updated, NOW + DELAYS[failures]!, failures + 1],
  ),
});

for (const retryIn of [0, 1, 60, DAY + 1, MAX_SECONDS]) {
  calls(`fail with retry_in = ${retryIn} locks for just that, whatever the failures`, {
    before: EACH_KIND,
    call: ['fail', SEVEN, retryIn],
    answers: [{ failed: EACH_KIND.length }],
    after: EACH_KIND.map(([id, updated, , failures = 0]): RowValues => [id, updated, NOW + retryIn, failures + 1]),
  });
}

for (const retryIn of [null, 5]) {
  calls(`fail with retry_in = ${retryIn} counts failures up to 65535`, {
    before: [
      [1, null, null, 65_533],
      [2, null, null, 65_534],
      [3, null, null, 65_535],
    ],
    call: ['fail', '[1, 2, 3]', retryIn],
    answers: [{ failed: 3 }],
    after: [
      [1, null, NOW + (retryIn ?? DAY), 65_534],
      [2, null, NOW + (retryIn ?? DAY), 65_535],
      [3, null, NOW + (retryIn ?? DAY), 65_535],
    ],
  });
}

test('failed with retry_in = 0, an id is first in line at once', async () => {
  await given([1], [2, 0], [3, NOW - 5, NOW + 50]);
  await call('fail', '[3]', 0);
  assert.deepEqual(ids(await call('get', 1)), [3]);
});

test('after a did, failures and their delays begin anew', async () => {
  await given([1, null, NOW + 50, 9]);
  await call('did', '[1]');
  await call('fail', '[1]');
  assert.deepEqual(await state(), [[1, NOW, NOW + 60, 1]]);
});

// check

calls('check tells of each id in the loop, by id, and changes nothing', {
  before: EACH_KIND,
  call: ['check', '[7, 3, 1, 6, 2, 5, 4, 3, 3]'],
  answers: [
    { id: 1, since_updated: null, locked_for: null, failures: 0 },
    { id: 2, since_updated: 5000, locked_for: null, failures: 1 },
    { id: 3, since_updated: 5000, locked_for: 100, failures: 2 },
    { id: 4, since_updated: null, locked_for: 1, failures: 3 },
    { id: 5, since_updated: 10, locked_for: 0, failures: 4 },
    { id: 6, since_updated: null, locked_for: -100, failures: 5 },
  ],
});

calls('check of unknown ids has no rows', { before: [[1]], call: ['check', '[7, 8]'], answers: [] });

// stats

const NO_STATS = {
  bumped: 0,
  locked: 0,
  min_bump_time: 0,
  max_bump_time: 0,
  min_lock_time: 0,
  max_lock_time: 0,
  min_update_time: 0,
  max_update_time: 0,
  min_id: null,
  max_id: null,
  total: null,
  never_updated: null,
  delayed: null,
};

calls('stats of an empty loop are zeros', { call: ['stats'], answers: [NO_STATS] });

test('stats of an empty loop with thresholds are zeros, too', async () => {
  await given();
  const [stats] = await call('stats', '[0, 60]');
  assert.deepEqual(
    { ...stats, delayed: JSON.parse(stats!.delayed as string) },
    { ...NO_STATS, total: 0, never_updated: 0, delayed: { 0: 0, 60: 0 } },
  );
});

const CENSUS: RowValues[] = [
  [-5, NOW - 700],
  [2, NOW - 30, NOW - 40],
  [3, null, NOW - 9],
  [4, NOW - 800, NOW - 900],
  [5, null, NOW + 4, 3],
  [6, NOW - 60, NOW + 77],
  [7, NOW - 600, NOW + 50],
  [8],
  [9],
  [44, NOW - 61],
];
const CENSUS_STATS = {
  bumped: 3,
  locked: 3,
  min_bump_time: 9,
  max_bump_time: 900,
  min_lock_time: 4,
  max_lock_time: 77,
  min_update_time: 30,
  max_update_time: 800,
  min_id: -5,
  max_id: 44,
  total: null,
  never_updated: null,
  delayed: null,
};

calls('stats tell how the whole loop is doing', { before: CENSUS, call: ['stats'], answers: [CENSUS_STATS] });

for (const [thresholds, delayed] of [
  ['[]', {}],
  ['60', { 60: 4 }],
  ['[60]', { 60: 4 }],
  ['[59, 60, 61]', { 59: 5, 60: 4, 61: 3 }],
  ['[800, 0, 799]', { 0: 6, 799: 1, 800: 0 }],
  ['[60, 700, 60, 60]', { 60: 4, 700: 1 }],
  ['[0, 30, 59, 60, 61, 599, 600]', { 0: 6, 30: 5, 59: 5, 60: 4, 61: 3, 599: 3, 600: 2 }],
  ['[61, 699, 60, 800, 0, 599, 700, 600, 29]', { 0: 6, 29: 6, 60: 4, 61: 3, 599: 3, 600: 2, 699: 2, 700: 1, 800: 0 }],
  [`[${MAX_SECONDS}]`, { [MAX_SECONDS]: 0 }],
] as const) {
  test(`stats(${thresholds}) count all ids, the never updated, and those updated longer ago than each`, async () => {
    await given(...CENSUS);
    const [stats] = await call('stats', thresholds);
    assert.deepEqual(
      { ...stats, delayed: JSON.parse(stats!.delayed as string) },
      { ...CENSUS_STATS, total: 10, never_updated: 4, delayed },
    );
    assert.deepEqual(await state(), fullRows(CENSUS));
  });
}

/** Where all are of one kind, the times of the others are 0. */
const OF_ONE_KIND: [title: string, rows: RowValues[], stats: object][] = [
  ['never updated', [[1], [2]], {}],
  ['unlocked', [[1, NOW - 5], [2, NOW - 8]], { min_update_time: 5, max_update_time: 8 }], // biome-ignore format: a table
  ['bumped now', [[1, null, NOW], [2, null, NOW]], { bumped: 2 }], // biome-ignore format: a table
  ['locked', [[1, null, NOW + 1], [2, NOW - 3, NOW + 9]], { locked: 2, min_lock_time: 1, max_lock_time: 9, min_update_time: 3, max_update_time: 3 }], // biome-ignore format: a table
  ['updated by a clock that is ahead', [[1, NOW + 5], [2, NOW + 9]], {}], // biome-ignore format: a table
];
for (const [title, before, stats] of OF_ONE_KIND) {
  calls(`stats where all are ${title}`, {
    before,
    call: ['stats'],
    answers: [{ ...NO_STATS, min_id: 1, max_id: 2, ...stats }],
  });
}

test('stats are as of one moment, whatever is written meanwhile', async () => {
  await given(...Array.from({ length: 50 }, (_, i): RowValues => [i, null, NOW - 5]));
  const writer = await connect();
  const change = (to: string) => writer.query(`UPDATE \`${table}\` SET ${to}`);
  const before = { bumped: 50, locked: 0, max_update_time: 0, never_updated: 50, delayed: { 60: 0 } };
  const after = { bumped: 0, locked: 50, max_update_time: 900, never_updated: 0, delayed: { 60: 50 } };
  let writing = true;
  const writes = (async () => {
    for (let i = 0; writing && i < 50; i += 1) {
      await change(`lock_until = ${NOW + 5}, last_updated = ${NOW - 900}`);
      await change(`lock_until = ${NOW - 5}, last_updated = NULL`);
    }
    writing = false;
  })();
  try {
    while (writing) {
      const [stats] = await call('stats', '[60]');
      const { bumped, locked, max_update_time, never_updated } = stats!;
      const delayed = JSON.parse(stats!.delayed as string);
      assert.deepEqual({ bumped, locked, max_update_time, never_updated, delayed }, bumped ? before : after);
    }
  } finally {
    writing = false;
    await writes;
  }
});

// next

const NEXT: [title: string, rows: RowValues[], minLoopTime: number | null, dueIn: number | null][] = [
  ['nothing at all', [], null, null],
  ['a bumped id', [BUMPED], null, 0],
  ['an id whose lock ends now', [JUST_DUE], null, 0],
  ['a never updated id', [NEVER], null, 0],
  ['a never updated id behind a locked one', [LOCKED, NEVER], MAX_SECONDS, 0],
  ['a locked id', [LOCKED], null, 100],
  ['locked ids', [LOCKED, [9, 0, NOW + 99]], null, 99],
  ['a stale id', [UPDATED], null, 0],
  ['an id that is just stale', [[1, NOW - HOUR]], null, 0],
  ['an id that is stale in a second', [[1, NOW - HOUR + 1]], null, 1],
  ['an id updated now', [[1, NOW]], null, HOUR],
  ['an id updated now', [[1, NOW]], 0, 0],
  ['an id updated now', [[1, NOW]], 10, 10],
  ['an id updated now', [[1, NOW]], MAX_SECONDS, MAX_SECONDS],
  ['ids that become stale', [[1, NOW - 5], [2, NOW - 9]], null, HOUR - 9], // biome-ignore format: a table
  ['a lock that ends before an id is stale', [LOCKED, [1, NOW - HOUR + 101]], null, 100],
  ['an id that is stale before a lock ends', [LOCKED, [1, NOW - HOUR + 99]], null, 99],
  ['a locked id that would be stale', [[1, NOW - 5000, NOW + 100]], 0, 100],
];
for (const [title, before, minLoopTime, dueIn] of NEXT) {
  calls(`next(${minLoopTime}) with ${title}: ${dueIn}`, {
    before,
    call: ['next', minLoopTime],
    answers: [{ due_in: dueIn }],
  });

  // A server's clock can be set up to 2038.
  if (dueIn !== null && NOW + dueIn > MAX_SECONDS) continue;
  test(`get with min_loop_time = ${minLoopTime} and ${title} has something when next says, no sooner`, async () => {
    await given(...before);
    const at = await connect();
    const getAt = async (time: number) => {
      await setClock(at, time);
      return (await callProcedure(at, table, 'get', 1, null, minLoopTime)).length;
    };
    if (dueIn !== 0) assert.equal(await getAt(dueIn === null ? MAX_SECONDS : NOW + dueIn - 1), 0);
    if (dueIn !== null) assert.equal(await getAt(NOW + dueIn), 1);
    await at.end();
  });
}

// Reading

for (const [procedure, argument] of [
  ['check', '[1, 2]'],
  ['stats', '[60]'],
  ['next', null],
] as const) {
  test(`${procedure} waits for nobody's row locks, and leaves none`, async () => {
    await given([1, NOW - 100], [2, null, NOW + 9]);
    const before = await call(procedure, argument);
    const other = await connect();
    for (const one of [connection, other]) await one.query('SET SESSION innodb_lock_wait_timeout = 1');
    await other.query('BEGIN');
    await other.query(`UPDATE \`${table}\` SET failures = 1, lock_until = NULL, last_updated = NULL`);
    assert.deepEqual(await call(procedure, argument), before);
    await other.query('ROLLBACK');

    await connection.query('BEGIN');
    assert.deepEqual(await call(procedure, argument), before);
    await other.query(`UPDATE \`${table}\` SET failures = 1`);
    await connection.query('COMMIT');
    assert.deepEqual(await state(), [
      [1, NOW - 100, null, 1],
      [2, null, NOW + 9, 1],
    ]);
  });
}

// The clock

test("times are the server's, in whole seconds", async () => {
  await given();
  const running = await connect();
  const seconds = async () => Number((await rows(running, 'SELECT UNIX_TIMESTAMP() AS now'))[0]!.now);
  const from = await seconds();
  await callProcedure(running, table, 'add', '[1]', true);
  await callProcedure(running, table, 'bump', '[2]');
  const [[, updated], [, , bumped]] = (await state()) as [RowValues, RowValues];
  const [picked] = await callProcedure(running, table, 'get', 1);
  const to = await seconds();
  for (const time of [updated, bumped, (picked!.lock_until as number) - HOUR]) {
    assert.ok(from <= time! && time! <= to, `${from} <= ${time} <= ${to}`);
  }
});

test('times past 2038 are no different', async () => {
  const late = MAX_SECONDS + 1000;
  await given([1, late, late + 5], [2, late], [3, NOW, late]);
  assert.deepEqual(await call('check', '[1]'), [
    { id: 1, since_updated: NOW - late, locked_for: late + 5 - NOW, failures: 0 },
  ]);
  assert.deepEqual(await call('next'), [{ due_in: late - NOW }]);
  assert.deepEqual(await call('extend', '[3]', MAX_SECONDS, late), [{ extended: 1, lock_until: NOW + MAX_SECONDS }]);
});
