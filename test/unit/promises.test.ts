/** The page of promises names tests that there are. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const folder = join(dirname(fileURLToPath(import.meta.url)), '../../../test');
const page = readFileSync(join(folder, 'README.md'), 'utf8');

/** The titles of a file's tests as they stand in its source, `…` for what is put in. */
function titlesOf(file: string): string[] {
  const source = readFileSync(join(folder, file), 'utf8');
  return [...source.matchAll(/\btest\(\s*(?:'((?:[^'\\]|\\.)*)'|"([^"]*)"|`([^`]*)`|(?=\w))/g)].map(
    ([, single, double, template]) =>
      (single ?? double ?? template ?? '…').replaceAll(/\\(.)/g, '$1').replaceAll(/\$\{[^}]*\}( ?\$\{[^}]*\})*/g, '…'),
  );
}

const rows = [...page.matchAll(/^\| (.+) \| (.+) \|$/gm)].filter(([, promise]) => promise !== 'promise');

test('every promise on the page has its tests, by their very names', () => {
  assert.ok(rows.length > 30);
  for (const [, promise, tests] of rows) {
    const files = [...tests!.matchAll(/\]\(([\w./-]+\.test\.ts)\): (.*?)(?=; \[|$)/g)];
    assert.notEqual(files.length, 0, `no test for: ${promise}`);
    for (const [, file, names] of files) {
      assert.ok(existsSync(join(folder, file!)), `${file}, of: ${promise}`);
      const titles = titlesOf(file!);
      for (const [, name] of names!.matchAll(/\*(.+?)\*(?=;|,|$)/g)) {
        assert.ok(titles.includes(name!), `${file} has no test of the name: ${name}`);
      }
    }
  }
});
