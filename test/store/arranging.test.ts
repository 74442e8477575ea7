import type pg from 'pg'
import { describe, expect } from 'vitest'
import { sweepLines } from '../../src/store/release.ts'
import { completed, failed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { asLine, insertRow, type Row, readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const run = { operation: 'add_message_and_run', data: { message: 'Hi', model: 'm' } }
const bareRun = { operation: 'create_run', data: { model: 'm' } }
const put = (database: pg.Pool | pg.ClientBase, given: Row = {}) =>
  insertRow(database, { thread_id: 't', ...run, ...given })
const message = { operation: 'add_message', data: { message: 'Hi' } }
const healthy = (pool: pg.Pool) =>
  expectHealthy(pool, { without: ['results_are_there', 'claims_have_living_owners'] })

/** How each operation of the line stands, in the order of their ids: its status, and who is to blame. */
async function ends(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query(
    `select o.status, o.error, (select count(*) from thread_operations b where b.id <= (o.error ->> 'operation_id')::bigint) as nth
       from thread_operations o order by o.id`,
  )
  return rows.map(({ status, error, nth }) => (error ? `${error.code} by ${nth}` : status))
}

/** Moves the time of the INSERT back, as if it had been so long ago. */
const age = (pool: pg.Pool, ids: number[], ms: number) =>
  asLine(pool, (line) =>
    line.query(
      `update thread_operations set created_at = created_at - $2 * interval '1 millisecond',
              ready_at = ready_at - $2 * interval '1 millisecond' where id = any ($1)`,
      [ids, ms],
    ),
  )

describe('a run that merges', () => {
  test('takes along the messages directly before it, whatever those say themselves', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const ids: number[] = []
    for (const given of [message, run, { if_busy: 'latest', ...run }, { if_busy: 'merge' }])
      ids.push((await put(pool, given)).id)
    const last = await put(pool, { if_busy: 'interrupt+merge', ...bareRun })
    const behind = await put(pool, { if_busy: 'merge' })
    // The `latest` supersedes what is before it, and what is left goes along.
    expect(await d.claimOnly()).toMatchObject({ id: last.id, turn: 1, merges: [ids[2], ids[3]] })
    expect(await ends(pool)).toEqual([
      'superseded by 3',
      'superseded by 3',
      'merged by 5',
      'merged by 5',
      'processing',
      'pending',
    ])
    expect(await readRow(pool, behind.id)).toMatchObject({ merges: null })
    await healthy(pool)
  })

  test.for([
    ['a create_run', bareRun],
    ['an update_thread', { operation: 'update_thread', data: { metadata: {} } }],
    ['a hold', { operation: 'hold', data: {} }],
    ['a run with more than a message', { ...run, data: { ...run.data, input: 'And this' } }],
  ] as const)('does not reach past %s', async ([, barrier], { pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const first = await put(pool, message)
    const between = await put(pool, barrier)
    const behind = await put(pool, message)
    const last = await put(pool, { if_busy: 'merge' })
    let claim = await d.claimOnly()
    expect(claim).toMatchObject({ id: first.id, merges: null })
    claim = (await d.settle(claim, completed, { free: 1 })).claimed[0] as typeof claim
    expect(claim).toMatchObject({ id: between.id, merges: null })
    claim = (await d.settle(claim, completed, { free: 1 })).claimed[0] as typeof claim
    expect(claim).toMatchObject({ id: last.id, merges: [behind.id], turn: 3 })
    await healthy(pool)
  })

  test('takes what the one before it had taken along, and no message has no run', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const first = await put(pool, message)
    const second = await put(pool, { if_busy: 'merge' })
    await asLine(pool, (line) => line.query(`select arrange_line('t')`))
    await sweepLines(pool, 'sweeper', '', 100)
    const third = await put(pool, { if_busy: 'merge' })
    await put(pool, { if_busy: 'merge', ...message })
    expect(await d.claimOnly()).toMatchObject({ id: third.id, merges: [first.id, second.id] })
    expect(await ends(pool)).toEqual(['merged by 2', 'merged by 3', 'processing', 'pending'])
  })

  test('leaves who was started, what is under way and who was sent back', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const first = await put(pool, message)
    await d.settle(await d.claimOnly(), retryIn(0))
    const second = await put(pool, message)
    await asLine(pool, (line) =>
      line.query(
        `update thread_operations set progress = '{"message_id": "msg_1"}' where id = $1`,
        [second.id],
      ),
    )
    const third = await put(pool, message)
    const last = await put(pool, { if_busy: 'merge' })
    const served: unknown[] = []
    let [claim] = await d.claim()
    while (claim) {
      served.push([claim.id, claim.merges])
      ;[claim] = (await d.settle(claim, completed, { free: 1 })).claimed
    }
    expect(served).toEqual([
      [first.id, null],
      [second.id, null],
      [last.id, [third.id]],
    ])
  })

  test('ends its group at what somebody’s transaction holds, and waits for nobody', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const holder = await connected()
    const ids: number[] = []
    for (const given of [message, { if_busy: 'merge' }, message, message])
      ids.push((await put(pool, given)).id)
    const last = await put(pool, { if_busy: 'merge' })
    await holder.query('begin')
    await holder.query('select from thread_operations where id = $1 for update', [ids[2]])
    const claim = await d.claimOnly()
    expect(claim).toMatchObject({ id: ids[1], merges: [ids[0]] })
    await holder.query('rollback')
    const { claimed } = await d.settle(claim, completed, { free: 1 })
    expect(claimed).toMatchObject([{ id: last.id, merges: [ids[2], ids[3]] }])
    await healthy(pool)
  })

  test('takes 100 messages at most with its own', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    for (let i = 0; i < 150; i++) await put(pool, { if_busy: 'merge' })
    const claim = await d.claimOnly()
    expect(claim.merges).toHaveLength(99)
    const { claimed } = await d.settle(claim, completed, { free: 1 })
    expect(claimed[0]?.merges).toHaveLength(49)
  })

  test('starts with nobody where its line is halted', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await pool.query(`insert into threads (id, on_failure) values ('t', 'halt')`)
    await put(pool)
    const claim = await d.claimOnly()
    await put(pool)
    const last = await put(pool, { if_busy: 'merge' })
    expect((await d.settle(claim, failed, { free: 1 })).claimed).toEqual([])
    expect(await d.claim()).toEqual([])
    expect((await ends(pool)).slice(1)).toEqual(['pending', 'pending'])
    await pool.query(`select resume_thread('t')`)
    expect(await d.claimOnly()).toMatchObject({ id: last.id })
  })
})

