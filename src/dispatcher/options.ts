import type pg from 'pg'
import type { Logger } from 'pino'
import type { OnPoint } from '../model/point.ts'
import type { ProviderName } from '../model/thread.ts'
import type { Tools } from '../model/tool.ts'
import type { Execute } from './executor.ts'
import type { Lanes } from './lanes.ts'

export type DispatcherOptions = {
  pool: pg.Pool
  execute: Execute
  /** Operations executed at once, each of another thread. */
  concurrency: number
  /** Providers that this dispatcher has settings for; operations of others are left to those who have. */
  providers: readonly ProviderName[]
  /** Provider of threads that name none. */
  defaultProvider: ProviderName
  /** Those of its keys; without them, no key ever rests. */
  lanes?: Lanes
  /** Tools that are run here for calls of anybody; default none. */
  tools?: Tools
  /** Tool calls run at once. Default 10. */
  toolConcurrency?: number
  /** Longest sleep between two looks at the heads, in milliseconds. */
  pollMs: number
  /** Pause between two beats, in milliseconds. */
  heartbeatMs: number
  /** Silence in milliseconds after which it counts as dead where its connection has ended for certain. */
  graceMs: number
  /** Silence in milliseconds after which it counts as dead in any case. */
  leaseMs: number
  /** Pause between two sweeps for lines that nobody marked, in milliseconds. */
  sweepMs: number
  /** How long streams are kept when their operation is over, in milliseconds; default an hour. */
  streamRetentionMs?: number
  /** How long `stop` waits for running operations, in milliseconds. */
  shutdownMs: number
  onPoint?: OnPoint
  /** What a tool has thrown may appear in the log. Default false. */
  logContent?: boolean
  log: Logger
}
