import type pg from 'pg'
import { releaseLostOperations, settleNoted } from '../release.ts'
import type { Offender } from './invariant.ts'
import { signOffDead } from './sign-off-dead.ts'

/** Who has repaired, in the ledger. */
const actor = 'inturn doctor'

/** Marks the first of these lines, where it waits unmarked and nobody's transaction holds it. */
export async function markHeads(pool: pg.Pool, offenders: readonly Offender[]): Promise<string> {
  const [{ marked }] = await asLine(
    pool,
    `with done as (select mark_heads((next_in_line($1)).waiting) as marked)
     select marked, wake_dispatchers() from done`,
    [threadsOf(offenders)],
  )
  return `marked ${count(marked, 'head')}`
}

/** Takes these marks off, and gives the first of the line its own. */
export async function takeMarksOff(pool: pg.Pool, offenders: readonly Offender[]): Promise<string> {
  const taken = await asLine(
    pool,
    `update thread_operations o set ready_at = null
      where o.id = any (array(select l.id from thread_operations l where l.id = any ($1) for update skip locked))
        and o.status = 'pending' and o.ready_at is not null
        and o.id <> (select f.id from thread_operations f
                      where f.thread_id = o.thread_id and f.place is not null order by f.place limit 1)
     returning o.id`,
    [offenders.map(({ id }) => id)],
  )
  await markHeads(pool, offenders)
  return `took ${count(taken.length, 'mark')} off`
}

/** Gives back what the dead hold, as every dispatcher does. */
export async function releaseClaims(
  pool: pg.Pool,
  offenders: readonly Offender[],
): Promise<string> {
  await signOffDead(pool, offenders)
  const released = await releaseLostOperations(pool, actor)
  return `gave back ${count(released.length, 'claim')}${released.length > 0 ? `: ${released.join(', ')}` : ''}`
}

/** Records what was noted, and drops notes of operations that are gone. */
export async function settleOutcomes(pool: pg.Pool): Promise<string> {
  const settled = await settleNoted(pool, 1_000)
  const { rowCount } = await pool.query(
    `delete from unsettled_outcomes u
      where not exists (select from thread_operations o where o.id = u.operation_id)`,
  )
  return `recorded ${count(settled, 'outcome')}${rowCount ? `, dropped ${count(rowCount, 'outcome')} of operations that are gone` : ''}`
}

/** The clients look for themselves too, so nobody waits in vain. */
export async function removeWaiterRows(
  pool: pg.Pool,
  offenders: readonly Offender[],
): Promise<string> {
  const { rowCount } = await pool.query(
    `delete from operation_waiters w
      where w.operation_id = any ($1)
        and not exists (select from thread_operations o where o.id = w.operation_id and o.finished_at is null)`,
    [offenders.map(({ id }) => id)],
  )
  return `removed ${count(rowCount ?? 0, 'waiter')}`
}

/** One statement with the rights of the line's own functions. */
async function asLine(pool: pg.Pool, text: string, values: unknown[]): Promise<any[]> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query(
      `select set_config('inturn.line', 'on', true), set_config('inturn.actor', $1, true),
              set_config('lock_timeout', '1s', true)`,
      [actor],
    )
    const { rows } = await client.query(text, values)
    await client.query('commit')
    return rows
  } catch (error) {
    await client.query('rollback')
    throw error
  } finally {
    client.release()
  }
}

const threadsOf = (offenders: readonly Offender[]) => [
  ...new Set(offenders.flatMap(({ thread }) => thread ?? [])),
]

const count = (n: number, noun: string) => `${n} ${noun}${n === 1 ? '' : 's'}`
