/** The README is run: its commands and statements answer what it shows, and its tables say what the code says. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DoLoop } from '../src/index.js';
import { connect, database, rows, server } from './harness.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');

interface Block {
  language: string;
  text: string;
}
const blocks: Block[] = [...readme.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => ({
  language: language!,
  text: text!,
}));

/** What differs from run to run, and from server to server, made equal. */
function normal(text: string): string {
  return text
    .replaceAll(database, 'app')
    .replaceAll(/\b\d{10}\b/g, '1767225600')
    .replaceAll(/": (?=\d)/g, '":')
    .replaceAll(/\b3[56]\d\d\b/g, '3600')
    .replaceAll(/(update_time: |sinceUpdated: |\| 17 \| +)\d+/g, '$10')
    .trimEnd();
}

const folder = mkdtempSync(join(tmpdir(), 'doloop-readme-'));
const program = (name: string, line: string) =>
  writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
const url = new URL(database, server.url).href;

before(() => {
  mkdirSync(join(folder, 'bin'));
  mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules', 'doloop'));
  symlinkSync(join(root, 'node_modules', 'mysql2'), join(folder, 'node_modules', 'mysql2'));
  symlinkSync(join(root, 'node_modules', '@types', 'node'), join(folder, 'node_modules', '@types', 'node'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const console = server.console!.map(word => `'${word}'`).join(' ');
  program('npx', `shift; exec '${process.execPath}' '${root}dist/scripts/doloop.js' "$@"`);
  program('mysql', `shift 2; exec ${console} "$@" ${database}`); // instead of `-D app`
});
after(() => rmSync(folder, { recursive: true }));

/** Runs a line of a shell session, or a statement of a console session. */
function answer(prompt: string, line: string): string {
  const [command, args, input] =
    prompt === '$'
      ? ['sh', ['-c', line], '']
      : [server.console![0]!, [...server.console!.slice(1), '--table', database], line];
  const { stdout, stderr, status } = spawnSync(command, args, {
    input,
    encoding: 'utf8',
    env: { ...process.env, PATH: `${join(folder, 'bin')}:${process.env.PATH}`, MYSQL_URL: url },
  });
  assert.equal(status, 0, `${line}\n${stderr}`);
  return stdout;
}

test('every console session answers what is shown', async () => {
  const connection = await connect();
  await connection.query("CREATE USER IF NOT EXISTS 'app'@'%' IDENTIFIED BY 'Just-4-the-test'");
  try {
    let run = 0;
    for (const { text } of blocks.filter(({ language }) => language === 'console')) {
      for (const [, prompt, line, shown] of text.matchAll(/^(\$|mysql>) (.*)\n((?:(?!\$ |mysql> ).*\n)*)/gm)) {
        assert.equal(normal(answer(prompt!, line!)), normal(shown!), line);
        run += 1;
      }
    }
    assert.ok(run >= 10, `only ${run} lines were found`);
  } finally {
    await connection.query("DROP USER 'app'@'%'");
  }
});

test('every TypeScript example compiles and prints what is shown', async () => {
  const connection = await connect();
  await connection.query('CREATE TABLE user (id INT PRIMARY KEY, score INT NOT NULL)');
  const examples = blocks.filter(({ language }) => language === 'ts');
  assert.equal(examples.length, 2);
  const [prelude] = examples[0]!.text.split('\nconsole.log');
  examples.forEach(({ text }, i) => {
    const whole = text.startsWith('import') ? text : `${prelude}\n${text}\nvoid loop;\nawait pool.end();\n`;
    writeFileSync(join(folder, `example${i}.ts`), whole);
  });
  const options = ['--module', 'nodenext', '--target', 'es2022', '--strict', '--skipLibCheck', '--types', 'node'];
  const files = examples.map((_, i) => `example${i}.ts`);
  execFileSync(join(root, 'node_modules', '.bin', 'tsc'), [...options, ...files], { cwd: folder, stdio: 'pipe' });
  examples.forEach((example, i) => {
    const printed = execFileSync(process.execPath, [`example${i}.js`], {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, MYSQL_URL: url },
    });
    const next = blocks[blocks.indexOf(example) + 1];
    assert.equal(normal(printed), next?.language === 'text' && i === 0 ? normal(next.text) : '');
  });
});

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
    listed,
    signatures.map(({ name }) => name),
  );
  const declared = readFileSync(join(root, 'dist/src/loop.js'), 'utf8');
  for (const [, name, options] of readme.matchAll(/^ {2}\.(\w+)\([^{\n]*\{ (.*?) \}\)/gm)) {
    const method = declared.slice(declared.indexOf(`async ${name}(`)).split('\n    }\n')[0]!;
    for (const option of options!.split(', '))
      assert.match(method, new RegExp(`\\b${option}\\b`), `${name}: ${option}`);
  }
});

test('every code of a DoLoopError has its row', () => {
  const types = readFileSync(join(root, 'dist/src/errors.d.ts'), 'utf8');
  const codes = /DoLoopErrorCode = (.*?);/
    .exec(types)![1]!
    .split(' | ')
    .map(code => code.slice(1, -1));
  assert.deepEqual([...readme.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code]) => code).sort(), codes.sort());
});
