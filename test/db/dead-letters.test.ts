import { expect } from 'vitest'
import { releaseLostOperations } from '../../src/store/release.ts'
import { failed, HandDriven, heldBecause, retryIn } from '../support/hand-driven.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'

test('a dead letter tells of every attempt who made it, how long it took and how it ended', async ({
  pool,
  connected,
}) => {
  const d1 = await HandDriven.signOn(await connected(), 'd1')
  const d2 = await HandDriven.signOn(await connected(), 'd2')
  const letters = async () => (await pool.query('select * from dead_letters')).rows
  const { id } = await insertRow(pool, { thread_id: 't' })
  await d1.settle(await d1.claimOnly(), retryIn(0))
  await d1.claimOnly()
  await pool.query(`delete from dispatchers where id = 'd1'`)
  expect(await releaseLostOperations(pool, 'd2')).toEqual([id])
  await d2.settle(await d2.claimOnly(), {
    status: 'held',
    error: { code: 'outcome_unknown', message: 'What was said.', call: 'start_run' },
  })
  await pool.query(`select resume_thread('t')`)
  expect(await letters()).toEqual([])
  await d2.settle(await d2.claimOnly(), failed)
  await pool.query(`select retry_operation($1, 'head')`, [id])
  expect(await letters()).toEqual([])
  await d2.settle(await d2.claimOnly(), failed)

  const time = expect.stringMatching(/^20\d\d-/)
  const attempt = (attempt: number, dispatcher: string, status: string, code: string | null) => ({
    attempt,
    turn: attempt < 5 ? 1 : 2,
    dispatcher,
    started_at: time,
    ended_at: time,
    status,
    code,
    detail: code === 'outcome_unknown' ? { call: 'start_run' } : null,
    run_id: null,
  })
  expect(await letters()).toEqual([
    {
      id,
      thread_id: 't',
      operation: 'add_message',
      turn: 2,
      failed_at: expect.any(Date),
      code: 'no',
      error: { code: 'no', message: 'No.' },
      attempts: [
        attempt(1, 'd1', 'pending', 'rate_limited'),
        attempt(2, 'd1', 'pending', 'rate_limited'),
        attempt(3, 'd2', 'pending', 'outcome_unknown'),
        attempt(4, 'd2', 'failed', 'no'),
        attempt(5, 'd2', 'failed', 'no'),
      ],
    },
  ])
})

test('an operation that is held, cancelled or completed is no dead letter', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  for (const thread_id of ['held', 'cancelled']) await insertRow(pool, { thread_id })
  await pool.query(
    `update thread_operations set status = 'cancelled' where thread_id = 'cancelled'`,
  )
  await d.settle(await d.claimOnly(), heldBecause('outcome_unknown'))
  expect((await pool.query('select * from dead_letters')).rows).toEqual([])
})
