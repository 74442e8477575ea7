import type pg from 'pg'
import type { Intent, Progress } from './progress.ts'

/** Looks at up to `limit` waiting threads after `after`; `lastThread` is null when the round is over. */
export async function sweepLines(
  pool: pg.Pool,
  dispatcherId: string,
  after: string,
  limit: number,
): Promise<{ lastThread: string | null; seen: number; marked: number }> {
  const { rows } = await pool.query({
    text: 'select last_thread, seen, marked from sweep_lines($1, $2, $3)',
    values: [dispatcherId, after, limit],
  })
  return { lastThread: rows[0].last_thread, seen: rows[0].seen, marked: rows[0].marked }
}

/** Settles outcomes that were noted because somebody's transaction held the row; returns how many. */
export async function settleNoted(pool: pg.Pool, limit: number): Promise<number> {
  const { rows } = await pool.query({
    text: 'select settle_noted($1) as count',
    values: [limit],
  })
  return rows[0].count
}

/** Gives back what dispatchers hold that are not signed on. Returns the operations' ids. */
export async function releaseLostOperations(
  pool: pg.Pool,
  dispatcherId: string,
): Promise<number[]> {
  const { rows } = await pool.query('select release_lost_operations($1) as released', [
    dispatcherId,
  ])
  return rows[0].released
}

/** The claims of this dispatcher but for `held`. */
export async function unheardClaims(
  pool: pg.Pool,
  dispatcherId: string,
  held: readonly number[],
): Promise<Array<{ id: number; attempts: number }>> {
  const { rows } = await pool.query('select id, attempts from unheard_claims($1, $2)', [
    dispatcherId,
    held,
  ])
  return rows
}

/** Gives back claims of this dispatcher. */
export async function giveBackOperations(
  pool: pg.Pool,
  dispatcherId: string,
  claims: ReadonlyArray<{ id: number; attempts: number }>,
): Promise<number[]> {
  const { rows } = await pool.query('select give_back_operations($1, $2, $3) as given_back', [
    dispatcherId,
    claims.map(({ id }) => id),
    claims.map(({ attempts }) => attempts),
  ])
  return rows[0].given_back
}

/**
 * Writes down what is about to be sent (`intent`, null: nothing) and what is known by now (`progress`,
 * merged). False: the claim is no longer this dispatcher's, which must then send nothing more.
 */
export async function noteProgress(
  pool: pg.Pool,
  dispatcherId: string,
  claim: { id: number; attempts: number },
  intent: Intent | null,
  progress: Progress,
): Promise<boolean> {
  const { rows } = await pool.query({
    text: 'select note_progress($1, $2, $3, $4, $5) as still_mine',
    values: [
      dispatcherId,
      claim.id,
      claim.attempts,
      intent && JSON.stringify(intent),
      JSON.stringify(progress),
    ],
  })
  return rows[0].still_mine
}
