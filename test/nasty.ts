/** Texts that nobody would give in good faith, for tests that try many of them. */
import fc from 'fast-check';
import { quickOrLong } from './long.js';

/** What ends, begins or stands for something in SQL, in the consoles' language, in a template, in JavaScript, on a terminal. */
const PIECES = [
  ...[
    '`',
    '``',
    "'",
    "''",
    '"',
    '\\',
    '*/',
    '/*',
    '/*!80000 ',
    '/*M! ',
    '--',
    '-- ',
    '#',
    ';',
    '$$',
    '@',
    '%',
    '?',
    ':id',
  ],
  ...[
    '\n',
    '\r\n',
    '\t',
    '\0',
    '\u001a',
    '\u001b[2J',
    '\u007f',
    '\u009b31m',
    ' ',
    '\u00a0',
    '\u2028',
    '\u202e',
    '\ufeff',
  ],
  ...[
    '\nDELIMITER ;\n',
    'delimiter //',
    '\\g',
    '\\G',
    '\\! id',
    '\\. x',
    'source x',
    '{{loop}}',
    '{{engine}}',
    '`{{id}}`',
  ],
  ...[
    '用',
    'é',
    'e\u0301',
    '表',
    'ソ',
    'ʼ',
    '＇',
    '｀',
    '\u{1f600}',
    '\ud83d',
    '\udc00',
    'ﬀ',
    'İ',
    'ß',
    '$&',
    '$1',
    '$`',
    "$'",
  ],
  ...['select', 'NULL', 'canary', 'DROP TABLE canary', '; DROP TABLE canary; -- ', '*/ DROP TABLE canary /*'],
  ...[
    "' OR 1=1 -- ",
    '1); CALL canary_fill(); -- ',
    'SLEEP(60)',
    '__proto__',
    'constructor',
    'x'.repeat(60),
    '.',
    '`.`',
  ],
];

/** A few of these, with texts of all kinds among them. */
export const nasty = fc
  .array(
    fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(...PIECES) },
      { weight: 1, arbitrary: fc.string({ maxLength: 8 }) },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 8 }) },
      { weight: 1, arbitrary: fc.constantFrom('a', 'user_loop', '1', '-5') },
    ),
    { minLength: 1, maxLength: 5 },
  )
  .map(parts => parts.join(''));

/**
 * Tries a property so many times, or with `npm run test:long` again and again for so many seconds. What is tried is
 * random; a failure tells the seed, and `seed` beside `numRuns` repeats it.
 */
export async function holds<Ts>(
  property: fc.IProperty<Ts> | fc.IAsyncProperty<Ts>,
  times: number,
  seconds: number,
): Promise<void> {
  const end = performance.now() + quickOrLong(0, seconds) * 1000;
  do {
    await fc.assert(property as fc.IAsyncProperty<Ts>, {
      numRuns: times,
      endOnFailure: true,
      includeErrorInReport: true,
    });
  } while (performance.now() < end);
}
