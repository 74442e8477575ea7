import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow, moveTo } from '../support/line.ts'

describe('thread_states', () => {
  const stateOf = async (pool: pg.Pool, threadId: string) =>
    (await pool.query('select * from thread_states where thread_id = $1', [threadId])).rows[0]

  test('knows nothing of a thread without operations', async ({ pool }) => {
    expect(await stateOf(pool, 'never heard of')).toBeUndefined()
  })

  test('follows a thread from its first INSERT to idleness', async ({ pool }) => {
    const thread = { thread_id: 'followed' }
    const { id } = await insertRow(pool, {
      ...thread,
      operation: 'create_run',
      data: { model: 'm' },
    })
    await insertRow(pool, thread)
    const nothing = { active_operation_id: null, active_operation: null, active_since: null }
    const noRun = { last_run_id: null, last_run_status: null, last_run_finished_at: null }
    const noRow = { provider: null, provider_thread_id: null, metadata: null, created_at: null }
    expect(await stateOf(pool, 'followed')).toEqual({
      ...thread,
      state: 'active',
      waiting: 2,
      ...nothing,
      ...noRun,
      ...noRow,
    })

    await pool.query(
      `insert into threads (id, provider, provider_thread_id, metadata) values ('followed', 'responses', 'conv_1', '{"plan": "pro"}')`,
    )
    await moveTo(pool, id, 'processing', { progress: { run_id: 'resp_1' } })
    expect(await stateOf(pool, 'followed')).toMatchObject({
      state: 'active',
      waiting: 1,
      active_operation_id: id,
      active_operation: 'create_run',
      active_since: expect.any(Date),
      last_run_id: 'resp_1',
      last_run_status: 'processing',
      last_run_finished_at: null,
      provider: 'responses',
      provider_thread_id: 'conv_1',
      metadata: { plan: 'pro' },
      created_at: expect.any(Date),
    })

    await moveTo(pool, id, 'requires_action')
    expect(await stateOf(pool, 'followed')).toMatchObject({
      state: 'requires_action',
      waiting: 1,
      active_operation_id: id,
    })

    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'completed', { result: { run: { id: 'resp_1', status: 'incomplete' } } })
    await pool.query(
      `update thread_operations set status = 'cancelled' where thread_id = 'followed' and status = 'pending'`,
    )
    expect(await stateOf(pool, 'followed')).toMatchObject({
      state: 'idle',
      waiting: 0,
      ...nothing,
      last_run_id: 'resp_1',
      last_run_status: 'incomplete',
      last_run_finished_at: expect.any(Date),
    })

    await pool.query(`update threads set closed_at = now() where id = 'followed'`)
    expect(await stateOf(pool, 'followed')).toMatchObject({ state: 'closed' })
  })

  test('tells who waits for an operator: held, and halted also when nothing waits', async ({
    pool,
  }) => {
    await pool.query(`insert into threads (id, on_failure) values ('operated', 'halt')`)
    expect(await stateOf(pool, 'operated')).toMatchObject({ state: 'idle', provider: null })
    const { id } = await insertRow(pool, { thread_id: 'operated' })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'pending', { ready_at: '9999-01-01T00:00:00Z' })
    expect(await stateOf(pool, 'operated')).toMatchObject({ state: 'held', waiting: 1 })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'failed')
    expect(await stateOf(pool, 'operated')).toMatchObject({ state: 'halted', waiting: 0 })
    await insertRow(pool, { thread_id: 'operated' })
    expect(await stateOf(pool, 'operated')).toMatchObject({ state: 'halted', waiting: 1 })
    for (const policy of ['cancel_rest', 'continue']) {
      await pool.query(`update threads set on_failure = $1 where id = 'operated'`, [policy])
      expect(await stateOf(pool, 'operated')).toMatchObject({ state: 'active', waiting: 1 })
    }
  })

  test('tells a conversation that has expired or was deleted, until another begins', async ({
    pool,
  }) => {
    await pool.query(
      `insert into threads (id, provider, provider_thread_id) values ('ended', 'responses', 'conv_2')`,
    )
    const end = (endedBy: string) =>
      pool.query(
        `with said as (update thread_generations set ended_by = '${endedBy}' where thread_id = 'ended' and ended_at is null)
         update threads set provider_thread_id = null where id = 'ended'`,
      )
    await end('expired')
    expect(await stateOf(pool, 'ended')).toMatchObject({ state: 'expired', waiting: 0 })
    const { id } = await insertRow(pool, { thread_id: 'ended' })
    expect(await stateOf(pool, 'ended')).toMatchObject({ state: 'active', waiting: 1 })
    await pool.query(`update threads set provider_thread_id = 'conv_3' where id = 'ended'`)
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
    expect(await stateOf(pool, 'ended')).toMatchObject({ state: 'idle' })
    await end('rotated')
    expect(await stateOf(pool, 'ended')).toMatchObject({ state: 'idle' })
    await pool.query(`update threads set closed_at = now(), deleted_at = now() where id = 'ended'`)
    expect(await stateOf(pool, 'ended')).toMatchObject({ state: 'deleted' })
  })

  test('shows the run of the highest turn, and none of operations without a run', async ({
    pool,
  }) => {
    await pool.query(`insert into threads (id) values ('runs')`)
    for (const progress of [{ run_id: 'resp_1' }, { run_id: 'resp_2' }, { message_id: 'msg_3' }]) {
      const { id } = await insertRow(pool, { thread_id: 'runs' })
      await moveTo(pool, id, 'processing', { progress })
      await moveTo(pool, id, 'failed')
    }
    await insertRow(pool, { thread_id: 'runs' })
    expect(await stateOf(pool, 'runs')).toMatchObject({
      last_run_id: 'resp_2',
      last_run_status: 'failed',
    })
  })

  test("knows the provider of an id that is the provider's own", async ({ pool }) => {
    const id = `conv_${'0'.repeat(32)}`
    await insertRow(pool, { thread_id: id })
    expect(await stateOf(pool, id)).toMatchObject({ provider: 'responses' })
  })

  test('has one row for every thread', async ({ pool }) => {
    const { rows } = await pool.query(
      'select count(*) as rows, count(distinct thread_id) as threads from thread_states',
    )
    expect(rows[0].rows).toBe(rows[0].threads)
  })
})
