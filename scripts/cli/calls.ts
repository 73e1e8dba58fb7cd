/** The procedures for people: each a command of its name, `doloop add` and its likes. */
import { type Command, Option } from 'commander';
import { echo } from 'zx';
import {
  type AddOptions,
  type BumpOptions,
  type DidOptions,
  DoLoop,
  type ExtendOptions,
  type FailOptions,
  type GetOptions,
  type LoopId,
  type Status,
  type UnlockOptions,
} from '../../src/index.js';
import { connected, connecting, examples, type Flags, inDatabase, loopNamed, UsageError, whole } from './command.js';
import { formatId, idAsJson, idsOf, parseId } from './ids.js';
import { type Column, count, shownLoop, tell, writeTable } from './terminal.js';

/** How many ids go in one call: such calls are the most efficient. */
const PER_CALL = 10_000;

interface Write {
  name: 'add' | 'remove' | 'did' | 'unlock' | 'bump' | 'extend' | 'fail';
  does: string;
  /** What the count it answers is called. */
  counts: string;
  options: Option[];
  examples: string[];
}

type WriteOptions = AddOptions & DidOptions & UnlockOptions & BumpOptions & ExtendOptions & FailOptions;

const seconds = (flags: string, description: string, low: number) =>
  new Option(flags, description).argParser(whole(low));
const dryRun = () => new Option('--dry-run', 'answer as if, and change nothing');
const noAutoAdd = () => new Option('--no-auto-add', 'leave out ids that are not in the loop, rather than add them');
const lease = () =>
  new Option('--lease <time>', 'leave locks alone that are not of this lease, which `get --json` tells').argParser(
    whole(0, Number.MAX_SAFE_INTEGER),
  );

const WRITES: Write[] = [
  {
    name: 'add',
    does: 'put ids in; those already in stay as they are',
    counts: 'added',
    options: [new Option('--updated', 'count the new ids as updated now, rather than never'), dryRun()],
    examples: ['add user_loop 17 23 42', 'add page_loop < ids'],
  },
  {
    name: 'remove',
    does: 'take ids out',
    counts: 'removed',
    options: [dryRun()],
    examples: ['remove user_loop 42', 'remove user_loop --dry-run - < ids'],
  },
  {
    name: 'did',
    does: 'mark ids as updated now, and unlock them',
    counts: 'updated',
    options: [noAutoAdd(), lease(), dryRun()],
    examples: ['did user_loop 17 23', 'did user_loop --lease 1767225600 17 23'],
  },
  {
    name: 'unlock',
    does: 'unlock ids without marking them as updated',
    counts: 'unlocked',
    options: [noAutoAdd(), lease(), dryRun()],
    examples: ['unlock user_loop 17 23', 'unlock user_loop --lease 1767225600 17'],
  },
  {
    name: 'bump',
    does: 'give ids priority, now or later; what has it earlier is not put off',
    counts: 'bumped',
    options: [
      seconds(
        '--lock-for <s>',
        'in how many seconds; negative: before others that were bumped (default: 0)',
        -2_147_483_647,
      ),
      noAutoAdd(),
      dryRun(),
    ],
    examples: ['bump user_loop 99', 'bump user_loop --lock-for 3600 99'],
  },
  {
    name: 'extend',
    does: 'lock ids that are locked for longer, from now on: a heartbeat',
    counts: 'extended',
    options: [seconds('--lock-for <s>', 'for how many seconds (default: 3600)', 1), lease(), dryRun()],
    examples: ['extend user_loop 17 23', 'extend user_loop --lease 1767225600 --lock-for 600 17 23'],
  },
  {
    name: 'fail',
    does: 'say that updates failed: the ids are locked until it is time to try again, then have priority',
    counts: 'failed',
    options: [
      seconds(
        '--retry-in <s>',
        'in how many seconds (default: 60, doubling with each failure in a row, at most a day)',
        0,
      ),
      lease(),
      dryRun(),
    ],
    examples: ['fail user_loop 17', 'fail user_loop --retry-in 600 --lease 1767225600 17'],
  },
];

const TABLE = 'user_loop or app.user_loop';
const IDS = 'ids; where there are none, or for -, from standard input, one a line';

const GET_OPTIONS = [
  seconds('--lock-for <s>', 'for how many seconds to lock them (default: 3600)', 1),
  seconds('--min-loop-time <s>', 'only ids that were last updated at least so many seconds ago (default: 3600)', 0),
  dryRun(),
];

export function addCalls(program: Command): void {
  for (const write of WRITES) {
    addWrite(program, write);
    if (write.name === 'remove') addGet(program); // it comes next in an id's life, and in the list of commands
  }
  connecting(
    program
      .command('check')
      .description('tell how ids are doing: those that are in the loop, each once')
      .argument('<table>', TABLE)
      .argument('[id...]', IDS)
      .action(check)
      .addHelpText('after', examples('check user_loop 17 99', 'check user_loop --json - < ids')),
  );
}

