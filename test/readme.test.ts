/** The README's tables and lists say what the code says. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { create, DoLoop } from '../src/index.js';
import { connect, database, rows } from './harness.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');

/** The signatures in the README's table of procedures: `get(max_ids, lock_for = 3600)`. */
const signatures = [...readme.matchAll(/^\| `(\w+)\((.*?)\)` \|/gm)].map(([, name, list]) => ({
  name: name!,
  parameters: list!.split(', ').map(parameter => {
    const [word, value] = parameter.split(' = ');
    return { word: word!, value };
  }),
}));

test('the table of procedures has those that are installed, with their parameters in order, and their defaults', async () => {
  const connection = await connect();
  await create(connection, 'user_loop');
  const installed = await rows(
    connection,
    `SELECT SUBSTRING(SPECIFIC_NAME, 11) AS name, GROUP_CONCAT(PARAMETER_NAME ORDER BY ORDINAL_POSITION) AS parameters
      FROM information_schema.PARAMETERS WHERE SPECIFIC_SCHEMA = ? AND SPECIFIC_NAME LIKE 'user\\_loop\\_%'
      GROUP BY SPECIFIC_NAME ORDER BY SPECIFIC_NAME`,
    [database],
  );
  const sorted = signatures.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  assert.deepEqual(
    sorted.map(({ name, parameters }) => [name, parameters.map(({ word }) => `in_${word}`).join()]),
    installed.map(({ name, parameters }) => [name, parameters]),
  );
  for (const { name, parameters } of signatures) {
    const sql = readFileSync(join(root, 'sql', `${name}.sql`), 'utf8');
    for (const { word, value } of parameters) {
      if (value === undefined || value === 'NULL' || word === 'updated') continue;
      assert.match(sql, new RegExp(`COALESCE\\(in_${word}, ${value}\\)`), `${name}: ${word}`);
    }
  }
});

test('the list of the client has its methods, with their options', () => {
  const listed = [...readme.matchAll(/^ {2}\.(\w+)\(/gm)].map(([, name]) => name!);
  const methods = Object.getOwnPropertyNames(DoLoop.prototype).filter(name => name !== 'constructor');
  assert.deepEqual(listed, methods);
  assert.deepEqual(
    listed.filter(name => name !== 'work' && name !== 'batches'),
    signatures.map(({ name }) => name),
  );
  const declared = readFileSync(join(root, 'dist/src/loop.js'), 'utf8');
  for (const [, name, options] of readme.matchAll(/^ {2}\.(\w+)\([^{\n]*\{ (.*?) \}\)/gm)) {
    const method = declared.slice(declared.indexOf(`async ${name}(`)).split('\n    }\n')[0]!;
    for (const option of options!.split(', '))
      assert.match(method, new RegExp(`\\b${option}\\b`), `${name}: ${option}`);
  }
});

test('the table of work() has its options, with their defaults, and its events', () => {
  const source = ['work', 'batches'].map(file => readFileSync(join(root, `src/${file}.ts`), 'utf8')).join('');
  const documented = new Map(
    [...source.matchAll(/\/\*\*((?:(?!\*\/).)*)\*\/\n {2}(\w+)\?:/gs)].map(([, text, name]) => [
      name!,
      /@default ([^\n]*?) *(?:\n|$)/.exec(text!)?.[1] ?? '',
    ]),
  );
  const [, section] = /\n### Workers\n(.*?)\n- /s.exec(readme)!;
  const rows = section!.matchAll(/^\| `(\w+)` \| .* \|(.*)\|$/gm);
  const listed = new Map([...rows].map(([, name, value]) => [name!, value!.replaceAll('`', '').trim()]));
  assert.deepEqual([...listed.keys()].sort(), [...documented.keys()].sort());
  for (const [name, value] of documented) {
    if (name !== 'retryIn') assert.equal(listed.get(name), value, name);
  }
  const events = [...source.matchAll(/\| \{ type: '(\w+)'/g)].map(([, type]) => `\`${type}\``);
  assert.ok(section!.includes(events.join(', ')), events.join());
});

test('every code of a DoLoopError has its row', () => {
  const types = readFileSync(join(root, 'dist/src/errors.d.ts'), 'utf8');
  const codes = /DoLoopErrorCode = (.*?);/
    .exec(types)![1]!
    .split(' | ')
    .map(code => code.slice(1, -1));
  assert.deepEqual([...readme.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code]) => code).sort(), codes.sort());
});
