import { expect, onTestFinished } from 'vitest'
import { sweep } from '../../src/lifecycle/sweep.ts'
import { Fleet } from '../recovery/fleet.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { setPolicy } from './idle-threads.ts'

test('what is over goes while its line is busy: order, effects, turns and sums stay', async ({
  url,
  pool,
}) => {
  const fleet = await Fleet.start({ databaseUrl: url, pool })
  const threads = await fleet.open(6)
  await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '50 milliseconds' })
  const ending = new AbortController()
  let pruned = 0
  const sweeping = (async () => {
    while (!ending.signal.aborted) pruned += (await sweep({ pool })).operations_pruned
  })()
  onTestFinished(async () => {
    ending.abort()
    await sweeping
  })
  for (let n = 0; n < 60; n++) await fleet.say(threads[n % 6] as string, 'add_message')
  await fleet.isOver(30_000)
  const { rows: left } = await pool.query('select 1 from thread_operations')
  expect(left.length).toBeLessThan(66)
  await waitFor(async () => (await pool.query('select from thread_operations')).rowCount === 0, {
    message: 'everything is pruned',
  })
  ending.abort()
  await sweeping
  expect(pruned).toBe(66)
  const { rows } = await pool.query('select * from threads order by id')
  for (const { id, provider_thread_id, last_turn, messages_so_far } of rows) {
    const first = threads.indexOf(id)
    const said = fleet.emulator.history(provider_thread_id).map(({ text }) => text)
    expect(said, id).toEqual(
      Array.from({ length: 10 }, (_, i) => `reply with exactly: answer ${6 * i + first + 1}`),
    )
    expect({ last_turn, messages_so_far }).toEqual({ last_turn: 11, messages_so_far: 10 })
  }
  for (const thread of threads) await fleet.say(thread, 'add_message')
  await fleet.isOver()
  const { rows: turns } = await pool.query('select turn from thread_operations')
  expect(turns).toEqual(Array(6).fill({ turn: 12 }))
  await expectHealthy(pool)
}, 60_000)
