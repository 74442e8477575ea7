import type pg from 'pg'

export type ExpiryPass = {
  /** Threads whose end was asked for. */
  requested: number
  /** Threads whose earlier request is over. */
  released: number
  /** Requests that are under way now. */
  waiting: number
}

/** One pass of the expiry: asks for the end of conversations that are over their time, with `most` at once. */
export async function expireThreads(pool: pg.Pool, most: number): Promise<ExpiryPass> {
  const { rows } = await pool.query(
    'select requested, released, waiting from expire_threads($1::integer)',
    [most],
  )
  return rows[0]
}
