import type { Database } from '../db/query.ts'

/** Sends a failed or cancelled operation back into its line; the database refuses all else, and says why. */
export async function retryOperation(
  { query, schema }: Database,
  id: number,
  at: string,
): Promise<{ threadId: string }> {
  const [row] = await query(
    `select thread_id from ${schema}.retry_operation($1::bigint, $2::text)`,
    [id, at],
  )
  return { threadId: row.thread_id }
}