describe('the latest', () => {
  test('supersedes a backlog of any length, and other kinds stay in line', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const update = { thread_id: 't', operation: 'update_thread', data: { metadata: {} } }
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select 't', 'add_message', '{"message": "Hi"}' from generate_series(1, 2500)`,
    )
    const { id: kept } = await insertRow(pool, update)
    const last = await put(pool, { if_busy: 'latest' })
    let claim = await waitFor(async () => (await d.claim())[0])
    expect(claim).toMatchObject({ id: kept, turn: 1 })
    claim = (await d.settle(claim, completed, { free: 1 })).claimed[0] as typeof claim
    expect(claim).toMatchObject({ id: last.id, turn: 2 })
    const { rows } = await pool.query(
      `select count(*)::int, count(*) filter (where error ->> 'operation_id' = $1)::int as superseded
         from thread_operations where status = 'cancelled'`,
      [last.id],
    )
    expect(rows).toEqual([{ count: 2500, superseded: 2500 }])
    await healthy(pool)
  })

  test('of many is the last one, and who waits for a result hears of it', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const listener = await connected()
    await listener.query('listen inturn_settled')
    const heard: string[] = []
    listener.on('notification', ({ payload }) => heard.push(payload as string))
    const first = await put(pool, { if_busy: 'latest' })
    await put(pool, { if_busy: 'latest' })
    const last = await put(pool, { if_busy: 'latest' })
    await pool.query(`insert into operation_waiters (operation_id, waiter) values ($1, 'w')`, [
      first.id,
    ])
    expect(await d.claimOnly()).toMatchObject({ id: last.id })
    expect(await ends(pool)).toEqual(['superseded by 3', 'superseded by 3', 'processing'])
    await waitFor(() => heard.includes(String(first.id)))
  })
})

describe('who does not wait', () => {
  test('is refused also where the INSERTs overlapped: one is served', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const writers = await Promise.all(Array.from({ length: 5 }, connected))
    for (const writer of writers) await writer.query('begin')
    for (const writer of writers) await put(writer, { if_busy: 'reject' })
    for (const writer of writers) await writer.query('commit')
    const claim = await d.claimOnly({ free: 1 })
    await d.claim()
    expect(await ends(pool)).toEqual(['processing', ...Array(4).fill('thread_busy by 1')])
    expect((await d.settle(claim, completed, { free: 1 })).claimed).toEqual([])
    await healthy(pool)
  })

  test('is served where others overtook its INSERT, which had not committed', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const writer = await connected()
    await writer.query('begin')
    await put(writer, { if_busy: 'reject' })
    await put(pool, { if_busy: 'reject' })
    const claim = await d.claimOnly()
    await writer.query('commit')
    expect((await d.settle(claim, completed, { free: 1 })).claimed).toMatchObject([{ turn: 2 }])
    expect(await ends(pool)).toEqual(['processing', 'completed'])
  })

  test('is refused after the one before it is over, which it did not see', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const writer = await connected()
    await writer.query('begin')
    await put(writer, { if_busy: 'reject' })
    await put(pool, { if_busy: 'reject' })
    await writer.query('commit')
    const claim = await d.claimOnly({ free: 1 })
    const { claimed } = await d.settle(claim, completed, { free: 1 })
    expect(claimed).toEqual([])
    expect(await ends(pool)).toEqual(['completed', 'thread_busy by 1'])
    expect((await put(pool, { if_busy: 'reject' })).status).toBe('pending')
    await healthy(pool)
  })
})

describe('a pause', () => {
  const paused = { if_busy: 'merge', debounce_ms: 60_000 }

  test('keeps the first waiting, and says until when', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const row = await put(pool, paused)
    expect(await d.claim()).toEqual([])
    await sweepLines(pool, 'sweeper', '', 100)
    expect(await d.claim()).toEqual([])
    const { rows } = await pool.query('select waits_for from waiting_operations')
    expect(rows[0].waits_for).toMatch(/^debounces until \d{4}-/)
    await age(pool, [row.id], 60_000)
    expect(await d.claimOnly()).toMatchObject({ id: row.id })
  })

  test('begins anew with every operation, until the longest wait is over', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const ids = [(await put(pool, { ...paused, debounce_max_ms: 100_000 })).id]
    await age(pool, ids, 60_000)
    ids.push((await put(pool, paused)).id)
    expect(await d.claim()).toEqual([])
    const { ready_at, created_at } = await readRow(pool, ids[0] as number)
    expect(Number(ready_at) - Number(created_at)).toBe(100_000)
    await age(pool, ids, 40_000)
    expect(await d.claimOnly()).toMatchObject({ id: ids[1], merges: [ids[0]] })
    await healthy(pool)
  })

  test('of the latest is over with that of the one it supersedes', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const first = await put(pool, { if_busy: 'latest', debounce_ms: 50, debounce_max_ms: 60_000 })
    const last = await put(pool, { if_busy: 'latest', debounce_ms: 3_600_000 })
    await age(pool, [first.id], 60_000)
    expect(await d.claimOnly()).toMatchObject({ id: last.id })
  })

  test('is not waited for by one that stood behind others for longer', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await put(pool)
    const claim = await d.claimOnly()
    const second = await put(pool, { debounce_ms: 60_000 })
    await age(pool, [second.id], 60_000)
    const third = await put(pool, { debounce_ms: 60_000 })
    const next = await d.settle(claim, completed, { free: 1 })
    expect(next.claimed).toEqual([])
    expect(await readRow(pool, second.id)).toMatchObject({ ready_at: expect.any(Date) })
    await age(pool, [second.id, third.id], 60_000)
    const after = await d.claimOnly()
    expect(after).toMatchObject({ id: second.id })
    expect((await d.settle(after, completed, { free: 1 })).claimed).toMatchObject([
      { id: third.id },
    ])
    await healthy(pool)
  })

  test('that a clock which was set back would prolong is over', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const row = await put(pool, paused)
    await age(pool, [row.id], -3_600_000)
    await sweepLines(pool, 'sweeper', '', 100)
    expect(await d.claimOnly()).toMatchObject({ id: row.id })
  })
})
