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

/** As `pruneOperations`, with archives; `deleteUnfinishedArchives` deletes what they hold. */
export async function pruneArchives(pool: pg.Pool, limit: number): Promise<RetentionStep> {
  const { rows } = await pool.query('select * from prune_archives($1::integer)', [limit])
  return rows[0]
}

/** Deletes up to `limit` rows of archives that nobody goes on with; fewer: no more are left. */
export async function deleteUnfinishedArchives(pool: pg.Pool, limit: number): Promise<number> {
  const { rows } = await pool.query('select delete_unfinished_archives($1::integer) as count', [
    limit,
  ])
  return rows[0].count
}
