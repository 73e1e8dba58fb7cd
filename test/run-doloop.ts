/** The command line, run as a program on the server under test: what tests of its commands have in common. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { database, server } from './harness.js';

export const BIN = fileURLToPath(new URL('../scripts/doloop.js', import.meta.url));
/** Nobody listens there: what succeeds, or is refused, without connecting. */
export const NOWHERE = { MYSQL_URL: 'mysql://root@127.0.0.1:1/app' };

/** Removed in the end. */
export const folder = mkdtempSync(join(tmpdir(), 'doloop-cli-'));
after(() => rmSync(folder, { recursive: true }));

/** The server's URL with other parts. */
export function serverUrl(parts: { database?: string; user?: string; password?: string } = {}): string {
  const url = new URL(server.url);
  url.pathname = `/${parts.database ?? ''}`;
  if (parts.user !== undefined) {
    url.username = parts.user;
    url.password = '';
  }
  if (parts.password !== undefined) url.password = parts.password;
  return url.href;
}

export type Env = Record<string, string>;
export interface Ran {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** The environment of the script: this file's database, and nothing of the user's. */
export function environment(more: Env = { MYSQL_URL: serverUrl({ database }) }): Env {
  return { PATH: process.env.PATH!, HOME: folder, ...more };
}

/** What a process has written, and how it has ended. */
export async function ended(child: ChildProcess): Promise<Ran> {
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.setEncoding('utf8').on('data', chunk => {
      text[name] += chunk;
    });
  }
  const [code, signal] = await once(child, 'close');
  return { code, signal, ...text };
}

/** Starts a program; see {@link ended}. */
export function begin(program: string, args: string[], env: Env = environment(), input = ''): ChildProcess {
  const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {}); // it need not read
  child.stdin.end(input);
  return child;
}

export function beginDoloop(args: string[], env?: Env, input?: string): ChildProcess {
  return begin(process.execPath, [BIN, ...args], env && environment(env), input);
}

export function doloop(args: string[], env?: Env, input?: string): Promise<Ran> {
  return ended(beginDoloop(args, env, input));
}

/** Starts the script, which ends with the tests at the latest, and lets what it says be waited for. */
export function startDoloop(args: string[], env?: Env) {
  const child = beginDoloop(args, env);
  after(() => child.kill('SIGKILL'));
  const end = ended(child);
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.on('data', chunk => {
      said[name] += chunk;
    });
  }
  const until = async (name: 'stdout' | 'stderr', pattern: RegExp): Promise<RegExpExecArray> => {
    for (const deadline = Date.now() + 60_000; ; await sleep(20)) {
      const found = pattern.exec(said[name]);
      if (found) return found;
      const goesOn = child.exitCode === null && child.signalCode === null && Date.now() < deadline;
      assert.ok(goesOn, `it has said no ${pattern}: ${JSON.stringify(said)}`);
    }
  };
  return { child, end, until };
}

export const done = (stdout: string): Ran => ({ code: 0, signal: null, stdout, stderr: '' });
export const failed = (code: number, stderr: string): Ran => ({
  code,
  signal: null,
  stdout: '',
  stderr: `doloop: ${stderr}\n`,
});

/** A line for a shell, which knows the script as `doloop`, and the server's own console as `console`. */
export function shell(line: string, env?: Env): Promise<Ran> {
  assert.ok(server.console, 'the console of the server is installed');
  const quoted = (argv: string[]) => argv.map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const names =
    `doloop() { ${quoted([process.execPath, BIN])} "$@"; }\n` + `console() { ${quoted(server.console)} "$@"; }\n`;
  return ended(begin('sh', ['-c', names + line], env && environment(env)));
}
