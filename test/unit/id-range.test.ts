import assert from 'node:assert/strict';
import { test } from 'node:test';
import { comparable, holds } from '../../src/id-range.js';
import { parseIdType } from '../../src/id-type.js';

const LATIN1 = 'CHARACTER SET latin1 COLLATE latin1_bin';
const ASCII = 'CHARACTER SET ascii COLLATE ascii_bin';
const CASES: [wider: string, narrower: string, holds: boolean, comparable: boolean][] = [
  ['INT', 'INT', true, true],
  ['BIGINT', 'INT UNSIGNED', true, true],
  ['INT', 'INT UNSIGNED', false, true],
  ['INT UNSIGNED', 'TINYINT', false, true],
  ['BIGINT UNSIGNED', 'BIGINT', false, true],
  ['INT', 'BIGINT', false, true],
  ['DECIMAL(20,0)', 'BIGINT UNSIGNED', true, true],
  ['DECIMAL(19,0)', 'BIGINT UNSIGNED', false, true],
  ['DECIMAL(10,2)', 'DECIMAL(9,2)', true, true],
  ['DECIMAL(10,2)', 'DECIMAL(10,3)', false, true],
  ['DECIMAL(10,2)', 'DECIMAL(10,1)', false, true],
  ['BIGINT', 'DECIMAL(5,1)', false, true],
  ['DECIMAL(10,2) UNSIGNED', 'DECIMAL(10,2)', false, true],
  [`VARCHAR(20) ${LATIN1}`, `VARCHAR(20) ${LATIN1}`, true, true],
  [`VARCHAR(20) ${LATIN1}`, `CHAR(9) ${LATIN1}`, true, true],
  [`VARCHAR(20) ${LATIN1}`, `VARCHAR(21) ${LATIN1}`, false, true],
  [`CHAR(20) ${LATIN1}`, `VARCHAR(9) ${LATIN1}`, false, true],
  [`VARCHAR(20) ${LATIN1}`, `VARCHAR(20) ${ASCII}`, false, false],
  [`VARCHAR(20) ${LATIN1}`, 'VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_general_ci', false, false],
  ['VARBINARY(16)', 'BINARY(16)', true, true],
  ['BINARY(16)', 'BINARY(8)', false, true],
  ['BINARY(16)', 'VARBINARY(16)', false, true],
  [`VARCHAR(20) ${LATIN1}`, 'VARBINARY(20)', false, false],
  [`VARCHAR(20) ${LATIN1}`, 'INT', false, false],
  ['DATETIME', 'DATE', true, true],
  ['DATE', 'DATETIME', false, true],
  ['DATETIME(6)', 'DATETIME(3)', true, true],
  ['DATETIME', 'DATETIME(1)', false, true],
];

for (const [wider, narrower, expected, alike] of CASES) {
  test(`a loop of ${wider} ${expected ? 'holds' : 'may not hold'} all ids of ${narrower}`, () => {
    const [a, b] = [parseIdType(wider), parseIdType(narrower)];
    assert.equal(holds(a, b), expected);
    assert.equal(comparable(a, b), alike);
    assert.equal(comparable(b, a), alike);
  });
}
