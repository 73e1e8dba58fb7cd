import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { chunk, idsToJson, shown } from '../../src/ids.js';

suite('ids as JSON', () => {
  const GOOD: [string, unknown, string[]][] = [
    ['a number', 7, ['7']],
    ['minus zero', -0, ['0']],
    [
      'the ends of exact numbers',
      [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
      ['-9007199254740991', '9007199254740991'],
    ],
    ['a bigint', 2n ** 64n - 1n, ['18446744073709551615']],
    ['a string', 'page/1', ['"page/1"']],
    ['an empty string', '', ['""']],
    ['quotes, backslashes, control characters', '"\\\n\0', ['"\\"\\\\\\n\\u0000"']],
    ['an emoji', '\u{1f600}', ['"\u{1f600}"']],
    ['a Buffer, as hex digits', Buffer.of(0, 171, 255), ['"00abff"']],
    ['a Uint8Array', Uint8Array.of(1), ['"01"']],
    ['a part of a larger Buffer', Buffer.of(1, 2, 3, 4).subarray(1, 3), ['"0203"']],
    ['an array', [1, 2n, 'a', Buffer.of(9)], ['1', '2', '"a"', '"09"']],
    ['a Set', new Set([2, 1]), ['2', '1']],
    ['no ids', [], []],
    ['ids that stand twice, all the same', [1, 1], ['1', '1']],
    ['other typed arrays, as many ids', BigUint64Array.of(1n, 2n), ['1', '2']],
  ];
  for (const [title, ids, json] of GOOD) {
    test(`${title}`, () => {
      assert.deepEqual(idsToJson(ids), json);
      assert.equal(JSON.parse(`[${json.join()}]`).length, json.length);
    });
  }

  const BAD: [string, unknown, string, RegExp][] = [
    ['null', null, 'TypeError', /^ids: null /],
    ['undefined', undefined, 'TypeError', /^ids: undefined /],
    ['a boolean', false, 'TypeError', /^ids: false /],
    ['a symbol', Symbol('s'), 'TypeError', /^ids: Symbol\(s\) /],
    ['an object', {}, 'TypeError', /^ids: an object /],
    ['an ArrayBuffer', new ArrayBuffer(2), 'TypeError', /^ids: an object /],
    ['a Map, whose items are pairs', new Map([[1, 2]]), 'TypeError', /^ids: an array /],
    ['a Date', new Date(0), 'TypeError', /^ids: a Date /],
    ['an invalid id behind good ones', [1, 2, null], 'TypeError', /^ids: null /],
    ['a fraction', 1.5, 'RangeError', /^ids: 1\.5 .* a fraction is a string$/],
    ['NaN', Number.NaN, 'RangeError', /^ids: NaN /],
    ['infinity', Number.NEGATIVE_INFINITY, 'RangeError', /^ids: -Infinity /],
    ['a number too large to be exact', 2 ** 53, 'RangeError', /^ids: 9007199254740992 .* a bigint is exact$/],
    ['the first half of an emoji', 'a\ud83d', 'RangeError', /^ids: "a\\ud83d" has half a character/],
    ['the second half of an emoji', '\ude00b', 'RangeError', /^ids: "\\ude00b" has half a character/],
  ];
  for (const [title, ids, name, message] of BAD) {
    test(`${title} is refused`, () => {
      assert.throws(() => idsToJson(ids), { name, message });
    });
  }
});

suite('ids in pieces', () => {
  test('what fits is one piece', () => {
    assert.deepEqual(chunk(['1', '22', '333'], 100), ['[1,22,333]']);
  });

  test('no ids are one piece', () => {
    assert.deepEqual(chunk([], 100), ['[]']);
  });

  test('pieces are as large as they may be, in bytes, and keep the order', () => {
    const ids = ['1', '22', '"\u{1f600}"', '4', '5', '666666', '7'];
    for (let maxBytes = 9; maxBytes < 40; maxBytes += 1) {
      const pieces = chunk(ids, maxBytes);
      assert.deepEqual(
        pieces.flatMap(piece => JSON.parse(piece)),
        JSON.parse(`[${ids.join()}]`),
      );
      for (const [i, piece] of pieces.entries()) {
        assert.ok(Buffer.byteLength(piece) <= maxBytes);
        const next = pieces[i + 1] && JSON.stringify(JSON.parse(pieces[i + 1]!)[0]);
        if (next) assert.ok(Buffer.byteLength(`${piece},${next}`) >= maxBytes, `${next} had room in ${piece}`);
      }
    }
  });

  test('an id that alone is too long is refused', () => {
    assert.throws(() => chunk(['1', `"${'x'.repeat(100)}"`], 50), {
      name: 'RangeError',
      message: `ids: "${'x'.repeat(39)}… is longer than the server's max_allowed_packet`,
    });
  });
});

suite('values in an error’s text', () => {
  for (const [value, text] of [
    ['a "b"', '"a \\"b\\""'],
    [null, 'null'],
    [undefined, 'undefined'],
    [1n, '1'],
    [[1], 'an array'],
    [{ password: 'x' }, 'an object'],
  ] as const) {
    test(`${text}`, () => assert.equal(shown(value), text));
  }
});
