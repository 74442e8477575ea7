import type pg from 'pg'
import { describe, expect } from 'vitest'
import { noteProgress, sweepLines } from '../../src/store/release.ts'
import { completed, failed, HandDriven, heldBecause } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow, refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { withTransaction } from '../support/transaction.ts'
import { waitFor } from '../support/wait-for.ts'

const thread = { thread_id: 't' }
const intent = { call: 'start_run', after: null, timeout_ms: 1_000, at: '2026-01-01T00:00:00Z' }
const healthy = (pool: pg.Pool) =>
  expectHealthy(pool, { graceMs: 0, without: ['results_are_there'] })

const resume = async (database: pg.Pool | pg.ClientBase, id = 't') =>
  (await database.query('select * from resume_thread($1)', [id])).rows[0]

const halt = (pool: pg.Pool) =>
  pool.query(`insert into threads (id, on_failure) values ('t', 'halt')`)

/** Two in line, of which the first is held for `code` with an intent of its own. */
async function hold(d: HandDriven, pool: pg.Pool, code = 'outcome_unknown') {
  await insertRow(pool, thread)
  const next = await insertRow(pool, thread)
  const first = await d.claimOnly()
  await noteProgress(pool, d.id, first, intent, {})
  expect((await d.settle(first, heldBecause(code), { free: 10 })).claimed).toEqual([])
  return { first, next }
}

const events = async (pool: pg.Pool, id: number) =>
  (
    await pool.query(
      `select from_status, to_status, turn, attempt, actor, code from operation_events where operation_id = $1 order by id`,
      [id],
    )
  ).rows

describe('an operation that is held', () => {
  test('stays first of its line, and neither it nor anybody behind it is served', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { first, next } = await hold(d, pool)
    expect(await readRow(pool, first.id)).toMatchObject({
      status: 'pending',
      ready_at: new Date('9999-01-01T00:00:00Z'),
      error: { code: 'outcome_unknown' },
      intent,
    })
    expect(await sweepLines(pool, 's', '', 10)).toMatchObject({ seen: 1, marked: 0 })
    await insertRow(pool, thread)
    expect(await d.claim({ emptied: ['t'] })).toEqual([])
    expect((await readRow(pool, next.id)).ready_at).toBeNull()
    await healthy(pool)
  })

  test('is left alone by the sweep also when the clock was set back', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await hold(d, pool)
    await pool.query('alter table thread_operations disable trigger user')
    await pool.query(`update thread_operations set updated_at = updated_at + interval '1 hour'`)
    await pool.query('alter table thread_operations enable trigger user')
    expect(await sweepLines(pool, 's', '', 10)).toMatchObject({ marked: 0 })
    expect(await d.claim()).toEqual([])
  })

  test('is cancelled by a plain UPDATE, and the line moves on, also where failures halt it', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await halt(pool)
    const { first, next } = await hold(d, pool)
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [first.id])
    expect(await d.claimOnly()).toMatchObject({ id: next.id, turn: 2 })
    await healthy(pool)
  })

  test('is served again at once when it is resumed, knowing that nothing came of its call', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { first, next } = await hold(d, pool)
    expect(await resume(pool)).toEqual({ operation_id: first.id, was: 'held' })
    const again = await d.claimOnly()
    expect(again).toMatchObject({ id: first.id, turn: 1, attempts: 2, failures: 0 })
    expect(again.intent).toEqual({ ...intent, resend: true })
    const { claimed } = await d.settle(again, completed, { free: 1 })
    expect(claimed).toMatchObject([{ id: next.id, turn: 2 }])
    await healthy(pool)
  })

  test.for(['anything_else', 'outcome_unknown'])(
    'is told to send again only where the outcome of a call is unknown: %s',
    async (code, { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      await hold(d, pool, code)
      await resume(pool)
      const { intent: kept } = await d.claimOnly()
      expect(kept?.resend).toBe(code === 'outcome_unknown' ? true : undefined)
    },
  )

  test('was resumed by somebody whom the ledger names', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { first } = await hold(d, pool)
    await resume(pool)
    expect((await events(pool, first.id)).slice(1)).toEqual([
      { ...step('processing', 'pending'), actor: 'd1', code: 'outcome_unknown' },
      {
        ...step('pending', 'pending'),
        actor: expect.stringMatching(/\(inturn test\)$/),
        code: null,
      },
    ])
    await healthy(pool)
  })
})

