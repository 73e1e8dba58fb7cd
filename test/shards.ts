import { createHash } from 'node:crypto';
import type { DoLoop, WorkContext, WorkOptions, WorkSummary } from '../src/index.js';

/** A loop that is spread over servers: its loop on each, by a name that this server keeps for life. */
export type Shards = ReadonlyMap<string, DoLoop>;

/** Which shard an id belongs to: the one for which both together have the highest hash. */
export function homeOf(id: number, names: Iterable<string>): string {
  const hash = (name: string) => createHash('sha1').update(`${name}/${id}`).digest('hex');
  return [...names].reduce((best, name) => (hash(name) > hash(best) ? name : best));
}

/** Makes a call for each shard that ids belong to, with its ids. */
export async function atHome<T>(
  shards: Shards,
  ids: Iterable<number>,
  call: (loop: DoLoop, ids: number[]) => Promise<T>,
) {
  const homes = new Map<string, number[]>();
  for (const id of ids) {
    const home = homeOf(id, shards.keys());
    const its = homes.get(home);
    if (its) its.push(id);
    else homes.set(home, [id]);
  }
  return Promise.all([...homes].map(([home, its]) => call(shards.get(home)!, its)));
}

/** Works on one shard; and moves what belongs elsewhere, once it is updated. */
export function workOn(
  [name, loop]: readonly [string, DoLoop],
  shards: Shards,
  handler: (id: number, context: WorkContext) => unknown,
  options?: WorkOptions<number>,
): Promise<WorkSummary> {
  return loop.work(async (id, context) => {
    await handler(id, context);
    const home = homeOf(id, shards.keys());
    if (home === name) return;
    await shards.get(home)!.add(id, { updated: true }); // there first: a crash in between leaves it in both
    await loop.remove(id);
  }, options);
}

/** Numbers add up; and of the stalest ids of all shards it is the stalest that counts. */
export async function statsOf(shards: Shards) {
  const all = await Promise.all([...shards.values()].map(loop => loop.stats({ delayThresholds: [] })));
  const sum = (name: 'total' | 'neverUpdated' | 'bumped' | 'locked') => all.reduce((n, one) => n + one[name]!, 0);
  return {
    total: sum('total'),
    neverUpdated: sum('neverUpdated'),
    bumped: sum('bumped'),
    locked: sum('locked'),
    maxUpdateTime: Math.max(...all.map(one => one.maxUpdateTime)),
  };
}

/** In how many seconds one of them will have something; null: none ever. */
export async function nextOf(shards: Shards): Promise<number | null> {
  const all = await Promise.all([...shards.values()].map(loop => loop.next()));
  const due = all.filter(dueIn => dueIn !== null);
  return due.length > 0 ? Math.min(...due) : null;
}