function addWrite(program: Command, write: Write): void {
  const command = program
    .command(write.name)
    .description(write.does)
    .argument('<table>', TABLE)
    .argument('[id...]', IDS)
    .action((table: string, ids: string[], flags: Flags & WriteOptions) => change(write, table, ids, flags))
    .addHelpText('after', examples(...write.examples));
  for (const option of write.options) command.addOption(option);
  connecting(command);
}

function addGet(program: Command): void {
  const command = program
    .command('get')
    .description('pick the ids that come first and lock them, so that no other worker gets them; one a line')
    .argument('<table>', TABLE)
    .option('--limit <n>', 'how many ids at most', whole(1), 1)
    .action(get)
    .addHelpText('after', examples('get user_loop --limit 100', 'get user_loop --limit 100 --lock-for 600 --json'));
  for (const option of GET_OPTIONS) command.addOption(option);
  connecting(command);
}

/** Those of the flags that are the procedure's own. */
function ownOptions(options: Option[], flags: object): object {
  const names = new Set(options.map(option => option.attributeName()));
  return Object.fromEntries(Object.entries(flags).filter(([name]) => names.has(name)));
}

async function change(write: Write, table: string, ids: string[], flags: Flags & WriteOptions): Promise<void> {
  loopNamed(table);
  const options: WriteOptions = ownOptions(write.options, flags);
  // An extension has one lease, so it is one call.
  const pieces = piecesOf(ids, write.name === 'extend' ? Number.POSITIVE_INFINITY : PER_CALL);
  await connected(flags, async connection => {
    const loop = new DoLoop<string>(connection, table);
    let passed = 0;
    let changed = 0;
    let leased: { lease: number | null } | undefined;
    try {
      for await (const piece of pieces) {
        const answer = await loop[write.name](piece, options);
        passed += piece.length;
        changed += typeof answer === 'number' ? answer : answer.extended;
        if (typeof answer === 'object') leased = { lease: answer.lease };
      }
    } catch (error) {
      if (passed === 0) throw error;
      throw new Error(`${(error as Error).message}; the ${count(passed)} ids before were passed on`, { cause: error });
    }
    if (flags.json) echo(JSON.stringify({ [write.counts]: changed, ...leased }));
    else {
      const lasting = leased?.lease ? `, lease ${leased.lease}` : '';
      const dry = options.dryRun ? ' (a dry run: nothing was changed)' : '';
      echo(`${shownLoop(inDatabase(connection, table))}: ${count(changed)} ${write.counts}${lasting}${dry}`);
    }
  });
}

async function get(table: string, flags: Flags & GetOptions & { limit: number }): Promise<void> {
  loopNamed(table);
  await connected(flags, async connection => {
    const loop = new DoLoop<LoopId>(connection, table);
    const batch = await loop.get(flags.limit, ownOptions(GET_OPTIONS, flags));
    if (flags.json) echo(JSON.stringify({ ids: Array.from(batch, idAsJson), lease: batch.lease }));
    else if (batch.length > 0) echo(Array.from(batch, formatId).join('\n'));
    else if (process.stdout.isTTY) tell(`${shownLoop(inDatabase(connection, table))}: nothing is due`);
  });
}

const STATUS: Column[] = [
  { title: 'id' },
  { title: 'since_updated', align: 'right' },
  { title: 'locked_for', align: 'right' },
  { title: 'failures', align: 'right' },
];

async function check(table: string, ids: string[], flags: Flags): Promise<void> {
  loopNamed(table);
  const pieces = piecesOf(ids, PER_CALL);
  await connected(flags, async connection => {
    const loop = new DoLoop<LoopId>(connection, table);
    const found: Status<LoopId>[] = [];
    for await (const piece of pieces) found.push(...(await loop.check(piece)));
    if (flags.json) echo(JSON.stringify(found.map(status => ({ ...status, id: idAsJson(status.id) }))));
    else if (found.length === 0) tell(`${shownLoop(inDatabase(connection, table))}: none of these ids is in`);
    else {
      writeTable(
        STATUS,
        found.map(({ id, sinceUpdated, lockedFor, failures }) => [
          formatId(id),
          ...[sinceUpdated, lockedFor, failures].map(number => `${number ?? 'NULL'}`),
        ]),
      );
    }
  });
}

/** The ids of the arguments at once, or those of standard input in pieces of so many; at least one, though it be empty. */
function piecesOf(ids: string[], perPiece: number): AsyncIterable<string[]> | string[][] {
  if (ids.length === 0 && process.stdin.isTTY) {
    throw new UsageError('ids: none was given; - lets you type them, one a line');
  }
  return ids.length === 0 || ids.join() === '-' ? piecesOfInput(perPiece) : [ids.map(parseId)];
}

async function* piecesOfInput(perPiece: number): AsyncGenerator<string[]> {
  let none = true;
  for await (const piece of idsOf(process.stdin, perPiece)) {
    yield piece;
    none = false;
  }
  if (none) yield []; // so that a loop that is not there is told, too
}
