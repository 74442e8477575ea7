import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow, moveTo, readRow } from '../support/line.ts'
import { withClient } from '../support/query.ts'

const cancel = `update thread_operations set status = 'cancelled' where id = any ($1)`

/** The ids of three operations of one thread, in the order of their line. */
async function line(pool: pg.Pool, threadId: string): Promise<[number, number, number]> {
  const next = async () => (await insertRow(pool, { thread_id: threadId })).id
  return [await next(), await next(), await next()]
}

describe('a plain UPDATE that cancels', () => {
  test('the head marks the next of its line', async ({ pool }) => {
    const [head, next, last] = await line(pool, 'head')
    await pool.query(cancel, [[head]])
    expect(await readRow(pool, head)).toMatchObject({
      status: 'cancelled',
      finished_at: expect.any(Date),
      ready_at: null,
      turn: null,
    })
    expect(await readRow(pool, next)).toMatchObject({
      status: 'pending',
      head_since: expect.any(Date),
      ready_at: expect.any(Date),
    })
    expect(await readRow(pool, last)).toMatchObject({ head_since: null, ready_at: null })
  })

  test('an operation behind the head leaves the head as it is', async ({ pool }) => {
    const [head, next, last] = await line(pool, 'middle')
    const before = await readRow(pool, head)
    await pool.query(cancel, [[next]])
    expect(await readRow(pool, head)).toEqual(before)
    expect(await readRow(pool, last)).toMatchObject({ ready_at: null })
  })

  test('the whole line leaves an empty one, where the next insert is the head', async ({
    pool,
  }) => {
    await pool.query(cancel, [await line(pool, 'all')])
    expect(await insertRow(pool, { thread_id: 'all' })).toMatchObject({
      ready_at: expect.any(Date),
    })
  })

  test('many operations of many threads at once moves each line on', async ({ pool }) => {
    const lines = await Promise.all(Array.from({ length: 10 }, (_, i) => line(pool, `many ${i}`)))
    await pool.query(cancel, [lines.flatMap((ids) => ids.slice(0, 2))])
    const { rows } = await pool.query(
      `select thread_id, array_agg(id order by place) filter (where ready_at is not null) as marked
         from thread_operations where thread_id like 'many %' and status = 'pending'
        group by 1 order by 1`,
    )
    expect(rows).toEqual(lines.map((ids, i) => ({ thread_id: `many ${i}`, marked: [ids[2]] })))
  })

  test('a waiting operation behind an active one marks nobody', async ({ pool }) => {
    const [active, next, last] = await line(pool, 'behind active')
    await moveTo(pool, active, 'processing')
    await pool.query(cancel, [[next]])
    expect(await readRow(pool, last)).toMatchObject({ ready_at: null })
  })

  test('an operation that waits for its next attempt moves its line on', async ({ pool }) => {
    const [head, next] = await line(pool, 'retry')
    await moveTo(pool, head, 'processing')
    await moveTo(pool, head, 'pending', { error: { code: 'rate_limited' }, ready_at: 'infinity' })
    await pool.query(cancel, [[head]])
    expect(await readRow(pool, head)).toMatchObject({ status: 'cancelled', turn: 1 })
    expect(await readRow(pool, next)).toMatchObject({ ready_at: expect.any(Date) })
  })

  test('and is rolled back leaves the line as it was', async ({ url, pool }) => {
    const ids = await line(pool, 'rolled back')
    const before = await Promise.all(ids.map((id) => readRow(pool, id)))
    await withClient(url, async (client) => {
      await client.query('begin')
      await client.query(cancel, [[ids[0]]])
      await client.query('rollback')
    })
    expect(await Promise.all(ids.map((id) => readRow(pool, id)))).toEqual(before)
  })

  test('waits for nobody who holds the next operation, which is marked later', async ({
    url,
    pool,
  }) => {
    const [head, next] = await line(pool, 'held')
    await withClient(url, async (holder) => {
      await holder.query('begin')
      await holder.query('select from thread_operations where id = $1 for update', [next])
      await withClient(url, async (client) => {
        await client.query(`set lock_timeout = '100ms'`)
        await client.query(cancel, [[head]])
      })
      await holder.query('commit')
    })
    expect(await readRow(pool, head)).toMatchObject({ status: 'cancelled' })
    expect(await readRow(pool, next)).toMatchObject({ ready_at: null })
  })

  test('gives the new head the provider of its thread', async ({ pool }) => {
    await pool.query(`insert into threads (id, provider) values ('provider', 'assistants')`)
    const [head, next] = await line(pool, 'provider')
    await pool.query(cancel, [[head]])
    expect(await readRow(pool, next)).toMatchObject({ provider: 'assistants' })
  })

  test('needs no more rights than to update the status', async ({ url, pool }) => {
    const role = `inturn_canceller_${process.pid}`
    const [head, next] = await line(pool, 'rights')
    await pool.query(
      `create role ${role}; grant select (id), update (status) on thread_operations to ${role}`,
    )
    try {
      await withClient(url, async (client) => {
        await client.query(`set session authorization ${role}`)
        await client.query(cancel, [[head]])
      })
      expect(await readRow(pool, next)).toMatchObject({ ready_at: expect.any(Date) })
    } finally {
      await pool.query(`drop owned by ${role}; drop role ${role}`)
    }
  })
})
