import { expect } from 'vitest'
import { Fleet } from '../recovery/fleet.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { ageThreads, askForSweep, insertIdleThreads, setPolicy } from './idle-threads.ts'

test('idle threads of both providers end, and what comes then begins a fresh generation', async ({
  url,
  pool,
}) => {
  const fleet = await Fleet.start({ databaseUrl: url, pool, sweeps: true })
  const idle = await fleet.open(20, 'idle')
  const live = await fleet.open(4, 'live')
  for (const thread of [...idle, ...live]) await fleet.say(thread, 'add_message')
  await fleet.isOver()
  await ageThreads(pool, idle, '2 hours')
  await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 hour' })
  await askForSweep(pool)
  const states = async (threads: readonly string[]) =>
    (
      await pool.query(
        `select t.provider_thread_id is null as ended, g.ended_by, g.archive_id is not null as archived, g.deleted_at is not null as deleted
           from threads t join thread_generations g on g.thread_id = t.id and g.generation = 1 where t.id = any ($1)`,
        [threads],
      )
    ).rows
  await waitFor(async () => (await states(idle)).every(({ ended }) => ended), { timeoutMs: 20_000 })
  await fleet.isOver() // what is ended is deleted afterwards
  expect(await states(idle)).toEqual(
    Array(20).fill({ ended: true, ended_by: 'expired', archived: true, deleted: true }),
  )
  expect(await states(live)).toEqual(
    Array(4).fill({ ended: false, ended_by: null, archived: false, deleted: false }),
  )
  for (const thread of idle) await fleet.say(thread, 'add_message_and_run')
  await fleet.isOver()
  const { rows } = await pool.query('select generation from threads where id = any ($1)', [idle])
  expect(rows).toEqual(Array(20).fill({ generation: 2 }))
  await expectHealthy(pool)
}, 60_000)

test('100,000 threads that expire at once neither flood the fleet nor delay live ones', async ({
  url,
  pool,
}) => {
  const fleet = await Fleet.start({ databaseUrl: url, pool, sweeps: true })
  const live = await fleet.open(10, 'live')
  await insertIdleThreads(pool, { count: 100_000 })
  await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
  await askForSweep(pool)
  const expiries = async (where: string) =>
    (
      await pool.query(
        `select count(*)::int as count from thread_operations where operation = 'expire_thread' and ${where}`,
      )
    ).rows[0].count
  await waitFor(async () => (await expiries('finished_at is not null')) >= 10)
  for (let n = 0; n < 100; n++) await fleet.insert(live[n % 10] as string)
  await waitFor(
    async () =>
      (
        await pool.query(
          `select from thread_operations where operation <> 'expire_thread' and finished_at is null`,
        )
      ).rowCount === 0,
    { timeoutMs: 30_000, message: 'every live operation is over' },
  )
  expect(await expiries('true')).toBeLessThan(50_000)
  // Two dispatchers of ten slots each: five at once, at any time.
  const { rows } = await pool.query(
    `select max((select count(*) from thread_operations b
                  where b.operation = 'expire_thread' and b.created_at <= a.created_at
                    and coalesce(b.finished_at, 'infinity') > a.created_at))::int as most
       from thread_operations a where a.operation = 'expire_thread'`,
  )
  expect(rows[0].most).toBeLessThanOrEqual(5)
  const { rows: lives } = await pool.query(
    `select status, count(*)::int as count from thread_operations where operation <> 'expire_thread' group by 1`,
  )
  expect(lives).toEqual([{ status: 'completed', count: 110 }])
  await expectHealthy(pool)
}, 90_000)
