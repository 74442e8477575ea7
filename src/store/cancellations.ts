import type pg from 'pg'
import type { Cancellation } from '../model/outcome.ts'

/**
 * Does what the cancel_runs that there are ask for, as far as it concerns nobody's claim, and gives
 * those of this dispatcher's operations that somebody wants cancelled. `ready`: there is something to
 * claim.
 */
export async function takeCancellations(
  pool: pg.Pool,
  dispatcherId: string,
): Promise<{ wanted: Map<number, Cancellation>; ready: boolean }> {
  const { rows } = await pool.query('select wanted, ready from take_cancellations($1)', [
    dispatcherId,
  ])
  const { wanted, ready } = rows[0] as { wanted: Record<string, Cancellation>; ready: boolean }
  const byId = Object.entries(wanted).map(
    ([id, cancellation]) => [Number(id), cancellation] as const,
  )
  return { wanted: new Map(byId), ready }
}
