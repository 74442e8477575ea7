import type { Database } from '../db/query.ts'

/** What a thread is found by: whose it is, which session's, what it is about; each 1 to 255 characters. */
export type ThreadKeys = {
  user?: string
  session?: string
  topic?: string
  /** Whatever you want to find it by. */
  labels?: Record<string, unknown>
}

/** Id of the thread with these keys, whose row is written by whoever asks first. */
export async function getThread(
  { query, schema }: Database,
  { user, session, topic, labels }: ThreadKeys,
): Promise<string> {
  const [row] = await query(
    `select id from ${schema}.get_thread($1::text, $2::text, $3::text, $4::jsonb)`,
    [user ?? null, session ?? null, topic ?? null, JSON.stringify(labels ?? {})],
  )
  return row.id
}
