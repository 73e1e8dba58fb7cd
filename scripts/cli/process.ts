/** A process that a command runs for its user: given its standard input, and ended when it is time. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface ProcessOptions {
  /** Its standard input, of which it need not read all; without it: empty. */
  input?: string | undefined;
  /** The file descriptor that is its standard output. Its standard error is ours. */
  output: 1 | 2;
  /** Asks it to end (SIGTERM). */
  end: AbortSignal;
  /** How many seconds it has for that, before it is killed. */
  grace: number;
  /** Kills it at once. */
  kill: AbortSignal;
}

/**
 * Runs a program, without a shell, until it ends. Resolves to what went wrong, for people; undefined if it ended with 0.
 * What it has begun itself, and did not put elsewhere, is asked to end and killed with it.
 */
export async function runProcess(
  [file, ...args]: readonly string[],
  { input, output, end, grace, kill }: ProcessOptions,
): Promise<string | undefined> {
  let killing: NodeJS.Timeout | undefined;
  try {
    const child = spawn(file!, args, {
      stdio: [input === undefined ? 'ignore' : 'pipe', output, 2],
      detached: true, // in a group of its own: a terminal's Ctrl-C comes to us alone, and to it once, from us
    });
    const { pid } = child;
    const signal = (name: NodeJS.Signals) => {
      if (pid === undefined) return;
      try {
        process.kill(-pid, name);
      } catch {
        // It has just ended, or is another user's (sudo).
      }
    };
    const onEnd = () => {
      signal('SIGTERM');
      killing = setTimeout(onKill, grace * 1000);
    };
    const onKill = () => signal('SIGKILL');
    end.addEventListener('abort', onEnd);
    kill.addEventListener('abort', onKill);
    child.stdin?.on('error', () => {}).end(input); // it may close it, or end, before it has read all
    try {
      const [code, name] = await once(child, 'exit');
      return code === 0 ? undefined : name ? `ended by ${name}` : `ended with exit code ${code}`;
    } finally {
      end.removeEventListener('abort', onEnd);
      kill.removeEventListener('abort', onKill);
      child.stdin?.destroy();
    }
  } catch (error) {
    return `not started: ${(error as Error).message}`;
  } finally {
    clearTimeout(killing);
  }
}
