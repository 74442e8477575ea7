export type { AdoptOptions } from './client/adopt.ts'
export { ErasureHandle, type ErasureOptions } from './client/erasure-handle.ts'
export {
  HoldLostError,
  IdempotencyConflictError,
  OperationCancelledError,
  OperationFailedError,
  OperationSupersededError,
  RefusedError,
  ResultTimeoutError,
} from './client/errors.ts'
export type { Held, HoldOptions } from './client/hold.ts'
export { Inturn, type InturnOptions } from './client/inturn.ts'
export { migrate } from './client/migrate.ts'
export type { EnqueueOptions, JoinOptions, NewOperation } from './client/new-operation.ts'
export type { OperationHandle, ResultOf, ResultOptions } from './client/operation-handle.ts'
export type { StreamOptions } from './client/operation-stream.ts'
export type { CancelOptions, ThreadHandle } from './client/thread-handle.ts'
export type {
  ArchiveOptions,
  DeleteOptions,
  ForkOptions,
  RotateOptions,
} from './client/thread-life.ts'
export type { WaitOptions } from './client/until-settled.ts'
export type { MigrateResult } from './db/migrate.ts'
export type { CallerTransaction, PrismaTransaction } from './db/query.ts'
export { InturnError } from './errors.ts'
export type { MessageInput } from './model/message.ts'
export type { BusyStrategy, OperationKind, OperationStatus } from './model/operation.ts'
export type { CancelOutcome, Failure, OperationResult } from './model/outcome.ts'
export type { RetryLimits, RetryPolicy } from './model/retry.ts'
export type { RunStatus, Usage } from './model/run.ts'
export type { StreamEvent } from './model/stream-event.ts'
export type { ProviderName } from './model/thread.ts'
export {
  defineTools,
  type Tool,
  type ToolContext,
  ToolError,
  type Tools,
  tool,
} from './model/tool.ts'
export type { OperationData } from './operations/data/index.ts'
export type { RunParameters } from './operations/data/run-parameters.ts'
export type { ToolOutput } from './operations/data/submit-tool-outputs.ts'
export type { Archive, ArchivedMessage, ArchiveFilter } from './store/archive-reading.ts'
export type { Erasure, ErasureReport } from './store/erasures.ts'
export type { Resumed } from './store/resume-thread.ts'
export type { ThreadKeys } from './store/thread-keys.ts'
export type { ThreadSettings } from './store/thread-settings.ts'
export type { ThreadFilter, ThreadStats } from './store/thread-stats.ts'
export type { OperationRecord, ThreadState, TimelineEntry } from './store/thread-views.ts'
export type { ToolCallRecord } from './store/tool-call-records.ts'
