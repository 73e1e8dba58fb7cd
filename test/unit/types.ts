/** Never run, but compiled with the rest: what the types let through, and what they don't. */
import type { Connection as CallbackConnection, Pool as CallbackPool } from 'mysql2';
import type { Connection, Pool, PoolConnection, PoolNamespace } from 'mysql2/promise';
import {
  type AddOptions,
  Batch,
  type Created,
  create,
  DoLoop,
  DoLoopError,
  type DoLoopErrorCode,
  drop,
  type Extension,
  type Ids,
  type LoopInfo,
  list,
  type Stats,
  type Status,
  scriptForCreate,
  sqlForCreate,
  type WorkEvent,
  type WorkOptions,
  type WorkSummary,
} from '../../src/index.js';

/** Compiles where the value's type is exactly this one, neither wider nor narrower, nor `any`. */
function is<Expected>() {
  return <Actual>(_value: Actual, ..._same: Same<Expected, Actual> extends true ? [] : [never]): void => {};
}
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

declare const pool: Pool;

export async function whatItTakes(
  connection: Connection,
  pooled: PoolConnection,
  callbackPool: CallbackPool,
  ofCluster: PoolNamespace,
  callbackConnection: CallbackConnection,
): Promise<void> {
  for (const target of [pool, connection, pooled, callbackPool, callbackConnection, ofCluster])
    new DoLoop(target, 'user_loop');
  // @ts-expect-error a table is needed
  new DoLoop(pool);
  // @ts-expect-error a URL is no pool
  new DoLoop('mysql://root@localhost/app', 'user_loop');
  // @ts-expect-error a Date is no id
  new DoLoop<Date>(pool, 'user_loop');
  // @ts-expect-error nor is a boolean
  new DoLoop<number | boolean>(pool, 'user_loop');
}

export async function numbers(): Promise<void> {
  const loop = new DoLoop(pool, 'user_loop');
  is<DoLoop<number>>()(loop);
  is<string>()(loop.table);
  is<number>()(await loop.add(1));
  is<number>()(await loop.remove([1, 2]));
  is<Batch<number>>()(await loop.get(10));
  is<number>()(await loop.did(new Set([1])));
  is<number>()(await loop.unlock([1].values()));
  is<number>()(await loop.bump(Int32Array.of(1)));
  is<Extension>()(await loop.extend(await loop.get(1)));
  is<number>()(await loop.fail(1));
  is<Status<number>[]>()(await loop.check(1));
  is<Stats<number>>()(await loop.stats());
  is<number | null>()(await loop.next());
  // @ts-expect-error a string is no id of this loop
  await loop.add('1');
  // @ts-expect-error nor are strings
  await loop.did(['1']);
  // @ts-expect-error nor a bigint
  await loop.bump(1n);
  // @ts-expect-error nothing is no id
  await loop.remove();
  // @ts-expect-error null is no id
  await loop.remove(null);
  // @ts-expect-error a table is read only
  loop.table = 'page_loop';
}

export async function othersIds(): Promise<void> {
  const texts = new DoLoop<string>(pool, 'page_loop');
  is<number>()(await texts.add('page/1'));
  is<Batch<string>>()(await texts.get(1));
  is<string | null>()((await texts.stats()).minId);
  // @ts-expect-error a number is no id of this loop
  await texts.add(1);
  // @ts-expect-error nor is a batch of numbers
  await texts.did(await new DoLoop(pool, 'user_loop').get(1));
  // @ts-expect-error nor a batch of strings one of numbers
  await new DoLoop(pool, 'user_loop').did(await texts.get(1));

  const large = new DoLoop<number | bigint>(pool, 'event_loop');
  is<Batch<number | bigint>>()(await large.get(1));
  await large.add([1, 2n]);

  const bytes = new DoLoop<Buffer>(pool, 'hash_loop');
  is<Buffer | undefined>()((await bytes.get(1))[0]);
  await bytes.add(Buffer.of(1));
  is<Ids<Buffer>>()(Buffer.of(1) as Buffer | Iterable<Buffer>);
}

export async function batches(loop: DoLoop): Promise<void> {
  const batch = await loop.get(1);
  is<number | null>()(batch.lease);
  is<Batch<number>>()(batch.filter(id => id > 1));
  is<Batch<number>>()(batch.slice(1));
  is<Batch<7>>()(batch.filter((id): id is 7 => id === 7));
  is<string[]>()(batch.map(String));
  is<number[]>()([...batch]);
  await loop.did(batch, { lease: batch.lease });
  // @ts-expect-error a plain array has no lease
  [...batch].lease;
  is<Batch<string>>()(new Batch<string>());
}

