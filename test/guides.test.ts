/** The guides are run: every command, statement and example in them answers what is shown below it. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connect, makeDatabase, server } from './harness.js';

const GUIDES = ['README.md', 'sql/README.md', 'scripts/README.md', 'scripts/operating.md', 'src/README.md'];
/** The loop and the pool that examples without an import of their own go on with. */
const PRELUDE = `import { create, DoLoop } from 'doloop';
import mysql from 'mysql2/promise';
const pool = mysql.createPool(process.env.MYSQL_URL!);
await create(pool, 'user_loop');
const loop = new DoLoop(pool, 'user_loop');
`;

const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'doloop-guides-'));
const program = (name: string, line: string) =>
  writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });

before(() => {
  assert.ok(server.console, 'the console of the server is installed');
  assert.ok(server.dump, 'the dump program of the server is installed');
  mkdirSync(join(folder, 'bin'));
  mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules', 'doloop'));
  symlinkSync(join(root, 'node_modules', 'mysql2'), join(folder, 'node_modules', 'mysql2'));
  symlinkSync(join(root, 'node_modules', '@types', 'node'), join(folder, 'node_modules', '@types', 'node'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const quoted = (argv: string[]) => argv.map(word => `'${word}'`).join(' ');
  program('npx', `shift; exec '${process.execPath}' '${root}dist/scripts/doloop.js' "$@"`);
  program('mysql', `exec ${quoted(server.console)} "$@"`);
  const noGtids = server.kind === 'mysql' ? '--set-gtid-purged=OFF' : '';
  program('mysqldump', `exec ${quoted(server.dump)} ${noGtids} "$@"`);
});
after(() => rmSync(folder, { recursive: true }));

/** Something to be run, and what it says. */
interface Step {
  kind: '$' | 'mysql>' | 'ts';
  input: string;
  shown: string;
}

/** A console session's lines behind their prompts; what goes on for another line has `>` or `->` before that. */
function stepsOfSession(text: string): Step[] {
  const found = text.matchAll(/^(\$|mysql>) (.*\n(?: *-?> .*\n)*)((?:(?!\$ |mysql> ).*\n)*)/gm);
  return [...found].map(([, prompt, input, shown]) => ({
    kind: prompt as '$' | 'mysql>',
    input: input!.replaceAll(/^ *-?> /gm, ''),
    shown: shown!,
  }));
}

/** The sessions and examples of a guide, in order. A block of text right behind an example is what that prints. */
function stepsOf(guide: string): Step[] {
  const text = readFileSync(join(root, guide), 'utf8');
  const blocks = [...text.matchAll(/^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?/gms)];
  return blocks.flatMap(([, language, body, printed]): Step[] => {
    if (language === 'console') return stepsOfSession(body!);
    return language === 'ts' ? [{ kind: 'ts', input: body!, shown: printed ?? '' }] : [];
  });
}

/** What differs from run to run, from server to server, and between a terminal and a file, made equal. */
function normal(text: string, app: string): string {
  return text
    .replaceAll(app, 'app')
    .replaceAll(/in [\d.]+ s \([\d,.]+ ids\/s\)/g, 'in 1.0 s (1 ids/s)')
    .replaceAll(/\b\d{10}\b/g, '1767225600')
    .replaceAll(/": (?=\d)/g, '":')
    .replaceAll(/\b3[56]\d\d\b/g, '3600')
    .replaceAll(/\b(5[5-9]|60)\b/g, '60')
    .replaceAll(/(update_time: |sinceUpdated: |\| +\d+ \| +)\d(?!\d)/g, '$10')
    .replaceAll(/^-{14}\n.*\n-{14}\n\n|(?<=\)) at line 1(?=:)/gm, '') // what consoles say more when nobody types
    .replaceAll(/\d+\.\d+\.\d+/g, '0.0.0')
    .replaceAll(/in \d+\.\d s \([\d.,]+ ids\/s\)/g, 'in 1.0 s (9.0 ids/s)')
    .replaceAll(/[ \t]+/g, ' ')
    .trimEnd();
}

function outputOf(step: Step, app: string, env: NodeJS.ProcessEnv): string {
  if (step.kind === 'ts') {
    const [, module] = /^\/\/ (\w+\.ts)\n/.exec(step.input) ?? [];
    if (module) {
      // A file that later examples import.
      writeFileSync(join(folder, module), step.input);
      return '';
    }
    const whole = step.input.startsWith('import')
      ? step.input
      : `${PRELUDE}${step.input}\nvoid loop;\nawait pool.end();\n`;
    writeFileSync(join(folder, 'example.ts'), whole);
    const options = '--module nodenext --target es2022 --strict --skipLibCheck --types node example.ts'.split(' ');
    execFileSync(join(root, 'node_modules', '.bin', 'tsc'), options, { cwd: folder, stdio: 'pipe' });
    return execFileSync(process.execPath, ['example.js'], { cwd: folder, encoding: 'utf8', env });
  }
  const input = step.input.replaceAll(/\bapp(?=\b|_restored)/g, app);
  const [command, args] =
    step.kind === '$'
      ? ['sh', ['-c', `{ ${input}\n} 2>&1`]]
      : [server.console![0]!, [...server.console!.slice(1), '--table', app]];
  const { stdout, stderr } = spawnSync(command, args, {
    input: step.kind === '$' ? '' : input,
    encoding: 'utf8',
    env,
    cwd: folder,
  });
  return stdout + stderr;
}

for (const guide of GUIDES) {
  test(`${guide} shows what is`, async t => {
    const connection = await connect();
    const app = await makeDatabase('CHARACTER SET utf8mb4');
    const steps = stepsOf(guide);
    assert.notEqual(steps.length, 0);
    // Whoever installs has an application already.
    await connection.query(`CREATE TABLE ${app}.user (id INT PRIMARY KEY, score INT NOT NULL)`);
    t.after(() => connection.query(`DROP USER IF EXISTS '${app}'@'%'`));
    if (!steps.some(({ input }) => input.includes('CREATE USER'))) {
      await connection.query(`CREATE USER '${app}'@'%' IDENTIFIED BY 'Just-4-the-test'`);
    }
    const url = new URL(app, server.url).href;
    const path = `${join(folder, 'bin')}:${process.env.PATH}`;
    const env = { ...process.env, HOME: folder, PATH: path, MYSQL_URL: url };
    for (const step of steps) {
      assert.equal(normal(outputOf(step, app, env), app), normal(step.shown, app), step.input);
    }
  });
}
