import type pg from 'pg'
import type { Database } from '../db/query.ts'

/** Ends holds whose lease is over; says whether somebody is to be served now. */
export async function expireHolds(pool: pg.Pool, dispatcherId: string): Promise<boolean> {
  const { rows } = await pool.query('select expire_holds($1) as found', [dispatcherId])
  return rows[0].found
}

/** Ends holds that a cancel_run wants ended; says whether somebody is to be served now. */
export async function cancelHolds(pool: pg.Pool, dispatcherId: string): Promise<boolean> {
  const { rows } = await pool.query('select cancel_holds($1) as found', [dispatcherId])
  return rows[0].found
}

/** Keeps the thread for `ms` from now; the database refuses where the hold does not have it. */
export async function renewHold(
  { query, schema }: Database,
  id: number,
  ms: number,
): Promise<void> {
  await query(`select ${schema}.renew_hold($1::bigint, $2::integer)`, [id, ms])
}

/** Gives the thread back; the database refuses where the hold does not have it, and says why. */
export async function releaseHold({ query, schema }: Database, id: number): Promise<void> {
  await query(`select ${schema}.release_hold($1::bigint)`, [id])
}

/** The provider's object behind a thread; null while there is none. */
export async function providerThreadOf(
  { query, schema }: Database,
  threadId: string,
): Promise<string | null> {
  const [row] = await query(`select provider_thread_id from ${schema}.threads where id = $1`, [
    threadId,
  ])
  return row?.provider_thread_id ?? null
}

/** The last of a line; null when nobody stands in it. What is scheduled stands in no line yet. */
export async function lastInLine(
  { query, schema }: Database,
  threadId: string,
): Promise<number | null> {
  const [row] = await query(
    `select id from ${schema}.thread_operations
      where thread_id = $1::text and place is not null order by place desc limit 1`,
    [threadId],
  )
  return row ? Number(row.id) : null
}
