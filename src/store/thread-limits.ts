import type pg from 'pg'

export type NearLimit = { thread_id: string; messages: number; warning: string }

/** Threads that were active within `sinceMs` and come near to the most that their provider lets them hold. */
export async function threadsNearLimit(pool: pg.Pool, sinceMs: number): Promise<NearLimit[]> {
  const { rows } = await pool.query(
    `select thread_id, messages, warning
       from threads_near_limit(clock_timestamp() - $1 * interval '1 millisecond') order by thread_id`,
    [sinceMs],
  )
  return rows
}
