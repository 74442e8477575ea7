import type pg from 'pg'
import { describe, expect } from 'vitest'
import { settleNoted, sweepLines } from '../../src/store/release.ts'
import { completed, failed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow, refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const thread = { thread_id: 't' }
const sweep = (pool: pg.Pool) => sweepLines(pool, 'sweeper', '', 1000)
const healthy = (pool: pg.Pool) =>
  expectHealthy(pool, { graceMs: 0, without: ['results_are_there', 'claims_have_living_owners'] })

/** As any service says it, before or after the first operation. */
const onFailure = (database: pg.Pool | pg.ClientBase, policy: string) =>
  database.query(
    `insert into threads (id, on_failure) values ('t', $1)
     on conflict (id) do update set on_failure = excluded.on_failure`,
    [policy],
  )

const isMarked = async (pool: pg.Pool, id: number) => (await readRow(pool, id)).ready_at !== null
const statuses = async (pool: pg.Pool) =>
  (await pool.query('select status from thread_operations order by id')).rows.map((r) => r.status)

/** `count` operations in the line, of which the first is claimed. */
async function begin(d: HandDriven, pool: pg.Pool, count: number) {
  const rows = []
  for (let i = 0; i < count; i++) rows.push(await insertRow(pool, thread))
  return { rows, first: await d.claimOnly() }
}

describe('on_failure', () => {
  test('is continue unless somebody says otherwise: the next one is served', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { rows, first } = await begin(d, pool, 2)
    const { claimed } = await d.settle(first, failed, { free: 1 })
    expect(claimed).toMatchObject([{ id: rows[1]?.id, turn: 2 }])
  })

  test('may be nothing else than the three words', async ({ pool }) => {
    expect(await refusal(onFailure(pool, 'stop'))).toMatchObject({
      code: '23514',
      constraint: 'thread_on_failure_is_continue_halt_or_cancel_rest',
    })
  })

  test.for([
    ['u', {}, 'responses', null],
    ['u', { operation: 'create_thread', data: { provider: 'assistants' } }, 'assistants', null],
    [`conv_${'0'.repeat(32)}`, {}, 'responses', `conv_${'0'.repeat(32)}`],
  ] as const)(
    'may be written before the first operation, which still decides the provider for good (%s)',
    async ([id, row, provider, providerThread], { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      await pool.query(`insert into threads (id, on_failure) values ($1, 'halt')`, [id])
      await insertRow(pool, { thread_id: id, ...row })
      await insertRow(pool, { thread_id: id })
      const providers = ['', 'responses', 'assistants']
      const first = await d.claimOnly({ providers })
      expect(first).toMatchObject({ provider, provider_thread_id: providerThread })
      const { rows } = await pool.query(
        'select provider, on_failure, provider_thread_id from threads',
      )
      expect(rows).toEqual([{ provider, on_failure: 'halt', provider_thread_id: providerThread }])
      const { claimed } = await d.settle(first, completed, {
        free: 1,
        providers,
        defaultProvider: provider === 'assistants' ? 'responses' : 'assistants',
      })
      expect(claimed).toMatchObject([{ provider }])
    },
  )

  test('written in an open transaction of somebody holds up only this thread, and shortly', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'halt')
    const held = await insertRow(pool, thread)
    const other = await insertRow(pool, { thread_id: 'other' })
    const user = await connected()
    await user.query('begin')
    await onFailure(user, 'cancel_rest') // the row has no provider yet
    expect(await d.claimOnly()).toMatchObject({ id: other.id })
    await user.query('commit')
    expect(await waitFor(async () => (await d.claim())[0])).toMatchObject({ id: held.id })
  })
})

