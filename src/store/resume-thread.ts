import type { Database } from '../db/query.ts'

/** What an operator let go on: the operation that was held, or the failed one after which the line was halted. */
export type Resumed = { operationId: number; was: 'held' | 'halted' }

/** Lets a thread go on that waits for an operator; the database refuses where it does not, and says why. */
export async function resumeThread(
  { query, schema }: Database,
  threadId: string,
): Promise<Resumed> {
  const [row] = await query(`select operation_id, was from ${schema}.resume_thread($1::text)`, [
    threadId,
  ])
  return { operationId: Number(row.operation_id), was: row.was }
}
