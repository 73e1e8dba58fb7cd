/** `doloop work`: a worker whose updates are done by a command, in whatever language. */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { createPool } from 'mysql2/promise';
import { echo, which } from 'zx';
import { DoLoop, type LoopId, type WorkEvent, type WorkSummary } from '../../src/index.js';
import { connectionSettings } from '../connect.js';
import {
  connected,
  connecting,
  examples,
  type Flags,
  inDatabase,
  loopNamed,
  NO_DATABASE,
  UsageError,
  untilSignalled,
  whole,
} from './command.js';
import { formatId } from './ids.js';
import { runProcess } from './process.js';
import { count, many, tell } from './terminal.js';

interface WorkFlags extends Flags {
  once?: true;
  limit: number;
  concurrency: number;
  lockFor: number;
  minLoopTime: number;
  pollInterval: number;
  onFailure: 'fail' | 'unlock' | 'leave';
  retryIn?: number;
  grace: number;
}

/** Stands for an id in the arguments of the command. */
const PLACE = '{}';
/** A process that was killed is gone within so many seconds: its ids are given back, rather than left locked. */
const DYING = 1;
/** Connections have so many seconds to be closed in order. */
const PARTING = 1;

export function addWork(program: Command): void {
  connecting(
    program
      .command('work')
      .description(
        'get ids that are due, run a command for them, and mark them: as done if it ends with 0, else failed',
      )
      .usage('[options] <table> -- <command...>')
      .argument('<table>', 'user_loop or app.user_loop')
      .argument(
        '<command...>',
        `a program and its arguments, run without a shell: for up to --limit ids, one a line on its standard input; or, with ${PLACE} in an argument, for each id, which takes its place`,
      )
      .option('--once', 'end when nothing is due, as for cron')
      .option('--limit <n>', 'how many ids to get at once', whole(1), 100)
      .option('--concurrency <n>', 'how many processes may run at once', whole(1, 1000), 1)
      .option('--lock-for <s>', 'seconds to lock ids for, and again while their work goes on', whole(1), 3600)
      .option('--min-loop-time <s>', 'only ids that were last updated so many seconds ago', whole(0), 3600)
      .option(
        '--poll-interval <s>',
        'when nothing is due, look again after so many seconds at the latest',
        whole(1),
        10,
      )
      .addOption(
        new Option(
          '--on-failure <what>',
          'try again later (fail), at once (unlock), or when their locks run out (leave)',
        )
          .choices(['fail', 'unlock', 'leave'])
          .default('fail'),
      )
      .option('--retry-in <s>', 'when to try again what failed (default: 60, doubled with each failure)', whole(0))
      .option('--grace <s>', 'seconds that processes have to end, once a signal has come', whole(0, 1_000_000), 30)
      .action(work)
      .addHelpText(
        'after',
        examples(
          'work user_loop -- ./update-users',
          `work page_loop --once --concurrency 4 -- curl -fsS -o /dev/null https://example.com/${PLACE}`,
        ),
      ),
  );
}

async function work(table: string, command: string[], options: WorkFlags): Promise<void> {
  loopNamed(table);
  if (options.retryIn !== undefined && options.onFailure !== 'fail') {
    throw new UsageError(`--retry-in: it goes with --on-failure fail, not ${options.onFailure}`);
  }
  if (options.once && options.minLoopTime === 0) {
    throw new UsageError('--once: with --min-loop-time 0 what was done is due again at once, without end');
  }
  if ((await which(command[0]!, { nothrow: true })) === null) {
    throw new UsageError(`command: there is no program ${JSON.stringify(command[0])}`);
  }
  // What is wrong from the beginning is told now; what comes later is waited for.
  await connected(options, async connection => {
    if (inDatabase(connection, table).database === undefined) {
      throw new Error(NO_DATABASE);
    }
    await new DoLoop(connection, table).next();
  });
  const pool = createPool({ ...connectionSettings(options) });
  const loop = new DoLoop<LoopId>(pool, table);
  const kill = new AbortController();
  setMaxListeners(0, kill.signal); // each process listens
  try {
    await untilSignalled(
      async signal => {
        signal.addEventListener('abort', () =>
          tell(`stopping: what runs has ${options.grace} s to end; once more kills it`),
        );
        const begun = performance.now();
        const summary = await workUntil({ end: signal, kill: kill.signal }, loop, command, options);
        report(summary, (performance.now() - begun) / 1000, options);
      },
      () => kill.abort(),
    );
  } finally {
    // A call that was left to itself may wait for ever, where the network swallows everything.
    await Promise.race([pool.end(), sleep(PARTING * 1000, undefined, { ref: false })]);
  }
}