const step = (from_status: string, to_status: string) => ({
  from_status,
  to_status,
  turn: 1,
  attempt: 1,
})

describe('a halted line', () => {
  test('goes on when it is resumed, until the next failure', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await halt(pool)
    for (let i = 0; i < 4; i++) await insertRow(pool, thread)
    const first = await d.claimOnly()
    await d.settle(first, failed, { free: 1 })
    expect(await resume(pool)).toEqual({ operation_id: first.id, was: 'halted' })
    const second = await d.claimOnly()
    expect(second).toMatchObject({ turn: 2 })
    expect(await d.settle(second, failed, { free: 1 })).toMatchObject({ claimed: [] })
    expect(await resume(pool)).toEqual({ operation_id: second.id, was: 'halted' })
    const third = await d.claimOnly()
    const { claimed } = await d.settle(third, completed, { free: 1 })
    expect(claimed).toMatchObject([{ turn: 4 }])
    expect((await events(pool, first.id)).at(-1)).toMatchObject({
      ...step('failed', 'failed'),
      actor: expect.stringMatching(/\(inturn test\)$/),
    })
    await healthy(pool)
  })

  test('without anybody in it takes the next INSERT at once when it is resumed', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await halt(pool)
    await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), failed)
    await resume(pool)
    const { id } = await insertRow(pool, thread)
    expect(await d.claimOnly()).toMatchObject({ id })
  })

  test('is resumed once by two at the same time', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await halt(pool)
    for (let i = 0; i < 2; i++) await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), failed)
    const results = await Promise.allSettled([resume(pool), resume(pool)])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    await d.claimOnly()
    await healthy(pool)
  })
})

describe('resume_thread refuses', () => {
  test.for(['nobody', 'idle', 'waits', 'failed', 'cancels'])(
    'a thread that waits for no operator: %s',
    async (id, { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      await pool.query(`insert into threads (id, on_failure) values ('cancels', 'cancel_rest')`)
      if (id !== 'nobody') await insertRow(pool, { thread_id: id })
      if (id !== 'nobody' && id !== 'waits') {
        await d.settle(await d.claimOnly(), id === 'idle' ? completed : failed)
      }
      expect(await refusal(resume(pool, id))).toEqual({
        code: '23514',
        constraint: 'thread_waits_for_an_operator',
        message: `thread ${id} is neither halted nor is an operation of it held`,
        hint: expect.stringContaining('thread_states'),
      })
    },
  )

  test('to wait for somebody’s open transaction, and says so', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { first } = await hold(d, pool)
    const user = await connected()
    await user.query('begin')
    await user.query('select from thread_operations where id = $1 for update', [first.id])
    expect(await refusal(resume(pool))).toEqual({
      code: '55P03',
      constraint: 'nobody_holds_the_row',
      message: `thread t is held by somebody's open transaction, and nothing was changed`,
      hint: expect.stringContaining('pg_stat_activity'),
    })
    await user.query('rollback')
    expect(await resume(pool)).toMatchObject({ was: 'held' })
  })
})

test('a resume that is rolled back resumed nothing', async ({ pool, connected }) => {
  const d = await HandDriven.signOn(await connected())
  const { first } = await hold(d, pool)
  await expect(
    withTransaction(pool, async (client) => {
      await resume(client)
      expect(await d.claim()).toEqual([]) // it is not there yet, and holds up nobody
      throw new Error('changed my mind')
    }),
  ).rejects.toThrow('changed my mind')
  expect(await d.claim()).toEqual([])
  await resume(pool)
  expect(await waitFor(async () => (await d.claim())[0])).toMatchObject({ id: first.id })
})
