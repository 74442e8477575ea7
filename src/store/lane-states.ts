import type pg from 'pg'
import type { Database } from '../db/query.ts'
import type { LaneId } from './lanes.ts'

/** A lane as people look at it; see LaneState of the data dictionary. */
export type LaneReport = LaneId & {
  state: 'open' | 'resting' | 'full'
  /** Null: it has no maximum, and nobody counts. */
  runs: number | null
  max_runs: number | null
  /** Operations that were refused or turned back because of it. */
  waiting: number
  /** Null: it does not rest. */
  reason: string | null
  paused_at: Date | null
  /** Null: it does not rest, or until a probe succeeds or an operator resumes it. */
  paused_until: Date | null
}

/** Every lane that was ever paused or given a maximum. */
export async function listLanes({ query, schema }: Database): Promise<LaneReport[]> {
  const rows = await query(
    `select provider, key, model, state, runs, max_runs, waiting, reason, paused_at,
            nullif(paused_until, ${schema}.never()) as paused_until
       from ${schema}.lane_states order by provider, key, model`,
  )
  return rows.map((row) => ({
    ...row,
    runs: row.runs === null ? null : Number(row.runs),
    waiting: Number(row.waiting),
  }))
}

/** Has the lane served again, from now on; says whether it rested. Throws where there is no such lane. */
export async function resumeLane(
  pool: pg.Pool,
  { provider, key, model }: LaneId,
): Promise<boolean> {
  const { rows } = await pool.query('select resume_lane($1, $2, $3) as rested', [
    provider,
    key,
    model,
  ])
  return rows[0].rested
}
