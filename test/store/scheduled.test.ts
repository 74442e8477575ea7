import type pg from 'pg'
import { describe, expect } from 'vitest'
import { joinScheduled } from '../../src/store/scheduled.ts'
import { HandDriven } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const inMs = async (pool: pg.Pool, ms: number): Promise<string> => {
  const { rows } = await pool.query(
    `select (clock_timestamp() + $1 * interval '1 millisecond')::text as at`,
    [ms],
  )
  return rows[0].at
}
/** Waits for all that were scheduled to be due, and joins them in one go. */
async function joinWhenDue(pool: pg.Pool, client: pg.ClientBase | pg.Pool = pool) {
  await waitFor(async () => {
    const { rows } = await pool.query(
      `select from thread_operations where status = 'scheduled' and scheduled_at > clock_timestamp()`,
    )
    return rows.length === 0
  })
  return joinScheduled(client as pg.Pool, 'd1')
}
const lineOf = async (pool: pg.Pool, thread: string): Promise<number[]> => {
  const { rows } = await pool.query(
    'select id from thread_operations where thread_id = $1 and place is not null order by place',
    [thread],
  )
  return rows.map(({ id }) => id)
}

describe('an operation with a scheduled_at in the future', () => {
  test('stands in no line and is claimed by nobody before it is due', async ({
    pool,
    connected,
  }) => {
    const row = await insertRow(pool, { thread_id: 't', scheduled_at: '2100-01-01' })
    expect(row).toMatchObject({ status: 'scheduled', place: null, ready_at: null, turn: null })
    const dispatcher = await HandDriven.signOn(await connected())
    expect(await joinScheduled(pool, 'd1')).toBe(false)
    expect(await dispatcher.claim()).toEqual([])
    const { id } = await insertRow(pool, { thread_id: 't' })
    expect((await dispatcher.claimOnly()).id).toBe(id)
  })

  test('joins the tail of its line when it is due, behind those who came meanwhile', async ({
    pool,
    connected,
  }) => {
    const later = await insertRow(pool, { thread_id: 't', scheduled_at: await inMs(pool, 650) })
    const first = await insertRow(pool, { thread_id: 't' })
    const second = await insertRow(pool, { thread_id: 't' })
    expect(await joinWhenDue(pool)).toBe(false)
    expect(await lineOf(pool, 't')).toEqual([first.id, second.id, later.id])
    const dispatcher = await HandDriven.signOn(await connected())
    const turns: number[] = []
    for (let i = 0; i < 3; i++) {
      const operation = await dispatcher.claimOnly()
      turns.push(operation.id)
      await dispatcher.settle(operation)
    }
    expect(turns).toEqual([first.id, second.id, later.id])
    await expectHealthy(pool, { without: ['results_are_there'] })
  })

  test('is served at once where its line is empty', async ({ pool, connected }) => {
    const { id } = await insertRow(pool, { thread_id: 't', scheduled_at: await inMs(pool, 650) })
    const dispatcher = await HandDriven.signOn(await connected())
    expect(await joinWhenDue(pool)).toBe(true)
    expect((await dispatcher.claimOnly()).id).toBe(id)
  })

  test('joins in the order of the times, not of the rows', async ({ pool }) => {
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, data, scheduled_at)
       select 't', 'add_message', '{"message": "Hi"}', now() + ms * interval '1 millisecond'
         from (values (690), (630), (660)) as due (ms) returning id`,
    )
    const [last, first, second] = rows.map(({ id }) => id)
    await joinWhenDue(pool)
    expect(await lineOf(pool, 't')).toEqual([first, second, last])
  })

  test('joins once, however many dispatchers look', async ({ pool }) => {
    for (let i = 0; i < 40; i++)
      await insertRow(pool, { thread_id: `t${i % 4}`, scheduled_at: await inMs(pool, 600) })
    await waitFor(async () => {
      await Promise.all(Array.from({ length: 5 }, () => joinScheduled(pool, 'd1')))
      const { rows } = await pool.query(`select from thread_operations where status = 'pending'`)
      return rows.length === 40
    })
    const { rows } = await pool.query(
      `select count(*) as events, count(distinct operation_id) as operations from operation_events`,
    )
    expect(rows).toEqual([{ events: 40, operations: 40 }])
    // Two that join an empty line at once both mark themselves; a claim would take one mark off.
    await expectHealthy(pool, { without: ['only_the_first_is_marked'] })
  })

  test('is left alone while somebody’s transaction holds it, and the others join', async ({
    pool,
    connected,
  }) => {
    const held = await insertRow(pool, { thread_id: 'a', scheduled_at: await inMs(pool, 640) })
    const free = await insertRow(pool, { thread_id: 'b', scheduled_at: await inMs(pool, 640) })
    const client = await connected()
    await client.query('begin')
    await client.query('select from thread_operations where id = $1 for update', [held.id])
    await joinWhenDue(pool)
    expect(await readRow(pool, free.id)).toMatchObject({ status: 'pending' })
    expect(await readRow(pool, held.id)).toMatchObject({ status: 'scheduled' })
    await client.query('rollback')
    expect(await joinScheduled(pool, 'd1')).toBe(true)
    expect(await readRow(pool, held.id)).toMatchObject({ status: 'pending' })
  })

  test('can be cancelled before, and is cancelled where its thread was closed meanwhile', async ({
    pool,
  }) => {
    const withdrawn = await insertRow(pool, { thread_id: 'a', scheduled_at: '2100-01-01' })
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [
      withdrawn.id,
    ])
    const late = await insertRow(pool, { thread_id: 'b', scheduled_at: await inMs(pool, 640) })
    await pool.query(`insert into threads (id, closed_at) values ('b', now())`)
    await joinWhenDue(pool)
    expect(await readRow(pool, withdrawn.id)).toMatchObject({ status: 'cancelled', error: null })
    expect(await readRow(pool, late.id)).toMatchObject({
      status: 'cancelled',
      error: { code: 'thread_closed', message: expect.any(String) },
    })
    await expectHealthy(pool)
  })

  test('waits unmarked in a halted line', async ({ pool, connected }) => {
    await pool.query(`insert into threads (id, on_failure) values ('t', 'halt')`)
    await insertRow(pool, { thread_id: 't' })
    const dispatcher = await HandDriven.signOn(await connected())
    const error = { code: 'no', message: 'No.' }
    await dispatcher.settle(await dispatcher.claimOnly(), { status: 'failed', error })
    const { id } = await insertRow(pool, { thread_id: 't', scheduled_at: await inMs(pool, 630) })
    expect(await joinWhenDue(pool)).toBe(false)
    expect(await dispatcher.claim()).toEqual([])
    await pool.query(`select resume_thread('t')`)
    expect((await dispatcher.claimOnly()).id).toBe(id)
  })
})

test('an operation whose scheduled_at is past joins at once', async ({ pool }) => {
  const row = await insertRow(pool, { thread_id: 't', scheduled_at: '2001-01-01' })
  expect(row).toMatchObject({ status: 'pending', place: row.id })
  expect(row.ready_at).not.toBeNull()
})

test('the story of a thread tells when an operation was asked for and when it joined', async ({
  pool,
}) => {
  await insertRow(pool, { thread_id: 't', scheduled_at: await inMs(pool, 600) })
  await joinWhenDue(pool)
  const { rows } = await pool.query(`select event from thread_timeline where thread_id = 't'`)
  expect(rows.map(({ event }) => event)).toEqual([
    expect.stringMatching(/^was scheduled for 20/),
    'joined the line',
  ])
})

describe('an operation that was scheduled and meets a busy thread when it is due', () => {
  const run = { operation: 'create_run', data: { model: 'm' } }

  test('is refused then, and not before', async ({ pool, connected }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    const scheduled_at = await inMs(pool, 650)
    const first = await insertRow(pool, { thread_id: 'busy', ...run })
    const refused = await insertRow(pool, { thread_id: 'busy', if_busy: 'reject', scheduled_at })
    const served = await insertRow(pool, { thread_id: 'idle', if_busy: 'reject', scheduled_at })
    const second = await insertRow(pool, { thread_id: 'idle', if_busy: 'reject', scheduled_at })
    expect(refused).toMatchObject({ status: 'scheduled' })
    await dispatcher.claimOnly()
    expect(await joinWhenDue(pool)).toBe(true)
    expect(await readRow(pool, refused.id)).toMatchObject({
      status: 'failed',
      place: null,
      error: { code: 'thread_busy', operation_id: first.id },
    })
    expect(await readRow(pool, second.id)).toMatchObject({
      error: { code: 'thread_busy', operation_id: served.id },
    })
    expect(await dispatcher.claimOnly()).toMatchObject({ id: served.id })
    await expectHealthy(pool, { without: ['claims_have_living_owners'] })
  })

  test('interrupts what is active then', async ({ pool, connected }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    const cancels = `select target_id, data from thread_operations where operation = 'cancel_run'`
    const over = await insertRow(pool, { thread_id: 't', ...run })
    const early = await dispatcher.claimOnly()
    expect(early.id).toBe(over.id)
    const scheduled_at = await inMs(pool, 650)
    const row = await insertRow(pool, { thread_id: 't', if_busy: 'interrupt', scheduled_at })
    const active = await insertRow(pool, { thread_id: 't', ...run })
    expect((await pool.query(cancels)).rows).toEqual([])
    await dispatcher.settle(early, undefined, { free: 1 })
    await joinWhenDue(pool)
    expect((await pool.query(cancels)).rows).toEqual([
      { target_id: active.id, data: { operation_id: active.id, interrupted_by: row.id } },
    ])
  })
})
