import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { listen } from '../../src/db/listen.ts'
import { completed, retryIn } from '../support/hand-driven.ts'
import { insertRow, readRow } from '../support/line.ts'
import { completes, hangs, ponders, test } from '../support/scripted.ts'
import { waitFor } from '../support/wait-for.ts'

const thread = { thread_id: 't' }
const never = 60_000

const isOver = async (pool: pg.Pool) =>
  (await pool.query('select from thread_operations where finished_at is null')).rowCount === 0

describe('stop', () => {
  test('gives back what was not sent, at once and uncounted, and calls it off', async ({
    pool,
    start,
  }) => {
    const { id } = await insertRow(pool, thread)
    const line = await start(ponders)
    await waitFor(() => line.claims.length === 1)
    await line.stop()
    expect(line.claims[0]?.signal.aborted).toBe(true)
    expect(await readRow(pool, id)).toMatchObject({ status: 'pending', failures: 0 })
    const next = await start(completes)
    await waitFor(() => isOver(pool))
    expect(next.claims[0]?.operation).toMatchObject({ id, turn: 1 })
  })

  test('ignores what a handler says of an operation that was given back', async ({
    pool,
    start,
  }) => {
    const { id } = await insertRow(pool, thread)
    const late = Promise.withResolvers<typeof completed>()
    const line = await start(() => late.promise)
    await waitFor(() => line.claims.length === 1)
    await line.stop()
    late.resolve(completed)
    await late.promise
    expect((await readRow(pool, id)).status).toBe('pending')
  })

  test('waits for what was sent, settles it and claims nothing more', async ({ pool, start }) => {
    const rows = [await insertRow(pool, thread), await insertRow(pool, thread)]
    const answer = Promise.withResolvers<typeof completed>()
    const line = await start((claim) => {
      claim.sent = true
      return answer.promise
    })
    await waitFor(() => line.claims.length === 1)
    const stopped = line.stop()
    await insertRow(pool, { thread_id: 'new' })
    answer.resolve(completed)
    await stopped
    expect((await readRow(pool, Number(rows[0]?.id))).status).toBe('completed')
    expect((await readRow(pool, Number(rows[1]?.id))).status).toBe('pending')
    expect(line.started).toHaveLength(1)
  })

  test('leaves in place what still runs after shutdownMs, for the next dispatcher to follow', async ({
    pool,
    start,
  }) => {
    const { id } = await insertRow(pool, thread)
    const line = await start(hangs, { shutdownMs: 10 })
    await waitFor(() => line.claims.length === 1)
    await line.stop()
    expect(line.claims[0]?.signal.aborted).toBe(true)
    expect(await readRow(pool, id)).toMatchObject({
      status: 'processing',
      claimed_by: line.dispatcher.id,
    })
    const next = await start(completes)
    await waitFor(() => isOver(pool))
    expect(next.claims[0]?.operation).toMatchObject({ id, turn: 1, attempts: 2 })
  })

  test('comes to an end also when nothing runs', async ({ pool, start }) => {
    const line = await start(completes)
    await line.stop()
    expect((await pool.query('select from dispatchers')).rowCount).toBe(0)
  })
})

describe('waking', () => {
  test('happens by NOTIFY, long before the next poll', async ({ pool, url, start }) => {
    const line = await start(completes, { pollMs: never, sweepMs: never })
    const connected = Promise.withResolvers<void>()
    const listener = listen({
      databaseUrl: url,
      channels: ['inturn_wake'],
      onNotify: () => line.dispatcher.wake(),
      onConnected: connected.resolve,
    })
    onTestFinished(() => listener.close())
    await connected.promise
    const isAsleep = async () =>
      (await pool.query('select from dispatchers where asleep')).rowCount === 1
    for (let i = 0; i < 3; i++) {
      await waitFor(isAsleep)
      await insertRow(pool, thread)
      await waitFor(() => isOver(pool))
    }
  })

  test('looks at every priority that there is by then', async ({ pool, start }) => {
    const line = await start(completes, { sweepMs: never })
    for (const priority of [3, -3, 100]) {
      await insertRow(pool, { ...thread, priority })
      await waitFor(() => isOver(pool))
    }
    expect(line.claims).toHaveLength(3)
  })

  test('happens by polling alone', async ({ pool, start }) => {
    await start(completes, { pollMs: 20, sweepMs: never })
    for (let i = 0; i < 3; i++) {
      await insertRow(pool, thread)
      await waitFor(() => isOver(pool))
    }
  })

  test('finds what was inserted while it fell asleep', async ({ pool, connected, start }) => {
    const writer = await connected()
    await writer.query('begin')
    await insertRow(writer, thread)
    await start(completes, { sweepMs: never })
    await waitFor(
      async () => (await pool.query('select from dispatchers where asleep')).rowCount === 1,
    )
    await writer.query('commit')
    await waitFor(() => isOver(pool))
  })
})