describe('halt', () => {
  test('serves nothing after a failure, whoever looks, and marks nobody', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'halt')
    const { rows, first } = await begin(d, pool, 3)
    expect(await d.settle(first, failed, { free: 10 })).toMatchObject({ claimed: [], emptied: [] })
    expect(await sweep(pool)).toMatchObject({ seen: 1, marked: 0 })
    expect(await d.claim({ emptied: ['t'] })).toEqual([])
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [
      rows[1]?.id,
    ])
    expect(await isMarked(pool, rows[2]?.id as number)).toBe(false)
    expect(await d.claim()).toEqual([])
    await healthy(pool)
  })

  test('lets an INSERT into the empty line wait unmarked', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'halt')
    const { first } = await begin(d, pool, 1)
    await d.settle(first, failed)
    const { id, ready_at, head_since } = await insertRow(pool, thread)
    expect([ready_at, head_since]).toEqual([null, null])
    expect(await sweep(pool)).toMatchObject({ seen: 1, marked: 0 })
    expect(await d.claim()).toEqual([])
    await onFailure(pool, 'continue')
    expect(await d.claimOnly()).toMatchObject({ id, turn: 2 })
  })

  test('counts only what failed for good', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'halt')
    const { rows, first } = await begin(d, pool, 3)
    await d.settle(first, retryIn(0))
    const again = await d.claimOnly()
    expect(again).toMatchObject({ id: rows[0]?.id, attempts: 2 })
    const cancelled = {
      status: 'cancelled',
      error: { code: 'run_cancelled', message: '' },
    } as const
    const { claimed } = await d.settle(again, cancelled, { free: 1 })
    expect(claimed).toMatchObject([{ id: rows[1]?.id }])
  })

  test('takes the mark off a head that two overlapping INSERTs had given twice, once', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'halt')
    const [one, two] = [await connected(), await connected()]
    await one.query('begin')
    await two.query('begin')
    const first = await insertRow(one, thread)
    const second = await insertRow(two, thread)
    await one.query('commit')
    const claimed = await d.claimOnly()
    expect(claimed.id).toBe(first.id)
    await d.settle(claimed, failed)
    await two.query('commit')
    expect(await isMarked(pool, second.id)).toBe(true)
    expect(await d.claim()).toEqual([])
    expect(await isMarked(pool, second.id)).toBe(false)
    expect(await d.round()).toMatchObject({ claimed: [], fullHouse: false })
  })

  test('is no hindrance to other lines, also with few slots', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    for (let i = 0; i < 20; i++) {
      await pool.query(`insert into threads (id, on_failure) values ($1, 'halt')`, [`h${i}`])
      await insertRow(pool, { thread_id: `h${i}` })
    }
    const claimed = await d.claim({ free: 20 })
    for (let i = 0; i < 20; i++) await insertRow(pool, { thread_id: `h${i}` })
    await d.settle(claimed, failed)
    const { id } = await insertRow(pool, { thread_id: 'other' })
    expect(await d.claimOnly({ free: 1 })).toMatchObject({ id })
    await healthy(pool)
  })

  test('ends when somebody deletes the failed operation: the sweep finds the head', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'halt')
    const { rows, first } = await begin(d, pool, 2)
    await d.settle(first, failed)
    await pool.query('delete from thread_operations where id = $1', [first.id])
    await sweep(pool)
    expect(await d.claimOnly()).toMatchObject({ id: rows[1]?.id, turn: 2 })
  })

  test('set after the failure, it holds what has not been started', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { rows, first } = await begin(d, pool, 2)
    await d.settle(first, failed) // marks the next one
    expect(await isMarked(pool, rows[1]?.id as number)).toBe(true)
    await onFailure(pool, 'halt')
    expect(await d.claim()).toEqual([])
    expect(await isMarked(pool, rows[1]?.id as number)).toBe(false)
    await onFailure(pool, 'continue')
    expect(await d.claimOnly()).toMatchObject({ id: rows[1]?.id })
  })
})

