import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { type Seen, seeDispatchers, signOffSilent } from '../dispatchers.ts'
import { Watch } from '../watch.ts'
import type { Offender } from './invariant.ts'

const lookMs = 100

/**
 * Signs off the owners of these claims, unless they beat. By the database's clock they have been
 * silent for long, but clocks jump: they are watched until their lease, or the grace of a connection
 * that has ended, is over before our own eyes.
 */
export async function signOffDead(pool: pg.Pool, offenders: readonly Offender[]): Promise<void> {
  const { rows } = await pool.query(
    'select distinct claimed_by from thread_operations where id = any ($1)',
    [offenders.map(({ id }) => id)],
  )
  const owners = new Set(rows.map(({ claimed_by }) => claimed_by))
  const watch = new Watch(Number.POSITIVE_INFINITY)
  let suspects: Seen[] | undefined
  for (;;) {
    const sighting = await seeDispatchers(pool)
    const { dispatchers } = sighting
    watch.saw(sighting, performance.now())
    suspects = (suspects ?? dispatchers.filter(({ id }) => owners.has(id))).filter((suspect) =>
      dispatchers.some(({ id, beat }) => id === suspect.id && beat === suspect.beat),
    )
    for (const { dispatcher, leaseIsOver } of watch.silent(performance.now())) {
      if (!suspects.some(({ id }) => id === dispatcher.id)) continue
      await signOffSilent(pool, dispatcher, leaseIsOver)
      // Held by somebody's transaction, where it is still there: the dispatchers come back for it.
      if (leaseIsOver) suspects = suspects.filter(({ id }) => id !== dispatcher.id)
    }
    if (suspects.length === 0) return
    await sleep(lookMs)
  }
}
