import type pg from 'pg'
import { expect } from 'vitest'
import { connect } from '../../src/db/connect.ts'
import { listen } from '../../src/db/listen.ts'
import { createPool } from '../../src/db/pool.ts'
import { Inturn, migrate } from '../../src/index.ts'
import { test } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf, message, waiterRows } from './rows.ts'
import { serve } from './serving.ts'

/** Backends that do nothing but listen for settled operations. */
const listeners = async (pool: pg.Pool): Promise<number[]> =>
  (
    await pool.query(
      `select pid from pg_stat_activity
        where datname = current_database() and query = 'listen "inturn_settled"'`,
    )
  ).rows.map(({ pid }) => pid)

/** A session that was closed is gone from the server's list a moment later. */
const nobodyListens = (pool: pg.Pool) =>
  waitFor(async () => (await listeners(pool)).length === 0, { message: 'nobody listens' })

const connections = async (pool: pg.Pool, name: string): Promise<number> =>
  (
    await pool.query(
      `select count(*) as count from pg_stat_activity
        where datname = current_database() and application_name = $1`,
      [name],
    )
  ).rows[0].count

test('1,000 results are waited for at once, over one connection that listens', async ({
  pool,
  url,
}) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const handles = await inturn.enqueue(
    Array.from({ length: 1000 }, (_, i) => message(`thread ${i % 100}`, `${i}`)),
  )
  const results = Promise.all(handles.map((handle) => handle.result({ timeoutMs: 60_000 })))
  await waitFor(async () => (await waiterRows(pool)) === 1000, { message: '1,000 waiter rows' })
  await waitFor(async () => (await listeners(pool)).length === 1, { message: 'one listener' })
  await using _line = await serve(pool, url)
  expect((await results).map(({ text }) => text)).toEqual(handles.map((_, i) => `You said: ${i}`))
  await waitFor(async () => (await waiterRows(pool)) === 0, { message: 'no waiter row is left' })
  expect(await listeners(pool)).toHaveLength(1)
}, 60_000)

test('settling notifies where somebody waits, and only there', async ({ pool, url }) => {
  const heard: string[] = []
  let connected = false
  const listener = listen({
    databaseUrl: url,
    channels: ['inturn_settled'],
    onNotify: (_, payload) => heard.push(payload),
    onConnected: () => {
      connected = true
    },
  })
  try {
    await waitFor(() => connected, { message: 'the test listens' })
    await using inturn = new Inturn({ databaseUrl: url })
    const unheard = await inturn.enqueue(message('notify', 'nobody waits'))
    const handle = await inturn.enqueue(message('notify', 'Hi'))
    const result = handle.result()
    await waitFor(async () => (await waiterRows(pool)) === 1, { message: 'the waiter row' })
    await using _line = await serve(pool, url)
    await result
    await waitFor(() => heard.length > 0, { message: 'the notification' })
    expect(heard).toEqual([String(handle.id)])
    expect(await unheard.status()).toBe('completed')
  } finally {
    await listener.close()
  }
})

test('without a connection that listens the result comes all the same', async ({ pool, url }) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const handle = await inturn.enqueue(message('deaf', 'Hi'))
  const result = handle.result()
  await waitFor(async () => (await listeners(pool)).length === 1, { message: 'it listens' })
  let over = false
  const ending = (async () => {
    while (!over) {
      await pool.query('select pg_terminate_backend(pid) from unnest($1::int[]) as pid', [
        await listeners(pool),
      ])
    }
  })()
  try {
    await using _line = await serve(pool, url)
    expect((await result).text).toBe('You said: Hi')
  } finally {
    over = true
    await ending
  }
})

test('a database that is away for a moment is no reason to give up', async ({ pool, url }) => {
  const client = new URL(url)
  client.searchParams.set('application_name', 'to be ended')
  await using inturn = new Inturn({ databaseUrl: client.href })
  const handle = await inturn.enqueue(message('away', 'Hi'))
  const result = handle.result()
  for (let times = 0; times < 3; times++) {
    await waitFor(async () => (await connections(pool, 'to be ended')) > 0, {
      message: 'it is back',
    })
    await pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'to be ended'`,
    )
  }
  await using _line = await serve(pool, url)
  expect((await result).text).toBe('You said: Hi')
  await waitFor(async () => (await waiterRows(pool)) === 0, { message: 'no waiter row is left' })
})

test('closing it tells who waits, and leaves no connection and no row', async ({ pool, url }) => {
  const client = new URL(url)
  client.searchParams.set('application_name', 'to be closed')
  const inturn = new Inturn({ databaseUrl: client.href })
  const handle = await inturn.enqueue(message('closing', 'Hi'))
  const waiting = errorOf(handle.result())
  await waitFor(async () => (await waiterRows(pool)) === 1, { message: 'the waiter row' })
  await Promise.all([inturn.close(), inturn.close()])
  expect((await waiting).code).toBe('client_closed')
  expect((await errorOf(handle.result())).code).toBe('client_closed')
  expect(await waiterRows(pool)).toBe(0)
  await nobodyListens(pool)
  await waitFor(async () => (await connections(pool, 'to be closed')) === 0, {
    message: 'all connections are gone',
  })
})

test('a pool that was given lends a connection to listen, and stays open', async ({
  pool,
  url,
}) => {
  const given = createPool(url, { max: 2 })
  try {
    const inturn = new Inturn({ pool: given })
    const handle = await inturn.enqueue(message('lent', 'Hi'))
    const result = handle.result()
    await waitFor(async () => (await listeners(pool)).length === 1, { message: 'it listens' })
    expect(given.totalCount).toBeLessThanOrEqual(2)
    {
      await using _line = await serve(pool, url)
      expect((await result).text).toBe('You said: Hi')
    }
    await inturn.close()
    await nobodyListens(pool)
    expect((await given.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  } finally {
    await given.end()
  }
})

test('a pool of one connection is enough', async ({ pool, url }) => {
  const given = createPool(url, { max: 1 })
  try {
    await using inturn = new Inturn({ pool: given })
    const handle = await inturn.enqueue(message('single', 'Hi'))
    await using _line = await serve(pool, url)
    expect((await handle.result()).text).toBe('You said: Hi')
    await nobodyListens(pool)
  } finally {
    await given.end()
  }
})

test('tables in another schema are found by any search path', async ({ url, pool }) => {
  const transaction = await connect(url)
  await migrate({ databaseUrl: url, schema: 'of_ours' })
  try {
    await using inturn = new Inturn({ databaseUrl: url, schema: 'of_ours' })
    await transaction.query('begin')
    const handle = await inturn.enqueue(message('elsewhere', 'Hi'), {
      transaction,
    })
    await transaction.query('commit')
    const { rows } = await pool.query('select id, thread_id from of_ours.thread_operations')
    expect(rows).toEqual([{ id: handle.id, thread_id: 'elsewhere' }])
    expect((await errorOf(handle.result({ timeoutMs: 30 }))).message).toContain('number 1')
    expect(await inturn.thread('elsewhere').state()).toMatchObject({ state: 'active', waiting: 1 })
  } finally {
    await transaction.end()
  }
})
