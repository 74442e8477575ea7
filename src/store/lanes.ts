import type pg from 'pg'
import type { ProviderName } from '../model/thread.ts'
import type { Fence } from './threads.ts'

/** What one API key may do with one model; `model` '': whatever the model. */
export type LaneId = { provider: ProviderName; key: string; model: string }

export type LaneRow = LaneId & {
  /** How much longer it rests, in milliseconds by the database's clock; 0: it does not. */
  rests_ms: number
  /** It rests until a probe succeeds or an operator resumes it. */
  until_proof: boolean
  reason: string | null
  /** It was paused, and nothing has succeeded since. */
  is_struck: boolean
  /** A probe would be due by now. */
  is_probe_due: boolean
  max_runs: number | null
}

/** All lanes of these keys. */
export async function readLanes(
  pool: pg.Pool,
  keys: Partial<Record<ProviderName, string>>,
  probeMs: number,
): Promise<LaneRow[]> {
  const { rows } = await pool.query({
    text: `select l.provider, l.key, l.model, l.max_runs, l.reason, l.paused_at is not null as is_struck,
                  greatest(coalesce(extract(epoch from l.paused_until - clock_timestamp()) * 1000, 0), 0)::float8 as rests_ms,
                  coalesce(l.paused_until = never(), false) as until_proof,
                  coalesce(greatest(l.paused_at, l.probed_at) <= clock_timestamp() - $3 * interval '1 millisecond', false) as is_probe_due
             from lanes l
             join unnest($1::text[], $2::text[]) as own (provider, key) on l.provider = own.provider and l.key = own.key`,
    values: [Object.keys(keys), Object.values(keys), probeMs],
  })
  return rows
}

export type Pause = {
  /** Code of the error. */
  reason: string
  /** Until a probe succeeds or an operator resumes it. */
  untilProof: boolean
  /** What the provider asks for; without it the pause doubles with each strike. */
  retryAfterMs?: number
}

/** Pauses a lane for the whole fleet; returns for how many milliseconds it rests. */
export async function pauseLane(
  pool: pg.Pool,
  { provider, key, model }: LaneId,
  { reason, untilProof, retryAfterMs }: Pause,
): Promise<number> {
  const { rows } = await pool.query({
    text: 'select pause_lane($1, $2, $3, $4, $5, $6) as rests_ms',
    values: [
      provider,
      key,
      model,
      reason,
      untilProof,
      retryAfterMs === undefined ? null : Math.ceil(retryAfterMs),
    ],
  })
  return rows[0].rests_ms
}

/** Ends pauses of the lane, and of its key, that began before `since` (ISO 8601). */
export async function forgiveLanes(
  pool: pg.Pool,
  { provider, key, model }: LaneId,
  since: string,
): Promise<void> {
  await pool.query('select forgive_lanes($1, $2, $3, $4)', [provider, key, model, since])
}

/** True: of all dispatchers, this one is to try one operation on a key that rests. */
export async function probeLane(
  pool: pg.Pool,
  provider: ProviderName,
  key: string,
  heads: readonly string[],
  probeMs: number,
): Promise<boolean> {
  const { rows } = await pool.query({
    text: 'select probe_lane($1, $2, $3, $4) as probes',
    values: [provider, key, heads, probeMs],
  })
  return rows[0].probes
}

/** Takes a place for a run in each lane that has a maximum; gives the name of the lane that is full, if one is. */
export async function enterLane(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: Omit<Fence, 'thread_id'>,
  { provider, key, model }: LaneId,
): Promise<string | null> {
  const { rows } = await pool.query({
    text: 'select enter_lane($1, $2, $3, $4, $5, $6) as full',
    values: [dispatcherId, id, attempts, provider, key, model],
  })
  return rows[0].full
}

/** Sets how many runs the lane may have at once in the whole fleet; null: as many as there are. */
export async function limitLane(
  pool: pg.Pool,
  { provider, key, model }: LaneId,
  maxRuns: number | null,
): Promise<void> {
  await pool.query(
    `insert into lanes (provider, key, model, max_runs) values ($1, $2, $3, $4)
     on conflict (provider, key, model) do update set max_runs = excluded.max_runs, updated_at = clock_timestamp()
      where lanes.max_runs is distinct from excluded.max_runs`,
    [provider, key, model, maxRuns],
  )
}
