import type { Database } from '../db/query.ts'
import type { OperationKind, OperationStatus } from '../model/operation.ts'
import type { Failure } from '../model/outcome.ts'

/** One claim of an operation, as the ledger tells it. */
export type Attempt = {
  attempt: number
  turn: number
  dispatcher: string
  /** ISO 8601. */
  started_at: string
  /** How it ended: `pending` stands for another try, a pause or a claim given back. Null: the ledger does not say. */
  ended_at: string | null
  status: OperationStatus | null
  code: string | null
  detail: Record<string, unknown> | null
  run_id: string | null
}

/** A row of the view `dead_letters`: an operation that failed for good. */
export type DeadLetter = {
  id: number
  thread_id: string
  operation: OperationKind
  turn: number
  failed_at: Date
  code: string | null
  message: string | null
  error: Failure | null
  attempts: Attempt[]
}

/** What failed, of all threads or one; the newest first. */
export async function listDeadLetters(
  { query, schema }: Database,
  { threadId, limit }: { threadId?: string; limit: number },
): Promise<DeadLetter[]> {
  const rows = await query(
    `select id, thread_id, operation, turn, failed_at, code, error ->> 'message' as message, error, attempts
       from ${schema}.dead_letters where $1::text is null or thread_id = $1
      order by failed_at desc, id desc limit $2`,
    [threadId, limit],
  )
  return rows.map((row) => ({
    ...row,
    id: Number(row.id),
    turn: Number(row.turn),
    attempts: row.attempts ?? [],
  }))
}
