import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { README, withReport } from '../../scripts/bench/report.js';

test("the bench's README has what its results say: `node dist/scripts/bench/report.js` writes it", () => {
  const readme = readFileSync(README, 'utf8');
  assert.equal(readme, withReport(readme));
});
