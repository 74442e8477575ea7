import type pg from 'pg'

/** Has those join their lines that are due; says whether somebody is to be served now. */
export async function joinScheduled(pool: pg.Pool, dispatcherId: string): Promise<boolean> {
  const { rows } = await pool.query('select join_scheduled($1) as found', [dispatcherId])
  return rows[0].found
}
