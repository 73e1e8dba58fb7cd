/**
 * Runs the tests: those that need no server; the others on MariaDB and on MySQL, each brought for the purpose, or on the
 * server of MYSQL_URL alone; and those that bring several servers of their own. With arguments: only the files whose
 * name has one of them in it. With `--long`: the same tests, and as many rounds of each as the guides promise.
 */
import { existsSync, readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { finished } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Kind, openServer, startServer } from './server.js';

const KINDS: Kind[] = ['mariadb', 'mysql'];
const NAMES: Record<Kind, string> = { mariadb: 'MariaDB', mysql: 'MySQL' };

const { values: options, positionals: wanted } = parseArgs({
  options: { long: { type: 'boolean' } },
  allowPositionals: true,
});
if (options.long) process.env.DOLOOP_TEST_LONG = '1';

function testFiles(folder: string): string[] {
  const path = fileURLToPath(new URL(`../test/${folder}`, import.meta.url));
  if (!existsSync(path)) return [];
  return readdirSync(path)
    .filter(name => name.endsWith('.test.js') && (wanted.length === 0 || wanted.some(part => name.includes(part))))
    .map(name => path + name);
}

/** Runs files, shows what comes of them, and counts. */
async function runFiles(title: string, files: string[], concurrency = 2): Promise<string> {
  let passed = 0;
  let failed = 0;
  console.log(`\n${title}`);
  const events = run({ files, concurrency });
  const isTest = (event: { name: string; details: { type?: string } }) =>
    event.details.type !== 'suite' && !files.some(file => basename(file) === basename(event.name));
  events.on('test:pass', event => {
    if (isTest(event)) passed += 1;
  });
  events.on('test:fail', event => {
    if (event.details.type !== 'suite') failed += 1;
  });
  events.compose(new spec()).pipe(process.stdout, { end: false });
  await finished(events);
  if (failed > 0 || passed === 0) process.exitCode = 1;
  return `${title}: ${passed} passed, ${failed} failed`;
}

const summary: string[] = [];
const unit = testFiles('unit/');
if (unit.length > 0) summary.push(await runFiles('no server', unit));

const files = testFiles('');
const starts = process.env.MYSQL_URL
  ? [() => openServer()]
  : KINDS.map(kind => () => startServer({ kind, clients: true }));
for (const start of files.length > 0 ? starts : []) {
  const server = await start();
  try {
    const { kind, version, url, console, dump } = server;
    process.env.DOLOOP_TEST_SERVER = JSON.stringify({ kind, version, url, console, dump });
    summary.push(await runFiles(`${NAMES[kind]} ${version}`, files));
  } finally {
    await server.stop();
  }
}

const clusters = testFiles('clusters/');
if (clusters.length > 0) summary.push(await runFiles('several servers', clusters, 1));

console.log(`\n${summary.join('\n')}`);