export async function options(loop: DoLoop): Promise<void> {
  await loop.add(1, { updated: true, dryRun: true });
  await loop.get(1, { lockFor: 60, minLoopTime: 0, dryRun: true });
  await loop.did(1, { autoAdd: false, lease: null, dryRun: true });
  await loop.unlock(1, { autoAdd: false, lease: 1, dryRun: true });
  await loop.bump(1, { lockFor: -60, autoAdd: false, dryRun: true });
  await loop.extend(1, { lockFor: 60, lease: 1, dryRun: true });
  await loop.fail(1, { retryIn: 60, lease: 1, dryRun: true });
  await loop.stats({ delayThresholds: [60] as const });
  await loop.next({ minLoopTime: 60 });
  is<boolean | undefined>()(({} as AddOptions).updated);
  // @ts-expect-error no such option
  await loop.add(1, { update: true });
  // @ts-expect-error no such option
  await loop.remove(1, { autoAdd: true });
  // @ts-expect-error the option is lockFor
  await loop.get(1, { lock_for: 60 });
  // @ts-expect-error no such option
  await loop.did(1, { lockFor: 60 });
  // @ts-expect-error no such option
  await loop.unlock(1, { lockFor: 60 });
  // @ts-expect-error no such option
  await loop.bump(1, { lease: 1 });
  // @ts-expect-error no such option
  await loop.extend(1, { autoAdd: true });
  // @ts-expect-error no such option
  await loop.fail(1, { autoAdd: true });
  // @ts-expect-error a check reads, there is nothing to leave undone
  await loop.check(1, { dryRun: true });
  // @ts-expect-error no such option
  await loop.stats({ thresholds: [60] });
  // @ts-expect-error no such option
  await loop.next({ lockFor: 60 });
  // @ts-expect-error a number of seconds, no text
  await loop.bump(1, { lockFor: '60' });
  // @ts-expect-error an array
  await loop.stats({ delayThresholds: 60 });
}

export async function answers(loop: DoLoop<string>): Promise<void> {
  const [status] = await loop.check('a');
  is<Status<string> | undefined>()(status);
  if (!status) return;
  is<string>()(status.id);
  is<number | null>()(status.sinceUpdated);
  is<number | null>()(status.lockedFor);
  is<number>()(status.failures);
  const stats = await loop.stats();
  is<number>()(stats.bumped);
  is<number>()(stats.maxUpdateTime);
  is<number | null>()(stats.total);
  is<number | null>()(stats.neverUpdated);
  is<Record<number, number> | null>()(stats.delayed);
  // @ts-expect-error the client's names are in camelCase
  stats.min_id;
  const extension = await loop.extend('a');
  is<number>()(extension.extended);
  is<number | null>()(extension.lease);
}

export async function working(loop: DoLoop, texts: DoLoop<string>, options: WorkOptions<number>): Promise<void> {
  const summary = await loop.work(id => is<number>()(id));
  is<WorkSummary>()(summary);
  is<number>()(summary.did);
  await loop.work(async (id, { signal }) => [is<number>()(id), is<AbortSignal>()(signal)], options);
  await texts.work(batch => is<Batch<string>>()(batch), { batch: true, maxIds: 10 });
  await texts.work(id => is<string>()(id), { batch: false, concurrency: 3, onFailure: 'leave', retryIn: 5 });
  await loop.work(() => {}, { once: true, lockFor: 5, minLoopTime: 0, pollInterval: 1, gracePeriod: 0 });
  await loop.work(() => {}, {
    signal: new AbortController().signal,
    onEvent(event) {
      is<WorkEvent<number>>()(event);
      if (event.type === 'got') is<number>()(event.lease);
      if (event.type === 'did') is<readonly number[]>()(event.ids);
      if (event.type === 'failed' || event.type === 'retry') is<unknown>()(event.error);
      if (event.type === 'idle') is<number>()(event.seconds);
      // @ts-expect-error an idle worker has no ids
      if (event.type === 'idle') event.ids;
      // @ts-expect-error no such event
      if (event.type === 'done') return;
    },
  });
  for await (const batch of texts.batches({ maxIds: 10, once: true })) is<Batch<string>>()(batch);
  // @ts-expect-error a handler is needed
  await loop.work();
  // @ts-expect-error its ids are numbers
  await loop.work((id: string) => id);
  // @ts-expect-error a handler of batches needs batch: true
  await loop.work((batch: Batch<number>) => batch);
  // @ts-expect-error and one of ids is none of batches
  await loop.work((id: number) => id, { batch: true });
  // @ts-expect-error no such way
  await loop.work(() => {}, { onFailure: 'retry' });
  // @ts-expect-error no such option
  await loop.work(() => {}, { threads: 2 });
  // @ts-expect-error whoever loops marks, and calls no handlers
  loop.batches({ concurrency: 2 });
}

export async function installing(): Promise<void> {
  const created = await create(pool, 'user_loop', { idType: 'BIGINT', engine: 'InnoDB', grant: ["'app'@'%'"] });
  is<Created>()(created);
  is<'made' | 'adopted' | 'kept'>()(created.table);
  is<string[]>()(sqlForCreate('user_loop', { idType: 'BIGINT' }));
  is<string>()(scriptForCreate('user_loop'));
  is<LoopInfo[]>()(await list(pool));
  is<void>()(await drop(pool, 'user_loop', { table: true }));
  // @ts-expect-error no such option
  await create(pool, 'user_loop', { type: 'INT' });
  // @ts-expect-error without a connection there is nobody to grant
  sqlForCreate('user_loop', { grant: ['app'] });
}

export function errors(error: unknown): void {
  if (!(error instanceof DoLoopError)) return;
  is<DoLoopErrorCode>()(error.code);
  is<unknown>()(error.cause);
  // @ts-expect-error no such code
  if (error.code === 'NO_TABLE') return;
}
