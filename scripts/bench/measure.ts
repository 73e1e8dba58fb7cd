/** Turns that several contenders take, and what comes of them. */

/** What several turns gave: the median, and the least and most. */
export interface Spread {
  median: number;
  min: number;
  max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Each one through each one, turn by turn: what slows a whole turn down is not in it. */
export function ratios(over: readonly number[], under: readonly number[]): Spread {
  return spread(over.map((value, turn) => value / under[turn]!));
}

/** How long the work takes, ms. */
export async function time(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

/**
 * Lets the contenders take turns: one turn that doesn't count, then so many that do, each time beginning with another.
 *
 * @returns what each turn gave, by contender.
 */
export async function takeTurns<Name extends string>(
  turns: number,
  contenders: Record<Name, (warmUp: boolean) => Promise<number>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contenders) as Name[];
  const results = Object.fromEntries(names.map(name => [name, [] as number[]])) as Record<Name, number[]>;
  for (let turn = 0; turn <= turns; turn += 1) {
    for (let i = 0; i < names.length; i += 1) {
      const name = names[(turn + i) % names.length]!;
      const result = await contenders[name](turn === 0);
      if (turn > 0) results[name].push(result);
    }
  }
  return results;
}

/** A turn of single calls ends after so long, that what is slow beyond measure is measured, too. */
const TURN_MS = 4_000;

/**
 * Lets calls that are short take turns one by one. Each of the works tells how long its parts took, ms, by name; the
 * results are the medians of at most so many calls, for each of the turns.
 */
export async function takeTurnsByCall<Part extends string>(
  { turns, calls }: { turns: number; calls: number },
  works: (() => Promise<Partial<Record<Part, number>>>)[],
): Promise<Record<Part, number[]>> {
  const medians = {} as Record<Part, number[]>;
  for (let turn = 0; turn <= turns; turn += 1) {
    const times = {} as Record<Part, number[]>;
    const end = performance.now() + TURN_MS;
    for (let call = 0; call < calls && (call === 0 || performance.now() < end); call += 1) {
      for (let i = 0; i < works.length; i += 1) {
        const took = await works[(call + i) % works.length]!();
        for (const part of Object.keys(took) as Part[]) {
          times[part] ??= [];
          times[part].push(took[part]!);
        }
      }
    }
    if (turn === 0) continue; // this one doesn't count
    for (const part of Object.keys(times) as Part[]) {
      medians[part] ??= [];
      medians[part].push(spread(times[part]).median);
    }
  }
  return medians;
}
