import type pg from 'pg'
import { describe, expect } from 'vitest'
import { sayAsleep, seeDispatchers, signOffSilent } from '../../src/store/dispatchers.ts'
import { completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const thread = { thread_id: 't' }

/** Collects what is sent on `inturn_wake`; `heard` gives how often so far, everything committed included. */
async function listenOn(client: pg.PoolClient, pool: pg.Pool) {
  let wakes = 0
  const marks = new Set<string>()
  client.on('notification', ({ channel, payload }) => {
    if (channel === 'inturn_wake') wakes++
    else marks.add(String(payload))
  })
  await client.query('listen inturn_wake; listen mark')
  return {
    async heard(): Promise<number> {
      const mark = String(Math.random())
      await pool.query(`select pg_notify('mark', $1)`, [mark])
      await waitFor(() => marks.has(mark))
      return wakes
    },
  }
}

describe('NOTIFY', () => {
  test('is sent by an INSERT into an empty line only when a dispatcher has said that it sleeps', async ({
    pool,
    connected,
  }) => {
    const ear = await listenOn(await connected(), pool)
    const client = await connected()
    const d = await HandDriven.signOn(client)
    await insertRow(pool, { thread_id: 'a' })
    expect(await ear.heard()).toBe(0)
    await sayAsleep(client, d.id)
    await insertRow(pool, { thread_id: 'a' }) // behind somebody: there is nothing new to claim
    expect(await ear.heard()).toBe(0)
    await insertRow(pool, { thread_id: 'b' })
    expect(await ear.heard()).toBe(1)
    await d.round({ awake: true })
    await insertRow(pool, { thread_id: 'c' })
    expect(await ear.heard()).toBe(1)
  })

  test('is sent once by an INSERT of many rows', async ({ pool, connected }) => {
    const client = await connected()
    const ear = await listenOn(await connected(), pool)
    const d = await HandDriven.signOn(client)
    await sayAsleep(client, d.id)
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select 't' || i, 'add_message', '{"message": "Hi"}' from generate_series(1, 100) i`,
    )
    expect(await ear.heard()).toBe(1)
  })

  test('is sent for a promotion without a free slot', async ({ pool, connected }) => {
    const ear = await listenOn(await connected(), pool)
    const client = await connected()
    const d1 = await HandDriven.signOn(await connected(), 'd1')
    const d2 = await HandDriven.signOn(client, 'd2')
    await insertRow(pool, thread)
    await insertRow(pool, thread)
    const claimed = await d1.claimOnly()
    await sayAsleep(client, d2.id)
    await d1.settle(claimed)
    expect(await ear.heard()).toBe(1)
  })

  test('is not sent for a promotion that starts at once, nor for a retry', async ({
    pool,
    connected,
  }) => {
    const ear = await listenOn(await connected(), pool)
    const client = await connected()
    const d1 = await HandDriven.signOn(await connected(), 'd1')
    const d2 = await HandDriven.signOn(client, 'd2')
    await insertRow(pool, thread)
    await insertRow(pool, thread)
    const claimed = await d1.claimOnly()
    await sayAsleep(client, d2.id)
    const { claimed: next } = await d1.settle(claimed, completed, { free: 1 })
    expect(next).toHaveLength(1)
    await d1.settle(next, retryIn(1000))
    expect(await ear.heard()).toBe(0)
  })

  test('is sent when a cancelled head makes room for the next', async ({ pool, connected }) => {
    const ear = await listenOn(await connected(), pool)
    const client = await connected()
    const d = await HandDriven.signOn(client)
    const { id } = await insertRow(pool, thread)
    const next = await insertRow(pool, thread)
    await sayAsleep(client, d.id)
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
    expect(await ear.heard()).toBe(1)
    expect(await d.claimOnly()).toMatchObject({ id: next.id })
  })

  test('is not sent for the sake of a dispatcher that died in its sleep', async ({
    pool,
    connected,
  }) => {
    const ear = await listenOn(await connected(), pool)
    const client = await connected()
    const d = await HandDriven.signOn(client)
    await sayAsleep(client, d.id)
    const { dispatchers } = await seeDispatchers(pool)
    for (const dispatcher of dispatchers) await signOffSilent(pool, dispatcher, true)
    await insertRow(pool, thread)
    expect(await ear.heard()).toBe(0)
  })
})

describe('falling asleep while an INSERT is open', () => {
  test('costs its NOTIFY, and the next look finds it', async ({ pool, connected }) => {
    const ear = await listenOn(await connected(), pool)
    const client = await connected()
    const writer = await connected()
    const d = await HandDriven.signOn(client)
    await writer.query('begin')
    const { id } = await insertRow(writer, thread) // nobody sleeps yet
    await sayAsleep(client, d.id)
    expect(await d.claim()).toEqual([]) // the look after saying so
    await writer.query('commit')
    expect(await ear.heard()).toBe(0)
    expect(await d.claimOnly()).toMatchObject({ id })
  })
})

test('a round under another isolation level than read committed is refused with what to do', async ({
  pool,
  connected,
}) => {
  const client = await connected()
  const d = await HandDriven.signOn(client)
  await insertRow(pool, thread)
  await client.query(`set default_transaction_isolation = 'repeatable read'`)
  await expect(d.round()).rejects.toMatchObject({
    message: expect.stringMatching(/needs read committed/),
    hint: expect.stringMatching(/alter role/),
  })
})
