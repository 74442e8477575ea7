import type { Database } from '../db/query.ts'
import type { CallOutput } from '../model/run.ts'

/** A row of `tool_calls`; prisma/schema.prisma says what each column means. */
export type ToolCallRecord = {
  operation_id: number
  call_id: string
  thread_id: string
  round: number
  type: string
  name: string
  arguments: string
  deadline: Date
  claimed_by: string | null
  attempts: number
  /** Null: it is open. */
  output: CallOutput | null
  is_error: boolean
  answered_by: string | null
  created_at: Date
  answered_at: Date | null
}

/** The calls of an operation, of all its rounds, in the order in which they were asked. */
export const readCallsOfOperation = (database: Database, id: number): Promise<ToolCallRecord[]> =>
  readCalls(database, 'operation_id = $1::bigint', id)

/** The calls that wait for an output, of one thread or (null) of all, in the order in which they were asked. */
export const readOpenCalls = (
  database: Database,
  threadId: string | null,
): Promise<ToolCallRecord[]> =>
  readCalls(database, 'output is null and thread_id = coalesce($1::text, thread_id)', threadId)

async function readCalls(
  { query, schema }: Database,
  which: string,
  value: unknown,
): Promise<ToolCallRecord[]> {
  const rows = await query(
    `select operation_id, call_id, thread_id, round, type, name, arguments, deadline, claimed_by, attempts,
            output, is_error, answered_by, created_at, answered_at
       from ${schema}.tool_calls where ${which} order by created_at, call_id`,
    [value],
  )
  return rows.map((row) => ({ ...row, operation_id: Number(row.operation_id) }))
}
