import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connect, rows, server } from './harness.js';

const DEMO = fileURLToPath(new URL('../scripts/demo.js', import.meta.url));
const MINUTES = { timeout: 180_000 };

const root = await connect();
const base = mkdtempSync(join(tmpdir(), 'demo-test-'));
after(() => rmSync(base, { recursive: true }));
const folder = join(base, 'folder');
const temp = join(base, 'temp');
for (const path of [folder, temp, join(folder, 'sub'), join(folder, '.git')]) mkdirSync(path);
for (let n = 0; n < 200; n += 1) writeFileSync(join(folder, 'sub', `file ${n}`), `content ${n}`);
for (const name of ['Case', 'case', 'ünï 😀', 'it\'s \\ "%_']) writeFileSync(join(folder, name), name);
for (const name of ['.git/config', 'ends in a space ']) writeFileSync(join(folder, name), name);

const before = snapshot();
/** Without the two that can't be ids, with the one that the demo adds. */
const IDS = before.length - 1;

/** The folder's files but for git's, with their contents and times. */
function snapshot(): [string, string, number][] {
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(name => join(folder, name));
  const files = paths.filter(path => statSync(path).isFile()).sort();
  return files.map(path => [path, readFileSync(path, 'utf8'), statSync(path).mtimeMs]);
}

/** Runs the demo on the folder, on the server under test. */
function run() {
  const env = { ...process.env, MYSQL_URL: server.url, TMPDIR: temp, FORCE_COLOR: '0' };
  const demo = spawn(process.execPath, [DEMO, folder], { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 });
  let output = '';
  for (const stream of [demo.stdout, demo.stderr]) {
    stream.setEncoding('utf8').on('data', data => {
      output += data;
    });
  }
  // Its output is closed when the last process that inherited it has ended: the demo itself, and every worker.
  const closed = once(demo, 'close').then(([code]) => ({ code: code as number | null, output }));
  return { demo, closed, soFar: () => output };
}

async function assertNothingLeft(): Promise<void> {
  assert.deepEqual(await rows(root, "SHOW DATABASES LIKE 'doloop\\_demo'"), []);
  assert.deepEqual(readdirSync(temp), []);
  assert.deepEqual(snapshot(), before);
}

test('the demo keeps hashes fresh through a bump and a killed worker, and leaves nothing behind', MINUTES, async () => {
  const { code, output } = await run().closed;
  const claims = [
    'left out: 1 with a name that ends in a space',
    `✓ ${IDS} of ${IDS} files were hashed`,
    `note.txt, first of ${IDS}`,
    '✓ its hash was',
    'it had got 20 ids',
    '✓ they stayed locked',
    '✓ their lock has run out: get(20) answers just these',
    '✓ another worker has hashed them: 20 of 20',
    `✓ ${IDS} verified, 0 mismatches`,
  ];
  for (const claim of claims) assert.ok(output.includes(claim), `${claim}\n${output}`);
  assert.match(output, /total +\d+ +bumped +0 +locked +0\n/);
  assert.match(output, /\nDone in .* nothing is left behind\.\n$/);
  assert.equal(code, 0);
  await assertNothingLeft();
});

const moments: [string, (output: string) => Promise<boolean>][] = [
  [
    'while the workers go round',
    async () => (await rows(root, "SELECT 1 FROM information_schema.processlist WHERE db = 'doloop_demo'")).length > 1,
  ],
  ['while the ids of a killed worker are locked', async output => output.includes('kill -9')],
];

for (const [moment, hasCome] of moments) {
  test(`the demo, interrupted ${moment}, leaves no process and no database behind`, MINUTES, async () => {
    const { demo, closed, soFar } = run();
    while (demo.exitCode === null && !(await hasCome(soFar()))) await sleep(20);
    demo.kill('SIGINT');
    const { code, output } = await closed;
    assert.match(output, /\nInterrupted/);
    assert.doesNotMatch(output, /\nDone/);
    assert.equal(code, 130);
    await assertNothingLeft();
  });
}

test('the demo refuses to use a database that is there already, and leaves it alone', MINUTES, async () => {
  await root.query('CREATE DATABASE doloop_demo');
  try {
    const { code, output } = await run().closed;
    assert.match(output, /has a database doloop_demo already/);
    assert.equal(code, 1);
    assert.equal((await rows(root, "SHOW DATABASES LIKE 'doloop\\_demo'")).length, 1);
  } finally {
    await root.query('DROP DATABASE doloop_demo');
  }
});
