import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeLoop, makePool } from './harness.js';

test('smoke', async () => {
  const pool = makePool();
  const { loop } = await makeLoop(pool);
  assert.equal(await loop.add([1, 2]), 2);
});
