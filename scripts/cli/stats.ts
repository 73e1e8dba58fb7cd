/** `doloop stats`: how a loop is doing as a whole, and the answer to "do we keep up?". */
import type { Command } from 'commander';
import type { Connection } from 'mysql2/promise';
import { echo } from 'zx';
import { DoLoop, type LoopId, type Stats } from '../../src/index.js';
import type { LoopName } from '../../src/names.js';
import { connected, connecting, examples, type Flags, inDatabase, loopNamed } from './command.js';
import { formatId, idAsJson } from './ids.js';
import { bar, count, duration, many, paint, shownLoop } from './terminal.js';

const [MINUTE, HOUR, DAY, WEEK] = [60, 3600, 86_400, 604_800];
/** What the rate is taken over, s: long enough for workers that update many ids at once. */
const LATELY = 300;
/** It is by these ages, s, that ids are counted. */
export const AGES = [MINUTE, LATELY, HOUR, DAY, WEEK] as const;

/** A loop as one call of its `stats` shows it. */
export interface Look {
  name: LoopName;
  stats: Stats<LoopId> & { total: number; neverUpdated: number; delayed: Record<number, number> };
  /** Ids updated a second, each counted once, over the last `rateSeconds`. */
  rate: number;
  /** Five minutes; less, if the stalest of the updated ids is younger. */
  rateSeconds: number;
  /** How long it takes at that rate to update every id, s; null if none is. */
  loopTime: number | null;
  /** How long the call took, s. */
  took: number;
}

/**
 * Looks at a loop: one call, which costs little more than to count the loop's ids.
 *
 * @param ages more ages, s, for which to count the ids that were last updated longer ago.
 */
export async function lookAt(connection: Connection, table: string, ages: readonly number[] = []): Promise<Look> {
  const begun = performance.now();
  const loop = new DoLoop<LoopId>(connection, table);
  const stats = (await loop.stats({ delayThresholds: [...ages, ...AGES] })) as Look['stats'];
  const took = (performance.now() - begun) / 1000;
  const { total, neverUpdated, delayed, maxUpdateTime } = stats;
  const everUpdated = total - neverUpdated;
  const rateSeconds = everUpdated > 0 ? Math.max(1, Math.min(maxUpdateTime, LATELY)) : LATELY;
  const rate = (everUpdated - delayed[LATELY]!) / rateSeconds;
  const loopTime = rate > 0 ? total / rate : null;
  return { name: inDatabase(connection, table), stats, rate, rateSeconds, loopTime, took };
}

/** All numbers of a look as they are. */
export function lookAsJson({ name, stats, rate, rateSeconds, loopTime }: Look): object {
  const [minId, maxId] = [stats.minId, stats.maxId].map(id => (id !== null ? idAsJson(id) : null));
  return { ...name, ...stats, minId, maxId, rate, rateSeconds, loopTime };
}

/** Columns for the longest bar, and for an id. */
const [BAR, END] = [40, 16];

/** A look as text, in lines of at most 80 columns. */
export function describe({ name, stats, rate, rateSeconds, loopTime }: Look): string[] {
  const { total, bumped, locked, neverUpdated, delayed } = stats;
  const title = paint(process.stdout, 'bold', `${shownLoop(name)}: ${many(total, 'id')}`);
  if (total === 0) return [title];
  const ends = [stats.minId!, stats.maxId!].map(id => shorten(formatId(id)));

  const between = (least: number, most: number) =>
    least === most ? duration(most) : `${duration(least)} to ${duration(most)}`;
  const facts: [what: string, n: number, more: string][] = [
    ['bumped', bumped, bumped > 0 ? `waiting for ${between(stats.minBumpTime, stats.maxBumpTime)}` : ''],
    ['locked', locked, locked > 0 ? `for another ${between(stats.minLockTime, stats.maxLockTime)}` : ''],
    [
      'updated',
      total - neverUpdated,
      total > neverUpdated ? `${between(stats.minUpdateTime, stats.maxUpdateTime)} ago` : '',
    ],
  ];
  const older = (age: number) => delayed[age]!;
  const histogram: [what: string, n: number][] = [
    ['under a minute ago', total - neverUpdated - older(MINUTE)],
    ['to an hour', older(MINUTE) - older(HOUR)],
    ['to a day', older(HOUR) - older(DAY)],
    ['to a week', older(DAY) - older(WEEK)],
    ['longer ago', older(WEEK)],
    ['never', neverUpdated],
  ];
  const largest = Math.max(...histogram.map(([, n]) => n));
  const row = (what: string, n: number, more: string) =>
    `  ${what.padEnd(18)}  ${count(n).padStart(count(total).length)}  ${more}`.trimEnd();

  const lately = duration(rateSeconds);
  const answer =
    loopTime === null
      ? [`Nothing was updated in the last ${lately}.`]
      : [
          `In the last ${lately}, ${shownRate(rate)} ids/s were updated.`,
          `At this rate a whole loop takes ${duration(loopTime)}.`,
        ];
  if (bumped + neverUpdated + older(HOUR) === 0) answer.push('No id waits: all were updated within the last hour.');
  return [
    total > 1 ? `${title}, ${ends.join(' to ')}` : title,
    ...facts.map(fact => row(...fact)),
    '',
    'Last updated',
    ...histogram.map(([what, n]) => row(what, n, paint(process.stdout, 'cyan', bar(n / largest, BAR)))),
    '',
    `Do we keep up? ${answer[0]}`,
    ...answer.slice(1),
  ];
}

function shorten(text: string): string {
  return text.length <= END ? text : `${text.slice(0, END - 1)}…`;
}

/** A rate for people: 1,234 or 0.0123. */
export function shownRate(rate: number): string {
  return rate >= 100 ? count(Math.round(rate)) : rate.toLocaleString('en', { maximumSignificantDigits: 3 });
}

export function addStats(program: Command): void {
  connecting(
    program
      .command('stats')
      .description(
        'tell how a loop is doing as a whole: one call, which counts ranges of the index, without locks; a second or two for 10,000,000 ids',
      )
      .argument('<table>', 'user_loop or app.user_loop')
      .action(showStats)
      .addHelpText('after', examples('stats user_loop', 'stats user_loop --json')),
  );
}

async function showStats(table: string, flags: Flags): Promise<void> {
  loopNamed(table);
  await connected(flags, async connection => {
    const look = await lookAt(connection, table);
    echo(flags.json ? JSON.stringify(lookAsJson(look)) : describe(look).join('\n'));
  });
}
