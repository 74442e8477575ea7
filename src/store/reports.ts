import type { Database } from '../db/query.ts'
import type { OperationKind } from '../model/operation.ts'
import type { ThreadState } from './thread-views.ts'

export type ThreadReport = Pick<
  ThreadState,
  | 'thread_id'
  | 'state'
  | 'waiting'
  | 'active_operation_id'
  | 'active_operation'
  | 'last_run_id'
  | 'last_run_status'
  | 'provider'
  | 'provider_thread_id'
>

export type WaitingReport = {
  id: number
  thread_id: string
  operation: OperationKind
  /** 1 is served next. */
  position: number
  waited_for_thread_ms: number
  /** Null: it is not the head yet. */
  waited_as_head_ms: number | null
  /** A sentence for people. */
  waits_for: string
}

export type DispatcherReport = {
  id: string
  host: string
  concurrency: number
  providers: string[]
  /** Its connection has no pooler between. */
  direct: boolean
  grace_ms: number
  lease_ms: number
  /** Since its latest sign of life. */
  silent_ms: number
}

type Which = {
  /** Default: all. */
  threadId?: string
  limit: number
}

/** What threads do now, the busy ones first. */
export async function listThreads(
  { query, schema }: Database,
  { threadId, limit }: Which,
): Promise<ThreadReport[]> {
  const rows = await query(
    `select thread_id, state, waiting, active_operation_id, active_operation, last_run_id, last_run_status,
            provider, provider_thread_id
       from ${schema}.thread_states where $1::text is null or thread_id = $1
      order by state = 'idle', waiting desc, created_at desc nulls last, thread_id limit $2`,
    [threadId, limit],
  )
  return rows.map(({ waiting, active_operation_id: id, ...row }) => ({
    ...row,
    waiting: Number(waiting),
    active_operation_id: id === null ? null : Number(id),
  }))
}

/** Pending operations: those served next, of every line or of one. */
export async function listWaiting(
  { query, schema }: Database,
  { threadId, limit }: Which,
): Promise<WaitingReport[]> {
  const rows = await query(
    `select id, thread_id, operation, position, waits_for,
            round(extract(epoch from waited_for_thread) * 1000)::float8 as waited_for_thread_ms,
            round(extract(epoch from waited_as_head) * 1000)::float8 as waited_as_head_ms
       from ${schema}.waiting_operations where $1::text is null or thread_id = $1
      order by position, id limit $2`,
    [threadId, limit],
  )
  return rows.map((row) => ({ ...row, id: Number(row.id), position: Number(row.position) }))
}

/** Those that have signed on and not off, the oldest first. */
export function listDispatchers({ query, schema }: Database): Promise<DispatcherReport[]> {
  return query(
    `select id, host, concurrency, providers, direct, grace_ms, lease_ms,
            greatest(0, round(extract(epoch from clock_timestamp() - beat_at) * 1000))::float8 as silent_ms
       from ${schema}.dispatchers order by started_at, id`,
  )
}
