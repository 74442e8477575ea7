import type { Database } from '../db/query.ts'

/** Opens a closed thread again; the database refuses where it is open or is being deleted, and says why. */
export async function reopenThread({ query, schema }: Database, threadId: string): Promise<void> {
  await query(`select ${schema}.reopen_thread($1::text)`, [threadId])
}
