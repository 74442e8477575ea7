import type { Database } from '../db/query.ts'
import type { OperationKind, OperationStatus } from '../model/operation.ts'
import type { Failure, OperationResult } from '../model/outcome.ts'
import type { ProviderName } from '../model/thread.ts'

/** A row of the view `thread_states`; prisma/schema.prisma says what each column means. */
export type ThreadState = {
  thread_id: string
  state:
    | 'idle'
    | 'active'
    | 'requires_action'
    | 'held'
    | 'halted'
    | 'expired'
    | 'closed'
    | 'deleted'
  /** Number of pending operations. */
  waiting: number
  active_operation_id: number | null
  active_operation: OperationKind | null
  active_since: Date | null
  last_run_id: string | null
  last_run_status: string | null
  last_run_finished_at: Date | null
  provider: ProviderName | null
  provider_thread_id: string | null
  metadata: Record<string, string> | null
  created_at: Date | null
}

/** The columns of `thread_operations` that are for people. */
export type OperationRecord = {
  id: number
  thread_id: string
  operation: OperationKind
  data: Record<string, unknown>
  status: OperationStatus
  priority: number
  idempotency_key: string | null
  turn: number | null
  attempts: number
  result: OperationResult | null
  error: Failure | null
  created_at: Date
  started_at: Date | null
  finished_at: Date | null
}

/** A row of the view `thread_timeline`: one thing that happened to one operation. */
export type TimelineEntry = {
  at: Date
  operation_id: number
  operation: OperationKind | null
  turn: number | null
  event: string
  attempt: number | null
  actor: string
  code: string | null
  run_id: string | null
}

export async function readThreadState(
  { query, schema }: Database,
  threadId: string,
): Promise<ThreadState | null> {
  const [row] = await query(
    `select thread_id, state, waiting, active_operation_id, active_operation, active_since, last_run_id,
            last_run_status, last_run_finished_at, provider, provider_thread_id, metadata, created_at
       from ${schema}.thread_states where thread_id = $1::text`,
    [threadId],
  )
  return row
    ? {
        ...row,
        waiting: Number(row.waiting),
        active_operation_id: number(row.active_operation_id),
        active_since: date(row.active_since),
        last_run_finished_at: date(row.last_run_finished_at),
        created_at: date(row.created_at),
      }
    : null
}

/** The last of the thread's operations, the one at the end of the line first. */
export async function readThreadOperations(
  { query, schema }: Database,
  threadId: string,
  limit: number,
): Promise<OperationRecord[]> {
  const rows = await query(
    `select id, thread_id, operation, data, status, priority, idempotency_key, turn, attempts, result, error,
            created_at, started_at, finished_at
       from ${schema}.thread_operations where thread_id = $1::text
      order by turn desc nulls first, id desc limit $2::int`,
    [threadId, limit],
  )
  return rows.map((row) => ({
    ...row,
    id: Number(row.id),
    turn: number(row.turn),
    created_at: date(row.created_at),
    started_at: date(row.started_at),
    finished_at: date(row.finished_at),
  }))
}

/** What has happened on the thread, oldest first. */
export async function readTimeline(
  { query, schema }: Database,
  threadId: string,
): Promise<TimelineEntry[]> {
  const rows = await query(
    `select at, operation_id, operation, turn, event, attempt, actor, code, run_id
       from ${schema}.thread_timeline where thread_id = $1::text`,
    [threadId],
  )
  return rows.map((row) => ({
    ...row,
    at: date(row.at),
    operation_id: Number(row.operation_id),
    turn: number(row.turn),
  }))
}

// A caller's own pool may have other ideas of what a bigint or a timestamp becomes.
const number = (value: string | number | bigint | null) => (value === null ? null : Number(value))
const date = (value: Date | string | null) => (value === null ? null : new Date(value))
