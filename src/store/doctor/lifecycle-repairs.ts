import type pg from 'pg'
import type { Offender } from './invariant.ts'

/** Writes the inventory's row of provider threads that have none; one that says something else stays. */
export async function writeGenerations(
  pool: pg.Pool,
  offenders: readonly Offender[],
): Promise<string> {
  const { rowCount } = await pool.query(
    `insert into thread_generations (thread_id, generation, provider, provider_thread_id, started_at)
     select t.id, t.generation, t.provider, t.provider_thread_id, coalesce(t.generation_since, clock_timestamp())
       from threads t where t.id = any ($1) and t.provider_thread_id is not null and t.provider is not null
         on conflict do nothing`,
    [threadsOf(offenders)],
  )
  return `wrote ${rowCount ?? 0} into the inventory, with nothing said or used before`
}

/** Ends generations that are not what their thread has. */
export async function endGenerations(
  pool: pg.Pool,
  offenders: readonly Offender[],
): Promise<string> {
  const { rowCount } = await pool.query(
    `update thread_generations g set ended_at = clock_timestamp(), ended_by = coalesce(g.ended_by, 'replaced')
      where g.thread_id = any ($1) and g.ended_at is null
        and not exists (select from threads t
                         where t.id = g.thread_id and t.generation = g.generation and t.provider_thread_id is not null)`,
    [threadsOf(offenders)],
  )
  return `ended ${rowCount ?? 0} in the inventory`
}

/** The sweeps look at these threads again. */
export async function letGoOfSweeps(
  pool: pg.Pool,
  offenders: readonly Offender[],
): Promise<string> {
  const { rowCount } = await pool.query(
    `update threads t set lifecycle_operation_id = null
      where t.id = any (array(select l.id from threads l where l.id = any ($1) for no key update skip locked))
        and exists (select from thread_operations o where o.id = t.lifecycle_operation_id and o.thread_id <> t.id)`,
    [threadsOf(offenders)],
  )
  return `let go of ${rowCount ?? 0}`
}

const threadsOf = (offenders: readonly Offender[]) => [
  ...new Set(offenders.flatMap(({ thread }) => thread ?? [])),
]
