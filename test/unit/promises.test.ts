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

/** Whether a test's title, with something put in for each `…`, is this. A title that is all put in is none but itself. */
function isTitled(title: string, name: string): boolean {
  if (title === name || title.replaceAll('…', '').length < 10) return title === name;
  const parts = title.split('…').map(part => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${parts.join('.+')}$`).test(name);
}

test('every promise on the page has its tests, by their very names', () => {
  assert.ok(rows.length > 100);
  const wrong: string[] = [];
  for (const [, promise, tests] of rows) {
    const files = [...tests!.matchAll(/\]\(([\w./-]+\.test\.ts)\): (.*?)(?=; \[|$)/g)];
    if (files.length === 0) wrong.push(`no test for: ${promise}`);
    for (const [, file, list] of files) {
      const titles = existsSync(join(folder, file!)) ? titlesOf(file!) : [];
      const names = [...list!.matchAll(/\*(.+?)\*(?=;|,|$)/g)].map(([, name]) => name!);
      if (names.length === 0) wrong.push(`no name of a test in ${file}: ${promise}`);
      for (const name of names) {
        if (!titles.some(title => isTitled(title, name))) wrong.push(`${file} has no test of the name: ${name}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});
