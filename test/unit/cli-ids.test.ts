import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { formatId, idsOf } from '../../scripts/cli/ids.js';

test('an id is written as one line of characters that can be seen, and read again as it was', async () => {
  const texts = [
    'a',
    'é b',
    '-x',
    '',
    ' a',
    'a ',
    '"a"',
    'a\nb',
    'a\r',
    '\u0000',
    '\u001b[31m',
    '\u009b1m',
    '\u2028',
    '👩‍🚀',
  ];
  const lines = texts.map(formatId);
  for (const line of lines) assert.doesNotMatch(line, /[\p{C}\p{Zl}\p{Zp}]/u);
  assert.deepEqual(lines.slice(0, 5), ['a', 'é b', '-x', '""', '" a"']);
  const read: string[] = [];
  for await (const piece of idsOf(Readable.from([`${lines.join('\n')}\n`]), 3)) read.push(...piece);
  assert.deepEqual(read, texts);
});

test('ids that are no text are written as the procedures take them', () => {
  assert.deepEqual([7, -7, 18446744073709551615n, Buffer.from([0, 255])].map(formatId), [
    '7',
    '-7',
    '18446744073709551615',
    '00ff',
  ]);
});
