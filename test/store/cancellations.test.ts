import type pg from 'pg'
import { describe, expect } from 'vitest'
import { takeCancellations } from '../../src/store/cancellations.ts'
import { noteProgress, settleNoted } from '../../src/store/release.ts'
import { completed, failed, HandDriven, heldBecause, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow, refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const thread = { thread_id: 't' }
const run = { ...thread, operation: 'create_run', data: { model: 'gpt-5' } }
const ask = (database: pg.Pool | pg.ClientBase, data: object = {}, thread_id = 't') =>
  insertRow(database, { thread_id, operation: 'cancel_run', data })
const healthy = (pool: pg.Pool) =>
  expectHealthy(pool, { graceMs: 0, without: ['results_are_there'] })
const intent = { call: 'start_run', after: null, timeout_ms: 1_000 }

describe('a cancel_run is bound at its INSERT', () => {
  test('to the operation that is started, whatever it waits for, and to nobody else', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    expect(await ask(pool)).toMatchObject({ target_id: null, place: null, status: 'pending' })
    const first = await insertRow(pool, run)
    const next = await insertRow(pool, run)
    expect(await ask(pool)).toMatchObject({ target_id: null })
    const claimed = await d.claimOnly()
    expect(await ask(pool)).toMatchObject({ target_id: first.id })
    await d.settle(claimed, retryIn(60_000))
    expect(await ask(pool)).toMatchObject({ target_id: first.id })
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [first.id])
    expect(await ask(pool)).toMatchObject({ target_id: null })
    expect((await d.claimOnly()).id).toBe(next.id)
    expect(await ask(pool, { operation_id: first.id })).toMatchObject({ target_id: first.id })
  })

  test('also on a thread that was closed, and it waits for nobody', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    await d.claimOnly()
    await pool.query('update threads set closed_at = now()')
    const user = await connected()
    await user.query('begin')
    await user.query('select from thread_operations for update')
    await user.query('select from threads for update')
    expect(await ask(pool)).toMatchObject({ target_id: id })
    await user.query('rollback')
  })

  test.for([
    ['that does not exist', 999_999],
    ['of another thread', 1],
  ] as const)('and not to one %s', async ([, operation_id], { pool }) => {
    const other = await insertRow(pool, { thread_id: 'other' })
    const named = operation_id === 1 ? other.id : operation_id
    expect(await refusal(ask(pool, { operation_id: named }))).toEqual({
      code: '23514',
      constraint: 'target_is_of_the_thread',
      message: `there is no operation ${named} on thread t`,
      hint: expect.stringContaining(`WHERE thread_id = 't'`),
    })
  })

  test('and not to one that stands beside the line itself', async ({ pool }) => {
    const { id } = await ask(pool)
    expect(await refusal(ask(pool, { operation_id: id }))).toEqual({
      code: '23514',
      constraint: 'target_stands_in_line',
      message: `operation ${id} is a cancel_run and has no run to cancel`,
      hint: expect.stringContaining(`SET status = 'cancelled' WHERE id = ${id};`),
    })
  })

  test.for([{ scheduled_at: '2100-01-01' }, { if_busy: 'reject' }, { debounce_ms: 5 }])(
    'and does not wait: %j',
    async (more, { pool }) => {
      const row = { ...thread, operation: 'cancel_run', ...more }
      expect(await refusal(insertRow(pool, row))).toMatchObject({
        constraint: 'beside_the_line_acts_at_once',
        message: 'cancel_run acts at once and waits for nobody',
      })
    },
  )
})