/** @param signals the first ends it, the other kills what runs. */
function workUntil(
  signals: { end: AbortSignal; kill: AbortSignal },
  loop: DoLoop<LoopId>,
  [program, ...args]: string[],
  flags: WorkFlags,
): Promise<WorkSummary> {
  const { once = false, concurrency, lockFor, minLoopTime, pollInterval, onFailure, retryIn, grace } = flags;
  const options = {
    ...{ once, concurrency, lockFor, minLoopTime, pollInterval, onFailure },
    ...(retryIn !== undefined && { retryIn }),
    maxIds: flags.limit,
    signal: signals.end,
    gracePeriod: grace + DYING,
    onEvent: trouble(),
  };
  const output = flags.json ? 2 : 1;
  /** Has a process update these ids; throws if it did not. */
  const update = async (ids: string, argv: string[], end: AbortSignal, input?: string) => {
    const problem = await runProcess(argv, { input, output, end, grace, kill: signals.kill });
    if (problem === undefined) return;
    if (end.aborted) throw end.reason; // it was interrupted: that is no failure
    tell(`${ids}: ${problem}`);
    throw new Error(problem);
  };
  if (args.some(arg => arg.includes(PLACE))) {
    return loop.work((id, context) => {
      const text = Buffer.isBuffer(id) ? formatId(id) : String(id);
      const argv = [program!, ...args.map(arg => arg.replaceAll(PLACE, () => text))];
      return update(`id ${formatId(id)}`, argv, context.signal);
    }, options);
  }
  return loop.work(
    (batch, context) => {
      const lines = batch.map(id => `${formatId(id)}\n`);
      return update(many(batch.length, 'id'), [program!, ...args], context.signal, lines.join(''));
    },
    { ...options, batch: true },
  );
}

/** Tells of trouble, once, and when it is over; and of ids that are lost. */
function trouble(): (event: WorkEvent<LoopId>) => void {
  let isTrouble = false;
  return event => {
    switch (event.type) {
      case 'retry': {
        if (isTrouble || event.attempt > 1) break;
        isTrouble = true;
        const { message, code } = event.error as NodeJS.ErrnoException; // one about several addresses has a code only
        tell(`${event.call}: ${message || code}; trying again until it works`);
        break;
      }
      case 'got':
      case 'idle':
      case 'extended':
      case 'did':
      case 'unlocked':
        if (isTrouble) tell('it works again');
        isTrouble = false;
        break;
      case 'lost':
        tell(`lost ${many(event.ids.length, 'id')}, bumped or removed meanwhile, or late: ${shownIds(event.ids)}`);
    }
  };
}

/** The first of them. */
function shownIds(ids: readonly LoopId[], most = 5): string {
  return [...ids.slice(0, most).map(formatId), ...(ids.length > most ? ['…'] : [])].join(', ');
}

function report(summary: WorkSummary, seconds: number, { json }: Flags): void {
  const { did, failed, lost, unlocked, left } = summary;
  if (json) {
    echo(JSON.stringify({ ...summary, seconds: Number(seconds.toFixed(3)) }));
    return;
  }
  const parts = [`${count(did)} done`, `${count(failed)} failed`, `${count(lost)} lost`];
  if (unlocked > 0) parts.push(`${count(unlocked)} given back`);
  if (left > 0) parts.push(`${count(left)} left locked`);
  const rate = (did / seconds).toLocaleString('en', { maximumSignificantDigits: 3 });
  tell(`${parts.join(', ')} in ${seconds.toFixed(1)} s (${rate} ids/s)`);
}
