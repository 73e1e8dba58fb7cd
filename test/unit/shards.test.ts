import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

test('the recipe for several servers is the one that is tested', () => {
  const tested = read('test/shards.ts').replace("'../src/index.js'", "'doloop'");
  assert.ok(read('src/README.md').includes(`\`\`\`ts\n// shards.ts\n${tested}\`\`\`\n`));
});
