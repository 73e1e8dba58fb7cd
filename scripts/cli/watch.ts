/** `doloop watch`: what `doloop stats` tells, live, with the rates as a small plot. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { echo } from 'zx';
import {
  connecting,
  examples,
  type Flags,
  type Lasting,
  lasting,
  loopNamed,
  UsageError,
  untilSignalled,
  whole,
} from './command.js';
import { describe, type Look, lookAsJson, lookAt, shownRate } from './stats.js';
import { columns, duration, paint, teller } from './terminal.js';

interface WatchFlags extends Flags {
  interval: number;
}

/** However long a look takes, so many times that passes from one to the next. */
const RESPITE = 10;
/** The plot: its lines, its columns, and the columns before it. */
const [LINES, COLUMNS, MARGIN] = [4, 70, 8];

interface View {
  /** The latest that came off. */
  look: Look;
  /** When that was. */
  time: Date;
  /** Ids updated a second between two looks, the latest last; null where a look failed. */
  rates: (number | null)[];
  /** Seconds from this look to the next. */
  period: number;
  /** Why there is no newer look. */
  problem?: string;
}

export function addWatch(program: Command): void {
  connecting(
    program
      .command('watch')
      .description(
        `tell what stats tells, live, with a plot of the ids updated a second, until Ctrl-C; with --json one line a look`,
      )
      .argument('<table>', 'user_loop or app.user_loop')
      .option(
        '--interval <s>',
        `seconds between two looks; at least ${RESPITE} times what a look takes`,
        whole(1, 86_400),
        2,
      )
      .action(watch)
      .addHelpText('after', examples('watch user_loop', 'watch user_loop --interval 60 --json >> looks')),
  );
}

async function watch(table: string, flags: WatchFlags): Promise<void> {
  loopNamed(table);
  if (!flags.json && !process.stdout.isTTY) {
    throw new UsageError('watch draws on a terminal; with --json it writes one line a look, and stats looks once');
  }
  await untilSignalled(async signal => {
    const stop = new AbortController();
    signal.addEventListener('abort', () => stop.abort());
    process.stdout.once('error', () => stop.abort()); // nobody reads it any more
    const server = lasting(flags, stop.signal);
    const screen = flags.json ? lineByLine() : onTerminal();
    try {
      for await (const view of views(server, table, flags.interval, stop.signal)) screen.show(view);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      screen.close();
      await server.end();
    }
  });
}

/** Look after look. What is wrong from the beginning is an error; later it may pass. */
async function* views(
  server: Lasting,
  table: string,
  interval: number,
  signal: AbortSignal,
): AsyncGenerator<View, never> {
  let latest: Pick<View, 'look' | 'time'> | undefined;
  let rates: View['rates'] = [];
  for (let between = interval; ; ) {
    const begun = performance.now();
    const passed = () => (performance.now() - begun) / 1000;
    let problem: string | undefined;
    try {
      const look = await server.use(connection => lookAt(connection, table, [0, between]));
      latest = { look, time: new Date() };
      rates.push(rateSince(look, between));
    } catch (error) {
      if (latest === undefined || signal.aborted) throw error;
      problem = (error as Error).message;
      rates.push(null);
    }
    rates = rates.slice(-COLUMNS);
    const period = Math.max(interval, RESPITE * passed());
    yield { ...latest, rates, period, ...(problem !== undefined && { problem }) };
    await sleep(Math.max(0, period - passed()) * 1000, undefined, { signal });
    between = Math.round(passed());
  }
}

/** Ids updated a second in so many whole seconds before the one in which the look was. */
function rateSince({ stats: { delayed } }: Look, seconds: number): number {
  return (delayed[0]! - delayed[seconds]!) / seconds;
}

interface Screen {
  show(view: View): void;
  close(): void;
}

function lineByLine(): Screen {
  const complain = teller();
  return {
    show({ look, time, rates, problem }) {
      complain(problem);
      if (problem === undefined) echo(JSON.stringify({ time, ...lookAsJson(look), rateNow: rates.at(-1) }));
    },
    close() {},
  };
}

/** The alternate screen, without cursor, and lines that are cut rather than wrapped. */
const [ENTER, LEAVE] = ['\x1b[?1049h\x1b[?25l\x1b[?7l', '\x1b[?7h\x1b[?25h\x1b[?1049l'];
const [HOME, CLEAR_LINE, CLEAR_BELOW] = ['\x1b[H', '\x1b[2K', '\x1b[J'];

/** Has the terminal from the first view until it is closed, but while the process is stopped (Ctrl-Z). */
function onTerminal(): Screen {
  const { stdout } = process;
  let latest: View | undefined;
  const draw = () => {
    const { width, height } = size();
    const lines = linesOf(latest!, width).slice(0, height);
    const rest = lines.length < height ? `\n${CLEAR_BELOW}` : '';
    stdout.write(HOME + lines.map(line => CLEAR_LINE + line).join('\n') + rest);
  };
  const enter = () => {
    stdout.write(ENTER);
    draw();
  };
  const pause = () => {
    stdout.write(LEAVE);
    process.kill(process.pid, 'SIGSTOP');
  };
  return {
    show(view) {
      const isFirst = latest === undefined;
      latest = view;
      if (!isFirst) return draw();
      stdout.on('resize', draw);
      process.on('SIGTSTP', pause);
      process.on('SIGCONT', enter);
      enter();
    },
    close() {
      if (latest === undefined) return;
      stdout.off('resize', draw);
      process.off('SIGTSTP', pause);
      process.off('SIGCONT', enter);
      stdout.write(LEAVE);
    },
  };
}

/** That of the terminal; some do not tell theirs. */
function size(): { width: number; height: number } {
  return { width: process.stdout.columns || 80, height: process.stdout.rows || 24 };
}

function linesOf({ look, time, rates, period, problem }: View, width: number): string[] {
  const { stdout } = process;
  const shown = rates.slice(-Math.max(1, width - MARGIN));
  const most = Math.max(...shown.map(rate => rate ?? 0));
  const labels = [shownRate(most), ...Array<string>(LINES - 2).fill(''), '0'];
  const plot = columns(shown, LINES);
  const now = rates.at(-1) ?? null;
  const clock = time.toLocaleTimeString('en-GB');
  const trouble = `Last seen at ${clock}, trying again: ${problem}`.replaceAll(/\s+/g, ' ').slice(0, width);
  return [
    ...describe(look),
    '',
    `Ids updated a second${now === null ? '' : `: ${shownRate(now)} now`}`,
    ...labels.map((label, i) => `${label.padStart(MARGIN - 1)} ${paint(stdout, 'green', plot[i]!)}`),
    problem === undefined
      ? paint(stdout, 'dim', `${clock}, every ${duration(period)}; Ctrl-C ends`)
      : paint(stdout, 'red', trouble),
  ];
}
