export { Batch } from './batch.js';
export type { BatchesOptions, WorkEvent } from './batches.js';
export { DoLoopError, type DoLoopErrorCode } from './errors.js';
export type { Ids, LoopId } from './ids.js';
export {
  type Created,
  type CreateOptions,
  create,
  type DropOptions,
  drop,
  type LoopInfo,
  list,
  type SqlOptions,
  scriptForCreate,
  sqlForCreate,
} from './install.js';
export {
  type AddOptions,
  type BumpOptions,
  type DidOptions,
  DoLoop,
  type ExtendOptions,
  type Extension,
  type FailOptions,
  type GetOptions,
  type NextOptions,
  type Stats,
  type StatsOptions,
  type Status,
  type UnlockOptions,
} from './loop.js';
export type { AnyConnection, AnyPool } from './mysql.js';
export type { BatchWorkOptions, Handler, WorkContext, WorkOptions, WorkSummary } from './work.js';
