import type pg from 'pg'
import { expect } from 'vitest'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { isCompleted, type KeysFleet, named, startKeysFleet } from './keys-fleet.ts'

const ask = (pool: pg.Pool, user: string | null, threads: readonly string[]) =>
  pool.query(
    `insert into thread_operations (thread_id, operation, data, user_id, retry)
     select thread, 'add_message_and_run', '{"message": "Hi", "model": "m"}', $1, '{"max_attempts": 1}'
       from unnest($2::text[]) as thread`,
    [user, threads],
  )

/** Most runs that went on at once on behalf of these threads, by what the provider saw. */
async function mostAtOnce(pool: pg.Pool, { emulator }: KeysFleet, threads: readonly string[]) {
  const { rows } = await pool.query(
    'select provider_thread_id as id from threads where id = any ($1)',
    [threads],
  )
  const runs = rows.flatMap(({ id }) => emulator.runs(id))
  const going = ({ startedAt }: (typeof runs)[0]) =>
    runs.filter((run) => run.startedAt <= startedAt && (run.endedAt ?? startedAt) > startedAt)
  return Math.max(...runs.map((run) => going(run).length))
}

test('the runs of one user are limited in the whole fleet, and nobody else waits for it', async ({
  url,
  pool,
}) => {
  const fleet = await startKeysFleet(url, pool, { latency: { thinkMs: 150 } })
  await fleet.start('key', { maxRunsPerUser: '2' })
  await fleet.start('key', { maxRunsPerUser: '2' })
  const [hers, his, nobodys] = [named('hers', 8), named('his', 3), named('nobodys', 5)]
  await ask(pool, 'ann', hers)
  await ask(pool, 'bob', his)
  await ask(pool, null, nobodys)
  const rows = await fleet.all([...hers, ...his, ...nobodys], isCompleted, 'all are served')
  expect(rows.map(({ failures }) => failures)).toEqual(rows.map(() => 0))
  expect(await mostAtOnce(pool, fleet, hers)).toBe(2)
  expect(await mostAtOnce(pool, fleet, his)).toBeLessThanOrEqual(2)
  const { rows: full } = await pool.query(
    `select distinct o.user_id from operation_events e join thread_operations o on o.id = e.operation_id
      where e.code = 'user_full' order by 1`,
  )
  expect(full.map(({ user_id }) => user_id)).toContain('ann')
  expect(full.map(({ user_id }) => user_id)).not.toContain(null)
  await expectHealthy(pool)
})

test('who says nothing asks on behalf of the user whose thread it is', async ({ url, pool }) => {
  const fleet = await startKeysFleet(url, pool, { latency: { thinkMs: 150 } })
  await fleet.start('key', { maxRunsPerUser: '1' })
  const { rows: owned } = await pool.query(
    `select (get_thread('ann', 'session ' || n)).id from generate_series(1, 4) n`,
  )
  const hers = owned.map(({ id }) => id)
  await ask(pool, null, hers)
  await ask(pool, 'bob', ['hers by bob'])
  await pool.query(`insert into threads (id, user_id) values ('bobs own', 'bob')`)
  await ask(pool, 'ann', ['bobs own'])
  await fleet.all([...hers, 'hers by bob', 'bobs own'], isCompleted, 'all are served')
  expect(await mostAtOnce(pool, fleet, [...hers, 'bobs own'])).toBe(1)
  await expectHealthy(pool)
})

test('the place of a user is kept for a run that its dispatcher has left behind', async ({
  url,
  pool,
}) => {
  const fleet = await startKeysFleet(url, pool)
  const stop = await fleet.start('key', { maxRunsPerUser: '1' })
  fleet.emulator.setFaults([{ name: 'stuck_in_progress', times: 1 }])
  await ask(pool, 'ann', ['stuck'])
  await fleet.all(['stuck'], ({ progress }) => progress?.run_id, 'the run is going on')
  await stop()

  await fleet.start('key', { maxRunsPerUser: '1' })
  await ask(pool, 'ann', ['behind'])
  await fleet.all(['behind'], ({ error }) => error?.code === 'user_full', 'it is turned back')
  const [stuck] = await fleet.all(['stuck'], () => true, 'the first')
  const { rows } = await pool.query(
    `select provider_thread_id as id from threads where id = 'stuck'`,
  )
  const { id: conversation } = rows[0]
  await fetch(`${fleet.emulator.url}/responses/${stuck.progress.run_id}/cancel`, {
    method: 'POST',
    headers: { authorization: 'Bearer key' },
  })
  await waitFor(() => fleet.emulator.runs(conversation).every(({ endedAt }) => endedAt))
  await fleet.all(['behind'], isCompleted, 'the next run of the user')
  await expectHealthy(pool)
})