describe('what a dispatcher does about the cancel_runs that there are', () => {
  test('is to be told which of its own operations are meant, and by whom', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    await insertRow(pool, { ...run, thread_id: 'not meant' })
    expect(await d.claim()).toHaveLength(2)
    const asked = await ask(pool, { reason: 'enough' })
    await ask(pool)
    const cancellation = { operation_id: asked.id, interrupted_by: null, reason: 'enough' }
    for (let times = 0; times < 2; times++)
      expect(await takeCancellations(pool, 'd1')).toEqual({
        wanted: new Map([[id, cancellation]]),
        ready: false,
      })
    expect(await takeCancellations(pool, 'd2')).toMatchObject({ wanted: new Map() })
    expect(await readRow(pool, asked.id)).toMatchObject({ status: 'pending' })
    await healthy(pool)
  })

  test.for(['pending', 'scheduled', 'retried', 'held'] as const)(
    'is to withdraw one that is %s and has nothing under way, and to move its line on',
    async (how, { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      const { id } = await insertRow(pool, {
        ...run,
        scheduled_at: how === 'scheduled' ? '2100-01-01' : null,
      })
      const next = await insertRow(pool, run)
      if (how === 'retried') await d.settle(await d.claimOnly(), retryIn(60_000))
      if (how === 'held') await d.settle(await d.claimOnly(), heldBecause('run_stuck'))
      const asked = await ask(pool, { operation_id: id, reason: 'no' })
      const { ready } = await takeCancellations(pool, 'd1')
      expect(ready).toBe(how !== 'scheduled')
      expect(await readRow(pool, id)).toMatchObject({
        status: 'cancelled',
        place: null,
        result: null,
        error: {
          code: 'cancelled',
          message: `Cancelled by operation ${asked.id}: no`,
          operation_id: asked.id,
        },
      })
      expect(await readRow(pool, asked.id)).toMatchObject({
        status: 'completed',
        result: { outcome: 'cancelled', operation_id: id },
      })
      expect((await d.claimOnly()).id).toBe(next.id)
      await healthy(pool)
    },
  )

  test('is to have one served now that waits with something under way, once', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    const claimed = await d.claimOnly()
    await noteProgress(pool, d.id, claimed, null, { run_id: 'run_1' })
    await d.settle(claimed, heldBecause('run_stuck'))
    const asked = await ask(pool)
    expect((await takeCancellations(pool, 'd1')).ready).toBe(true)
    expect((await takeCancellations(pool, 'd1')).ready).toBe(false)
    const again = await d.claimOnly()
    expect(again).toMatchObject({
      id,
      attempts: 2,
      cancellation: { operation_id: asked.id, interrupted_by: null, reason: null },
    })
    const error = { code: 'cancelling', message: 'Soon.', operation_id: asked.id }
    await d.settle(again, { status: 'held', error })
    expect((await takeCancellations(pool, 'd1')).ready).toBe(false)
    await ask(pool)
    expect((await takeCancellations(pool, 'd1')).ready).toBe(false)
    expect(await readRow(pool, id)).toMatchObject({ status: 'pending', attempts: 2 })
    await healthy(pool)
  })

  test('is to have one served now that waits for tool outputs', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    await d.settle(await d.claimOnly(), { status: 'requires_action', result: {}, delayMs: 60_000 })
    const asked = await ask(pool)
    expect((await takeCancellations(pool, 'd1')).ready).toBe(true)
    expect(await d.claimOnly()).toMatchObject({ id, cancellation: { operation_id: asked.id } })
    await healthy(pool)
  })

  test('is to complete those whose operation was over or is gone, or that had none', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const none = await ask(pool)
    const { id } = await insertRow(pool, run)
    const claimed = await d.claimOnly()
    const user = await connected()
    await user.query('begin')
    const late = await ask(user)
    const gone = await ask(user)
    await d.settle(claimed)
    await user.query('commit')
    const next = await insertRow(pool, run)
    await takeCancellations(pool, 'd1')
    expect((await readRow(pool, none.id)).result).toEqual({ outcome: 'nothing_to_do' })
    const result = { outcome: 'nothing_to_do', operation_id: id }
    expect((await readRow(pool, late.id)).result).toEqual(result)
    expect((await readRow(pool, gone.id)).result).toEqual(result)
    await pool.query('delete from thread_operations where id = $1', [gone.id])
    expect(await d.claimOnly()).toMatchObject({ id: next.id, cancellation: null })
    await healthy(pool)
  })

  test('is to leave alone what somebody’s open transaction holds, until it is over', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    await d.settle(await d.claimOnly(), retryIn(60_000))
    const asked = await ask(pool)
    const user = await connected()
    await user.query('begin')
    await user.query('select from thread_operations for update')
    expect(await takeCancellations(pool, 'd1')).toEqual({ wanted: new Map(), ready: false })
    await user.query('rollback')
    await takeCancellations(pool, 'd1')
    expect(await readRow(pool, id)).toMatchObject({ status: 'cancelled' })
    expect(await readRow(pool, asked.id)).toMatchObject({ status: 'completed' })
    await healthy(pool)
  })
})

describe('when the operation is over, its cancel_runs are done in the same moment', () => {
  test.for([
    ['completed', completed],
    ['failed', failed],
    ['cancelled', { status: 'cancelled', error: { code: 'cancelled', message: 'Yes.' } }],
  ] as const)('and say that it is %s', async ([outcome, settled], { pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    const claimed = await d.claimOnly()
    const asked = [await ask(pool), await ask(pool, { operation_id: id })]
    await d.settle(claimed, settled)
    for (const one of asked)
      expect(await readRow(pool, one.id)).toMatchObject({
        status: 'completed',
        result: { outcome, operation_id: id },
        finished_at: expect.any(Date),
      })
    await healthy(pool)
  })

  test('but not when it is only tried again', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, run)
    const claimed = await d.claimOnly()
    const asked = await ask(pool)
    await d.settle(claimed, retryIn(60_000))
    expect(await readRow(pool, asked.id)).toMatchObject({ status: 'pending' })
  })

  test('also where its outcome had to be noted, and where they are held themselves', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    const claimed = await d.claimOnly()
    const asked = await ask(pool)
    const held = await ask(pool)
    const user = await connected()
    await user.query('begin')
    await user.query('select from thread_operations where id = any ($1) for update', [
      [id, held.id],
    ])
    const error = { code: 'cancelled', message: 'Yes.', operation_id: asked.id }
    await d.settle(claimed, { status: 'cancelled', error })
    expect(await readRow(pool, asked.id)).toMatchObject({ status: 'pending' })
    await user.query('rollback')
    await user.query('begin')
    await user.query('select from thread_operations where id = $1 for update', [held.id])
    await settleNoted(pool, 10)
    const result = { outcome: 'cancelled', operation_id: id }
    expect(await readRow(pool, asked.id)).toMatchObject({ status: 'completed', result })
    expect(await readRow(pool, held.id)).toMatchObject({ status: 'pending' })
    await user.query('rollback')
    await takeCancellations(pool, 'd1')
    expect(await readRow(pool, held.id)).toMatchObject({
      status: 'completed',
      result: { outcome: 'nothing_to_do', operation_id: id },
    })
  })
})

