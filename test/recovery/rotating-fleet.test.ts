import type pg from 'pg'
import { expect } from 'vitest'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { Fleet } from './fleet.ts'

/** All that was said on a thread, over all its provider threads, without what they began with. */
async function saidOn(fleet: Fleet, pool: pg.Pool, thread: string): Promise<string[]> {
  const { rows } = await pool.query(
    `select provider_thread_id, carried_over from thread_generations where thread_id = $1 order by generation`,
    [thread],
  )
  return rows.flatMap(({ provider_thread_id, carried_over }) =>
    fleet.emulator
      .history(provider_thread_id)
      .slice(carried_over)
      .map(({ role, text }) => `${role}: ${text}`),
  )
}

/** What the operations of a thread were to leave behind, in the order in which they were served. */
async function promisedOn(pool: pg.Pool, thread: string): Promise<string[]> {
  const { rows } = await pool.query(
    `select operation, data ->> 'message' as message from thread_operations
      where thread_id = $1 and data ? 'message' order by turn`,
    [thread],
  )
  return rows.flatMap(({ operation, message }) => [
    `user: ${message}`,
    ...(operation.endsWith('run') ? [`assistant: ${message.split(': ')[1]}`] : []),
  ])
}

test('dispatchers that rotate full threads together lose and double nothing, whatever answers are lost', {
  timeout: 120_000,
}, async ({ url, pool }) => {
  await pool.query(
    `insert into thread_policies (name, pattern, max_messages, carry_over) values ('small', 'any', 6, 1)`,
  )
  const fleet = await Fleet.start({ databaseUrl: url, pool, dispatchers: 3 })
  const threads = await fleet.open(4)
  fleet.emulator.setFaults([
    { name: 'reset_after_commit', probability: 0.05 },
    { name: 'server_error_before_commit', probability: 0.05 },
  ])
  await Promise.all(threads.map((thread) => fleet.insert(thread, 15)))
  await fleet.isOver(90_000)
  fleet.emulator.setFaults([])
  await waitFor(async () => {
    const unfinished = 'select from thread_operations where finished_at is null'
    return (await pool.query(unfinished)).rowCount === 0
  })
  const { rows } = await pool.query(
    `select id, operation, error from thread_operations where status <> 'completed'`,
  )
  expect(rows).toEqual([])
  for (const thread of threads) {
    expect(await saidOn(fleet, pool, thread), thread).toEqual(await promisedOn(pool, thread))
    const generations = await pool.query('select generation from threads where id = $1', [thread])
    expect(generations.rows[0].generation).toBeGreaterThan(2)
  }
  await expectHealthy(pool)
})
