import type pg from 'pg'

/** One step of a walk along operations or archives. */
export type RetentionStep = {
  looked: number
  pruned: number
  /** The walk has come round. */
  is_round: boolean
}

/** Deletes, among the next `limit` operations, those whose policy keeps them no longer. */
export async function pruneOperations(pool: pg.Pool, limit: number): Promise<RetentionStep> {
  const { rows } = await pool.query('select * from prune_operations($1::integer)', [limit])
  return rows[0]
}

/** As `pruneOperations`, with archives. */
export async function pruneArchives(pool: pg.Pool, limit: number): Promise<RetentionStep> {
  const { rows } = await pool.query('select * from prune_archives($1::integer)', [limit])
  return rows[0]
}
