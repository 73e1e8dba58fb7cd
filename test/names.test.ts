/** A loop may have any word of sql/ for its name: an alias, a column, a variable, a part of the syntax. */
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { create } from '../src/index.js';
import { quoteName } from '../src/names.js';
import { conforms } from './conformance.js';
import { connect } from './harness.js';
import { quickOrLong } from './long.js';

const SQL = new URL('../../sql/', import.meta.url);
const COMMENTS = /^ *-- (?!\{\{).*$/gm;
const texts = readdirSync(SQL)
  .filter(name => name.endsWith('.sql'))
  .map(name => readFileSync(new URL(name, SQL), 'utf8').replaceAll(COMMENTS, ''));

/** Aliases, which are most likely to be taken for it; or all words. */
const WORD = quickOrLong(1, 0) === 1 ? /(?<= AS )[a-z]\w*/g : /\b[A-Za-z]\w*\b/g;
const names = new Set(texts.flatMap(text => [...text.matchAll(WORD)].map(([word]) => word)));

test('a loop may have any word of the procedures for its name', async t => {
  const session = await connect();
  for (const name of names) {
    await t.test(name, async () => {
      await create(session, quoteName(name));
      await conforms(session, name);
    });
  }
});
