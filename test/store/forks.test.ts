import type pg from 'pg'
import { describe, expect } from 'vitest'
import { giveProviderThread } from '../../src/store/rotation.ts'
import { completed, HandDriven } from '../support/hand-driven.ts'
import { test } from '../support/own-database.ts'

const copy = {
  provider_thread_id: 'conv_copy',
  items: 0,
  messages: 0,
  left_out: 0,
  last_item_id: null,
  last_message_at: null,
  copied_from: null,
  metadata: {},
}

const insert = (pool: pg.Pool, thread: string, operation: string, data: object) =>
  pool.query('insert into thread_operations (thread_id, operation, data) values ($1, $2, $3)', [
    thread,
    operation,
    data,
  ])

const targetOf = async (pool: pg.Pool) =>
  (await pool.query(`select provider_thread_id from threads where id = 'to'`)).rows[0]

/** A fork to the thread `to` that is being served, and one who waits there; `written`: its row was there before. */
async function begin(pool: pg.Pool, client: pg.PoolClient, written: boolean) {
  const d = await HandDriven.signOn(client)
  if (written) await pool.query(`insert into threads (id, provider) values ('to', 'responses')`)
  await insert(pool, 'from', 'fork_thread', { to: 'to' })
  const { id, attempts } = await d.claimOnly()
  await insert(pool, 'to', 'add_message', { message: 'Hi' })
  const give = (on: pg.Pool) =>
    giveProviderThread(on, { dispatcherId: d.id, id, attempts }, 'to', copy)
  return { d, give }
}

describe.for([false, true])('whose row was written before: %s', (written) => {
  test('a fork does not give its copy to a thread that is started at that moment', async ({
    pool,
    connected,
  }) => {
    const client = await connected()
    const { d, give } = await begin(pool, client, written)
    await client.query('begin')
    const claimed = await d.claimOnly()
    expect(claimed.provider_thread_id).toBeNull()
    // It comes again when the claim is through.
    await expect(give(pool)).rejects.toMatchObject({ code: '55P03' })
    await client.query('commit')
    expect(await give(pool)).toEqual({ noted: {}, refused: 'had operations served already' })
    expect(await targetOf(pool)).toEqual({ provider_thread_id: null })
  })

  test('whoever is started while a fork gives its copy finds it', async ({ pool, connected }) => {
    const client = await connected()
    const { d, give } = await begin(pool, client, written)
    const giving = await connected()
    await giving.query('begin')
    expect(await give(giving as unknown as pg.Pool)).toMatchObject({ refused: null })
    expect(await d.claim()).toEqual([])
    await giving.query('commit')
    await pool.query(
      `begin; set local inturn.line = 'on';
       update thread_operations set ready_at = clock_timestamp() where thread_id = 'to'; commit`,
    )
    const claimed = await d.claimOnly()
    expect(claimed.provider_thread_id).toBe('conv_copy')
    await d.settle(claimed, completed)
  })
})

test('a copy is given once, however often it is asked for', async ({ pool, connected }) => {
  const { give } = await begin(pool, await connected(), false)
  const first = await give(pool)
  expect(first.noted).toMatchObject({ assigned: { generation: 1 }, copying: null })
  expect(await give(pool)).toEqual({ ...first, refused: null })
  const { rows } = await pool.query(`select generation from thread_generations`)
  expect(rows).toEqual([{ generation: 1 }])
})

test('who has lost the claim gives nothing', async ({ pool, connected }) => {
  await begin(pool, await connected(), false)
  const stale = { dispatcherId: 'd1', id: 1, attempts: 2 }
  expect(await giveProviderThread(pool, stale, 'to', copy)).toEqual({ noted: null, refused: null })
  expect(await targetOf(pool)).toBeUndefined()
})
