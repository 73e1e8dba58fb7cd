import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

/** What the types let through and what they don't is in types.ts: it would not compile. */

/** The declarations that a program which imports the package reads, by file. */
function publicDeclarations(file = 'index.d.ts', found = new Map<string, string>()): Map<string, string> {
  if (found.has(file)) return found;
  const text = readFileSync(new URL(`../../src/${file}`, import.meta.url), 'utf8');
  found.set(file, text.replaceAll(/\/\*.*?\*\/|\/\/.*$/gms, ''));
  for (const [, name] of text.matchAll(/from '\.\/([\w-]+)\.js'/g)) publicDeclarations(`${name}.d.ts`, found);
  return found;
}

test('nothing public is of type any', () => {
  const declarations = publicDeclarations();
  assert.ok(declarations.has('loop.d.ts') && declarations.has('install.d.ts'));
  for (const [file, text] of declarations) assert.doesNotMatch(text, /\bany\b/, file);
});
