import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { test } from 'node:test';
import { pictures, REPORTS, withReport } from '../../scripts/bench/report.js';

for (const { file, write } of REPORTS) {
  test(`${basename(dirname(file))}/${basename(file)} has what the bench's results say: \`node dist/scripts/bench/report.js\` writes it`, () => {
    const text = readFileSync(file, 'utf8');
    assert.equal(text, withReport(text, write));
  });
}

for (const { file, svg } of pictures()) {
  test(`${basename(file)} shows what the bench's results say`, () => {
    assert.equal(readFileSync(file, 'utf8'), svg);
  });
}