describe('lines', () => {
  test('that were emptied while an INSERT was open are looked at again, without any sweep', async ({
    pool,
    start,
    connected,
  }) => {
    const answer = Promise.withResolvers<typeof completed>()
    const writer = await connected()
    const first = await insertRow(pool, thread)
    const line = await start(() => answer.promise, { sweepMs: never })
    await waitFor(() => line.claims.length === 1)
    await writer.query('begin')
    const next = await insertRow(writer, thread)
    answer.resolve(completed)
    await waitFor(async () => (await readRow(pool, first.id)).status === 'completed')
    await writer.query('commit')
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual([first.id, next.id])
  })

  test('whose inserter looked from an old snapshot are found by the sweep', async ({
    pool,
    start,
    connected,
  }) => {
    const writer = await connected()
    const first = await insertRow(pool, thread)
    await writer.query('begin isolation level repeatable read')
    await writer.query('select 1 from threads')
    const line = await start(completes, { pollMs: never })
    await waitFor(() => isOver(pool))
    const next = await insertRow(writer, thread)
    await writer.query('commit')
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual([first.id, next.id])
  })

  test('whose row somebody holds while it is settled go on when it is free', async ({
    pool,
    start,
    connected,
  }) => {
    const user = await connected()
    const answer = Promise.withResolvers<typeof completed>()
    const first = await insertRow(pool, thread)
    await insertRow(pool, thread)
    const line = await start(() => answer.promise)
    await waitFor(() => line.claims.length === 1)
    await user.query('begin')
    await user.query('select 1 from thread_operations where id = $1 for update', [first.id])
    answer.resolve(completed)
    await waitFor(async () => (await pool.query('select from unsettled_outcomes')).rowCount === 1)
    await insertRow(pool, { thread_id: 'other' })
    await waitFor(() => line.claims.some(({ operation }) => operation.thread_id === 'other'))
    await user.query('rollback')
    await waitFor(() => isOver(pool))
    expect(line.started).toHaveLength(3)
  })

  test('go on in order through retries, with backoff', async ({ pool, start }) => {
    const ids = []
    for (let i = 0; i < 5; i++) ids.push((await insertRow(pool, thread)).id)
    const line = await start(({ operation }) => (operation.attempts < 3 ? retryIn(5) : completed))
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual(ids.flatMap((id) => [id, id, id]))
  })

  test('are shared by two dispatchers', async ({ pool, start }) => {
    const two = [
      await start(hangs, { concurrency: 3, shutdownMs: 0 }),
      await start(hangs, { concurrency: 3, shutdownMs: 0 }),
    ]
    for (let i = 0; i < 6; i++) await insertRow(pool, { thread_id: `t${i}` })
    await waitFor(() => two.every(({ claims }) => claims.length === 3))
    expect(new Set(two.flatMap(({ started }) => started)).size).toBe(6)
  })

  test('of a high priority that ends its rush let the others through at once', async ({
    pool,
    start,
  }) => {
    for (let i = 0; i < 5; i++) await insertRow(pool, { thread_id: `usual ${i}` })
    for (let i = 0; i < 40; i++) await insertRow(pool, { thread_id: `urgent ${i}`, priority: 7 })
    const line = await start(completes, { concurrency: 1, sweepMs: never })
    await waitFor(() => isOver(pool))
    const priorities = line.claims.map(({ operation }) => operation.thread_id.split(' ')[0])
    expect(priorities).toEqual([...Array(40).fill('urgent'), ...Array(5).fill('usual')])
  })
})

test('a database whose transactions are repeatable read by default is told what to change', async ({
  pool,
  start,
  connected,
}) => {
  const [admin, old] = [await connected(), await connected()]
  const { rows } = await admin.query('select quote_ident(current_database()) as name')
  await admin.query(
    `alter database ${rows[0].name} set default_transaction_isolation = 'repeatable read'`,
  )
  await insertRow(old, thread)
  const line = await start(completes)
  await waitFor(() => line.messages.some((message) => /needs read committed/.test(message)))
  expect(line.claims).toEqual([])
  await admin.query(`alter database ${rows[0].name} reset default_transaction_isolation`)
})
