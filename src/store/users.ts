import type pg from 'pg'
import type { Fence } from './threads.ts'

/** Takes a place for a run of this user; false: as many go on as there may be. */
export async function enterUser(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: Omit<Fence, 'thread_id'>,
  userId: string,
  maxRuns: number,
): Promise<boolean> {
  const { rows } = await pool.query({
    text: 'select enter_user($1, $2, $3, $4, $5) as entered',
    values: [dispatcherId, id, attempts, userId, maxRuns],
  })
  return rows[0].entered
}