describe('cancel_rest', () => {
  test('cancels what waits, in the round of the failure, and tells why and whom', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const listener = await connected()
    const told: string[] = []
    listener.on('notification', ({ payload }) => void told.push(String(payload)))
    await listener.query('listen inturn_settled')
    await onFailure(pool, 'cancel_rest')
    const { rows, first } = await begin(d, pool, 3)
    const [, second, third] = rows.map(({ id }) => id)
    await pool.query(`insert into operation_waiters (operation_id, waiter) values ($1, 'w')`, [
      third,
    ])
    expect(await d.settle(first, failed, { free: 10 })).toMatchObject({
      claimed: [],
      emptied: ['t'],
    })
    expect(await statuses(pool)).toEqual(['failed', 'cancelled', 'cancelled'])
    expect((await readRow(pool, second as number)).error).toEqual({
      code: 'cancelled_after_failure',
      message: `Operation ${first.id} of this thread failed, and on_failure is cancel_rest.`,
    })
    await waitFor(() => told.includes(String(third)))
    const { rows: events } = await pool.query(
      `select operation_id, actor, code from operation_events where to_status = 'cancelled' order by 1`,
    )
    expect(events).toEqual(
      [second, third].map((operation_id) => ({
        operation_id,
        actor: 'd1',
        code: 'cancelled_after_failure',
      })),
    )
    await healthy(pool)
  })

  test('serves what is inserted afterwards', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'cancel_rest')
    const { first } = await begin(d, pool, 2)
    await d.settle(first, failed)
    const next = await insertRow(pool, thread)
    const last = await insertRow(pool, thread)
    const claimed = await d.claimOnly()
    expect(claimed).toMatchObject({ id: next.id, turn: 2 })
    const { claimed: then } = await d.settle(claimed, completed, { free: 1 })
    expect(then).toMatchObject([{ id: last.id, turn: 3 }])
  })

  test('cancels nothing of other threads, and nothing when an operation completes', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'cancel_rest')
    const other = [
      await insertRow(pool, { thread_id: 'o' }),
      await insertRow(pool, { thread_id: 'o' }),
    ]
    for (let i = 0; i < 2; i++) await insertRow(pool, thread)
    const both = await d.claim()
    const settlements = both.map((operation) => ({
      operation,
      outcome: operation.thread_id === 't' ? completed : failed,
    }))
    const { claimed } = await d.round({ settlements, free: 10 })
    expect(claimed.map(({ thread_id }) => thread_id).sort()).toEqual(['o', 't'])
    expect(claimed.map(({ id }) => id)).toContain(other[1]?.id)
  })

  test('waits for nobody’s transaction: what it holds is cancelled when it is the head', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'cancel_rest')
    const { rows, first } = await begin(d, pool, 4)
    const user = await connected()
    await user.query('begin')
    await user.query('select from thread_operations where id = $1 for update', [rows[1]?.id])
    await d.settle(first, failed, { free: 10 })
    expect(await statuses(pool)).toEqual(['failed', 'pending', 'cancelled', 'cancelled'])
    const afterwards = await insertRow(pool, thread)
    expect(await d.claim()).toEqual([])
    await user.query('rollback')
    await sweep(pool)
    expect(await d.claim()).toEqual([])
    expect((await readRow(pool, rows[1]?.id as number)).status).toBe('cancelled')
    expect(await d.claimOnly()).toMatchObject({ id: afterwards.id, turn: 2 })
    await healthy(pool)
  })

  test('reaches an operation whose INSERT had begun before the failure and commits after it', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'cancel_rest')
    const { first } = await begin(d, pool, 1)
    const writer = await connected()
    await writer.query('begin')
    const { id } = await insertRow(writer, thread)
    await d.settle(first, failed)
    await writer.query('commit')
    expect((await d.round({ emptied: ['t'] })).claimed).toEqual([])
    await d.round()
    expect((await readRow(pool, id)).status).toBe('cancelled')
  })

  test('cancels a long line in batches, round after round', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'cancel_rest')
    const { first } = await begin(d, pool, 1)
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select 't', 'add_message', '{"message": "Hi"}' from generate_series(1, 2500)`,
    )
    await d.settle(first, failed)
    const next = await insertRow(pool, thread)
    const served = await waitFor(async () => (await d.claim())[0])
    expect(served).toMatchObject({ id: next.id, turn: 2 })
    const { rows } = await pool.query(
      'select status, count(*) from thread_operations group by 1 order by 1',
    )
    expect(rows).toEqual([
      { status: 'cancelled', count: 2500 },
      { status: 'failed', count: 1 },
      { status: 'processing', count: 1 },
    ])
  })

  test('also where the failure was noted because somebody’s transaction held the row', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await onFailure(pool, 'cancel_rest')
    const { rows, first } = await begin(d, pool, 2)
    const user = await connected()
    await user.query('begin')
    await user.query('select from thread_operations where id = $1 for update', [first.id])
    await d.settle(first, failed, { free: 1 })
    expect(await statuses(pool)).toEqual(['processing', 'pending'])
    await user.query('rollback')
    expect(await settleNoted(pool, 10)).toBe(1)
    expect(await statuses(pool)).toEqual(['failed', 'cancelled'])
    expect(await isMarked(pool, rows[1]?.id as number)).toBe(false)
  })
})
