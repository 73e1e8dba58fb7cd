import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sqlForCreate } from '../../src/index.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const folder = mkdtempSync(join(tmpdir(), 'doloop-package-'));
after(() => rmSync(folder, { recursive: true }));

function run(cwd: string, command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A tool of this repository. */
const tool = (name: string) => join(root, 'node_modules', '.bin', name);

// Without the scripts: the one that builds would take away what other tests are running.
const [packed] = JSON.parse(run(root, 'npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', folder)) as [
  { filename: string; files: { path: string }[] },
];
const tarball = join(folder, packed.filename);
const files = packed.files.map(({ path }) => path).sort();

/** A project with the package and these others installed, and nothing else. */
function project(name: string, ...others: string[]): string {
  const path = join(folder, name);
  mkdirSync(join(path, 'node_modules', 'doloop'), { recursive: true });
  writeFileSync(join(path, 'package.json'), '{ "type": "module" }');
  run(path, 'tar', '-xzf', tarball, '-C', 'node_modules/doloop', '--strip-components=1');
  for (const other of others) symlinkSync(join(root, 'node_modules', other), join(path, 'node_modules', other));
  return path;
}

const evaluate = (path: string, code: string) => run(path, process.execPath, '--input-type=module', '-e', code);

suite('the package', () => {
  const installed = project('installed', ...Object.keys(manifest.dependencies));
  const modules = readdirSync(join(root, 'src'))
    .filter(name => name.endsWith('.ts'))
    .map(name => name.replace(/\.ts$/, ''));
  const sql = readdirSync(join(root, 'sql'));

  test('has the client, the SQL and the command, and no tests, demo, servers or tools', () => {
    const commands = readdirSync(join(root, 'scripts/cli'), { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts'))
      .map(name => `cli/${name.replace(/\.ts$/, '')}`);
    const program = ['doloop', 'connect', ...commands].map(name => `dist/scripts/${name}`);
    const compiled = [...modules.map(name => `dist/src/${name}`), ...program];
    assert.deepEqual(
      files.filter(path => !path.endsWith('.map')),
      [
        ...['LICENSE', 'README.md', 'package.json'],
        ...sql.map(name => `sql/${name}`),
        ...compiled.flatMap(path => [`${path}.js`, `${path}.d.ts`]),
      ].sort(),
    );
  });

  test('is imported in an empty project', () => {
    const names = evaluate(installed, "import * as doloop from 'doloop'; console.log(Object.keys(doloop).join());");
    assert.equal(names.trim(), 'Batch,DoLoop,DoLoopError,create,drop,list,scriptForCreate,sqlForCreate');
  });

  test('finds its SQL where it is installed', () => {
    const code = "import { sqlForCreate } from 'doloop'; console.log(JSON.stringify(sqlForCreate('user_loop')));";
    assert.deepEqual(JSON.parse(evaluate(installed, code)), sqlForCreate('user_loop'));
  });

  test('has a client that loads neither zx nor anything of the command line', () => {
    const bare = project('bare', 'mysql2');
    rmSync(join(bare, 'node_modules', 'doloop', 'dist', 'scripts'), { recursive: true });
    const code = `
      import mysql from 'mysql2/promise';
      import { DoLoop } from 'doloop';
      const pool = mysql.createPool({});
      console.log(new DoLoop(pool, 'user_loop').table);
      await pool.end();`;
    assert.equal(evaluate(bare, code).trim(), 'user_loop');
  });

  test('has a command that tells its version', () => {
    const command = join('node_modules', 'doloop', manifest.bin.doloop);
    assert.equal(run(installed, process.execPath, command, '--version').trim(), manifest.version);
    assert.match(readFileSync(join(installed, command), 'utf8'), /^#!\/usr\/bin\/env node\n/);
  });

  test('keeps what is not public to itself', () => {
    assert.throws(
      () => evaluate(installed, "await import('doloop/dist/src/loop.js')"),
      /ERR_PACKAGE_PATH_NOT_EXPORTED/,
    );
    const code = "console.log(createRequire(import.meta.url)('doloop/package.json').version)";
    const version = evaluate(installed, `import { createRequire } from 'node:module'; ${code}`);
    assert.equal(version.trim(), manifest.version);
  });

  test('has types for a project that checks all of them', () => {
    symlinkSync(join(root, 'node_modules', '@types'), join(installed, 'node_modules', '@types'));
    writeFileSync(
      join(installed, 'worker.ts'),
      `import { type Batch, DoLoop, DoLoopError, sqlForCreate } from 'doloop';
       import callbacks from 'mysql2';
       import mysql from 'mysql2/promise';
       const loop = new DoLoop(mysql.createPool('mysql://root@localhost/app'), 'user_loop');
       const batch: Batch<number> = await loop.get(10, { lockFor: 60 });
       const marked: number = await loop.did(batch.filter(id => id > 0));
       const pages = new DoLoop<string>(callbacks.createConnection({}), 'app.page_loop');
       const { lease }: { lease: number | null } = await pages.extend(await pages.get(1));
       const statements: string[] = sqlForCreate('user_loop', { idType: 'BIGINT' });
       export const isRefused = (error: unknown) => error instanceof DoLoopError && error.code === 'REFUSED';
       console.log(marked, lease, statements);`,
    );
    const options = '--strict --noEmit --module nodenext --target es2022 --types node --exactOptionalPropertyTypes';
    assert.equal(run(installed, tool('tsc'), ...options.split(' '), 'worker.ts'), '');
  });

  test('passes publint', () => {
    assert.match(run(folder, tool('publint'), tarball, '--strict'), /All good/);
  });

  test('passes «are the types wrong», as a package of ES modules alone', () => {
    assert.match(
      run(folder, tool('attw'), tarball, '--profile', 'esm-only', '--no-color'),
      /node16 \(from ESM\).*🟢 \(ESM\)/,
    );
  });

  test('has its version in the changelog', () => {
    const changelog = readFileSync(join(root, 'CHANGELOG.md'), 'utf8');
    assert.ok(changelog.includes(`\n## ${manifest.version}\n`));
  });
});
