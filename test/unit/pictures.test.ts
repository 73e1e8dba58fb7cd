/** The pictures of the guide are whole, and show what the commands say today; `node dist/scripts/pictures.js` draws them anew. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { suite, test } from 'node:test';
import { describe } from '../../scripts/cli/stats.js';

const text = (name: string) => readFileSync(new URL(`../../../scripts/${name}`, import.meta.url), 'utf8');

/** What stats says, whatever the numbers are: the first words of its lines, but of the title. */
function wordsOfStats(): string[] {
  const times = { minBumpTime: 1, maxBumpTime: 2, minLockTime: 1, maxLockTime: 2, minUpdateTime: 1, maxUpdateTime: 2 };
  const delayed = { 60: 5, 300: 5, 3600: 4, 86400: 3, 604800: 2 };
  const stats = { ...times, bumped: 1, locked: 1, minId: 1, maxId: 9, total: 9, neverUpdated: 1, delayed };
  const name = { database: 'app', table: 'user_loop' };
  const lines = describe({ name, stats, rate: 1, rateSeconds: 300, loopTime: 9, took: 0 }).slice(1);
  return lines.filter(line => line !== '').map(line => /[A-Z][A-Z ]+/i.exec(line)![0].trim());
}

/** Whether all tags are closed, and no character stands where a tag or an entity would begin. */
function assertWellFormed(svg: string): void {
  const open: string[] = [];
  const rest = svg
    .replace(/^<!--.*?-->\n/, '')
    .replaceAll(/<(\/?)(\w+)(?: [\w-]+="[^"<]*")*(\/?)>/g, (_, closes: string, tag: string, isEmpty: string) => {
      if (closes) assert.equal(tag, open.pop());
      else if (!isEmpty) open.push(tag);
      return '';
    });
  assert.deepEqual(open, []);
  assert.doesNotMatch(rest, /<|&(?!amp;|lt;)/);
}

const WORDS = { 'stats.svg': wordsOfStats(), 'watch.svg': [...wordsOfStats(), 'Ids updated a second', 'Ctrl-C ends'] };

suite('pictures', () => {
  for (const [name, words] of Object.entries(WORDS)) {
    test(`${name} is whole, up to date, and in the guide`, () => {
      const svg = text(name);
      assert.ok(svg.startsWith('<!-- Written by `node dist/scripts/pictures.js` -->\n<svg '));
      assertWellFormed(svg);
      assert.ok(words.length >= 11 && words.includes('Do we keep up'));
      for (const word of words) assert.ok(svg.includes(word), word);
      assert.ok(text('README.md').includes(`](${name})`));
    });
  }
});