test('a cancel_run that is withdrawn cancels nobody, and never goes back into a line', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  await insertRow(pool, run)
  const claimed = await d.claimOnly()
  const asked = await ask(pool)
  await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [asked.id])
  expect(await takeCancellations(pool, 'd1')).toEqual({ wanted: new Map(), ready: false })
  await d.settle(claimed, retryIn(0))
  expect(await d.claimOnly()).toMatchObject({ cancellation: null })
  expect(await refusal(pool.query(`select retry_operation($1, 'head')`, [asked.id]))).toEqual({
    code: '23514',
    constraint: 'only_what_stood_in_line_goes_back',
    message: `operation ${asked.id} is a cancel_run, which stands in no line`,
    hint: 'To ask for the same once more, insert a new one.',
  })
  await healthy(pool)
})

describe('a plain UPDATE that cancels one which waits for its next attempt', () => {
  const cancel = (pool: pg.Pool, id: number) =>
    pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])

  test.for([
    ['whose start was not answered', intent, {}],
    ['whose run is known', null, { run_id: 'run_1' }],
    ['whose answer was found', null, { answered: { after: null, message: false } }],
  ] as const)(
    'is refused for one %s, unless it is held for an operator',
    async ([, noted, progress], { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      const { id } = await insertRow(pool, run)
      const claimed = await d.claimOnly()
      await noteProgress(pool, d.id, claimed, noted, progress as object)
      await d.settle(claimed, retryIn(0))
      expect(await refusal(cancel(pool, id))).toEqual({
        code: '23514',
        constraint: 'what_is_under_way_is_ended_first',
        message: `operation ${id} waits for its next attempt, and what it has begun at the provider may go on`,
        hint: `To end both: INSERT INTO thread_operations (thread_id, operation, data) VALUES ('t', 'cancel_run', '{"operation_id": ${id}}');`,
      })
      // A client hears of a refusal a moment before the server lets go of the row.
      const again = await waitFor(async () => (await d.claim())[0])
      await d.settle(again, heldBecause('run_stuck'))
      await cancel(pool, id)
      expect(await readRow(pool, id)).toMatchObject({ status: 'cancelled' })
    },
  )

  test('is fine where a run has failed and nothing goes on', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, run)
    const claimed = await d.claimOnly()
    await noteProgress(pool, d.id, claimed, null, { run_id: 'r', failed_run_ids: ['r'] })
    await d.settle(claimed, retryIn(60_000))
    await cancel(pool, id)
    expect(await readRow(pool, id)).toMatchObject({ status: 'cancelled' })
  })
})

test('a cancel_run overtakes a backlog of a thousand', async ({ pool, connected }) => {
  const d = await HandDriven.signOn(await connected())
  const { id } = await insertRow(pool, run)
  await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     select 't', 'create_run', '{"model": "gpt-5"}' from generate_series(1, 1000)`,
  )
  const claimed = await d.claimOnly()
  await ask(pool)
  expect([...(await takeCancellations(pool, 'd1')).wanted.keys()]).toEqual([id])
  const error = { code: 'cancelled', message: 'Yes.' }
  const { claimed: next } = await d.settle(claimed, { status: 'cancelled', error }, { free: 1 })
  expect(next).toMatchObject([{ turn: 2, cancellation: null }])
})

test('the story of a thread tells of a cancel_run', async ({ pool, connected }) => {
  const d = await HandDriven.signOn(await connected())
  const { id } = await insertRow(pool, run)
  const claimed = await d.claimOnly()
  const asked = await ask(pool)
  await d.settle(claimed, {
    status: 'cancelled',
    error: { code: 'cancelled', message: 'Yes.', operation_id: asked.id },
  })
  const { rows } = await pool.query(
    'select operation_id, operation, event, code from thread_timeline',
  )
  expect(rows).toEqual([
    { operation_id: id, operation: 'create_run', event: 'joined the line', code: null },
    { operation_id: id, operation: 'create_run', event: 'started', code: null },
    { operation_id: asked.id, operation: 'cancel_run', event: 'was asked for', code: null },
    { operation_id: id, operation: 'create_run', event: 'cancelled', code: 'cancelled' },
    { operation_id: asked.id, operation: 'cancel_run', event: 'completed', code: null },
  ])
})
