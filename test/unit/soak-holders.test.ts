/** The soak's bookkeeping: what it takes for two holders, and what not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Holders, Tally } from '../../scripts/bench/soak-common.js';

/** Claims of one id by several, in the order in which they were told, each until when; how often two held it. */
function violations(...claims: { told: number; until: number; released?: true }[]): number {
  const tally = new Tally();
  let now = 0;
  const holders = new Holders(
    tally,
    () => now,
    () => {},
  );
  for (const { told, until, released } of claims) {
    now = told;
    holders.take('somebody', [7], until);
    if (released) holders.release([7]);
  }
  return tally.violations.reduce((sum, { times }) => sum + times, 0);
}

test('an id is claimed while it is locked: it has two holders, in whatever order that is told', () => {
  assert.equal(violations({ told: 100, until: 1_100 }, { told: 101, until: 1_201 }), 1);
  assert.equal(violations({ told: 100, until: 1_100 }, { told: 99.5, until: 101 }), 1);
  assert.equal(violations({ told: 100.1, until: 101 }, { told: 100.2, until: 1_201 }), 1);
});

test('a lock that was over or opened is none, whatever its clock said when the other get began', () => {
  assert.equal(violations({ told: 100, until: 1_100, released: true }, { told: 101, until: 1_201 }), 0);
  assert.equal(violations({ told: 100, until: 101 }, { told: 101, until: 1_200 }), 0);
  // The one for a second is told last, though it was first.
  assert.equal(violations({ told: 101.5, until: 1_101 }, { told: 101.6, until: 101 }), 0);
  // And the other one still holds it.
  assert.equal(violations({ told: 101.5, until: 1_101 }, { told: 101.6, until: 101 }, { told: 102, until: 1_300 }), 1);
});
