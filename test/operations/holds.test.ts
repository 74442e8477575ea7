import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, messagesPath, startLine, who } from './line.ts'

const begun = (line: Line, id: number) =>
  waitFor(async () => ((await line.row(id)) as { held_until?: Date }).held_until, {
    message: `hold ${id} begins`,
  })
const release = (pool: pg.Pool, id: number) => pool.query('select release_hold($1)', [id])
const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error('It was not refused.')
    },
    ({ constraint, message, hint }) => ({ constraint, message, hint }),
  )

describe.each(['responses', 'assistants'] as const)('a hold on "%s"', (name) => {
  test('has the thread from its turn until it is released, and what waits is served then', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:order`
    const before = await line.insert(thread, 'add_message_and_run', {
      message: 'reply with exactly: before',
      ...who,
    })
    const id = await line.insert(thread, 'hold', {})
    const after = await line.insert(thread, 'add_message', { message: 'after' })
    await begun(line, id)
    expect((await line.row(before)).status).toBe('completed')
    expect(await line.row(id)).toMatchObject({
      status: 'processing',
      turn: 2,
      claimed_by: expect.stringMatching(/ \(inturn test\)$/),
    })
    // A dispatcher that looks at everything serves another thread meanwhile.
    expect((await line.do(`${thread} beside`, 'add_message', { message: 'Hi' })).status).toBe(
      'completed',
    )
    const { rows } = await pool.query(
      'select id, waits_for from waiting_operations where thread_id = $1',
      [thread],
    )
    expect(rows).toEqual([{ id: after, waits_for: expect.stringContaining(`a hold of `) }])
    await expectHealthy(pool)

    const { provider_thread_id } = await line.thread(thread)
    if (name === 'responses')
      await post(line, `conversations/${provider_thread_id}/items`, {
        items: [{ type: 'message', role: 'user', content: 'by our own code' }],
      })
    else
      await post(line, `threads/${provider_thread_id}/messages`, {
        role: 'user',
        content: 'by our own code',
      })
    await release(pool, id)
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      result: { provider_thread_id },
      held_until: null,
      claimed_by: null,
    })
    expect(await line.end(after)).toMatchObject({ status: 'completed', turn: 3 })
    expect(await line.said(thread)).toEqual([
      'user: reply with exactly: before',
      'assistant: before',
      'user: by our own code',
      'user: after',
    ])
    expect(line.emulator.stats.conflicts).toBe(0)
    await expectHealthy(pool)
  })

  test('of a thread that is nowhere yet begins without asking the provider', async ({ pool }) => {
    const line = await startLine(pool, name)
    const id = await line.insert(`${name}:nowhere`, 'hold', {})
    await begun(line, id)
    expect(line.relay.requests).toEqual([])
    await release(pool, id)
    expect(await line.end(id)).toMatchObject({ status: 'completed', result: null })
    await expectHealthy(pool)
  })

  test('waits for a run of somebody else, without a slot and without an attempt', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:foreign`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id } = await line.thread(thread)
    const foreign = line.emulator.foreignRun(provider_thread_id, { ms: 500 })
    const id = await line.insert(thread, 'hold', {})
    const code = name === 'assistants' ? 'thread_busy' : 'conversation_locked'
    expect(await line.waiting(id, code)).toMatchObject({
      status: 'pending',
      failures: 0,
      error: { foreign_run_id: name === 'assistants' ? foreign : null },
    })
    await begun(line, id)
    expect(line.emulator.runs(provider_thread_id).at(-1)?.status).toBe('completed')
    await release(pool, id)
  })

  test('that meets a run without an end is cancelled, and halts nobody', async ({ pool }) => {
    const line = await startLine(pool, name, { foreignRunMs: 200 })
    const thread = `${name}:endless`
    await line.do(thread, 'add_message', { message: 'Hi' })
    await pool.query(`update threads set on_failure = 'halt' where id = $1`, [thread])
    const { provider_thread_id } = await line.thread(thread)
    line.emulator.foreignRun(provider_thread_id, { ms: 3_600_000 })
    expect(await line.do(thread, 'hold', {})).toMatchObject({
      status: 'cancelled',
      error: { code: 'foreign_run_timeout' },
    })
    const next = await line.do(thread, 'update_thread', { metadata: { a: 'b' } })
    expect(next.status).toBe('completed')
    await expectHealthy(pool)
  })
})

async function post(line: Line, path: string, body: object): Promise<void> {
  const answer = await fetch(`${line.emulator.url}/${path}`, {
    method: 'POST',
    headers: {
      authorization: 'Bearer any',
      'content-type': 'application/json',
      'openai-beta': 'assistants=v2',
    },
    body: JSON.stringify(body),
  })
  expect(answer.status).toBe(200)
}

describe('the lease of a hold', () => {
  test('ends it when it is over, and the line goes on', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const id = await line.insert('expiring', 'hold', { lease_ms: 200 })
    const after = await line.insert('expiring', 'add_message', { message: 'after' })
    expect(await line.end(id)).toMatchObject({
      status: 'failed',
      error: { code: 'hold_expired' },
      held_until: null,
    })
    expect((await line.end(after)).status).toBe('completed')
    expect(await refusal(release(pool, id))).toEqual({
      constraint: 'hold_is_not_over',
      message: `hold ${id} is over: failed (hold_expired)`,
      hint: expect.stringContaining('insert a new hold'),
    })
    await expectHealthy(pool)
  })

  test('is as long as it is renewed for, from now', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const id = await line.insert('renewed', 'hold', { lease_ms: 3_600_000 })
    const first = await begun(line, id)
    const { rows } = await pool.query('select renew_hold($1, 100) as until', [id])
    expect(rows[0].until.getTime()).toBeLessThan(first.getTime())
    expect(await line.end(id)).toMatchObject({ error: { code: 'hold_expired' } })
    expect((await refusal(pool.query('select renew_hold($1, 100)', [id]))).constraint).toBe(
      'hold_is_not_over',
    )
  })

  test('stops the line where the thread says that it halts', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await pool.query(`insert into threads (id, on_failure) values ('halting', 'halt')`)
    const id = await line.insert('halting', 'hold', { lease_ms: 100 })
    const after = await line.insert('halting', 'add_message', { message: 'after' })
    expect((await line.end(id)).status).toBe('failed')
    const { rows } = await pool.query(`select state from thread_states where thread_id = 'halting'`)
    expect(rows).toEqual([{ state: 'halted' }])
    await pool.query(`select resume_thread('halting')`)
    expect((await line.end(after)).status).toBe('completed')
  })

  test('outlives the dispatcher that gave the thread over', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const id = await line.insert('outliving', 'hold', {})
    await begun(line, id)
    await line.dispatcher.stop()
    const next = await startLine(pool, 'responses')
    await next.do('outliving beside', 'add_message', { message: 'Hi' })
    await pool.query(`select release_lost_operations('somebody')`)
    expect((await line.row(id)).status).toBe('processing')
    await expectHealthy(pool)
    await release(pool, id)
    expect((await next.do('outliving', 'add_message', { message: 'Hi' })).turn).toBe(2)
  })
})

describe('release_hold and renew_hold', () => {
  test('refuse what is no hold, what has not begun and what is over, and say what to do', async ({
    pool,
  }) => {
    expect(await refusal(release(pool, 0))).toMatchObject({ constraint: 'operation_exists' })
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       values ('refused', 'hold', '{}'), ('refused', 'update_thread', '{"metadata": {}}') returning id`,
    )
    const [id, other] = rows.map((row) => row.id)
    expect(await refusal(release(pool, id))).toEqual({
      constraint: 'hold_has_begun',
      message: `hold ${id} is pending and does not have the thread yet`,
      hint: expect.stringContaining(`SET status = 'cancelled' WHERE id = ${id}`),
    })
    expect(await refusal(release(pool, other))).toMatchObject({
      constraint: 'operation_is_a_hold',
      message: `operation ${other} is no hold but update_thread`,
    })
    expect(await refusal(pool.query('select renew_hold($1, 99)', [id]))).toMatchObject({
      constraint: 'lease_is_a_time',
    })
    expect(await refusal(pool.query('select renew_hold($1, null)', [id]))).toMatchObject({
      constraint: 'lease_is_a_time',
    })
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
    expect(await refusal(release(pool, id))).toMatchObject({
      message: `hold ${id} is over: cancelled`,
    })
  })

  test('a second release is refused, and ends nobody else’s turn', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const first = await line.insert('twice', 'hold', {})
    const second = await line.insert('twice', 'hold', {})
    await begun(line, first)
    await release(pool, first)
    expect(await refusal(release(pool, first))).toMatchObject({ constraint: 'hold_is_not_over' })
    await begun(line, second)
    expect((await line.row(second)).status).toBe('processing')
    await release(pool, second)
  })

  test('in a transaction that is rolled back, nothing was released', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const id = await line.insert('rolled back', 'hold', {})
    await begun(line, id)
    const client = await pool.connect()
    await client.query('begin')
    await client.query('select release_hold($1)', [id])
    expect(await refusal(pool.query('select renew_hold($1, 1000)', [id]))).toMatchObject({
      constraint: 'nobody_holds_the_row',
    })
    await client.query('rollback')
    client.release()
    await release(pool, id)
    expect((await line.end(id)).status).toBe('completed')
  })

  test('an UPDATE does not end a hold that has begun, a cancel_run does', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const id = await line.insert('cancelled', 'hold', {})
    const after = await line.insert('cancelled', 'add_message', { message: 'after' })
    await begun(line, id)
    const cancelling = pool.query(
      `update thread_operations set status = 'cancelled' where id = $1`,
      [id],
    )
    expect(await refusal(cancelling)).toMatchObject({
      constraint: 'active_operation_is_not_updated',
      hint: expect.stringContaining(`'cancel_run'`),
    })
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation)
       values ('cancelled', 'cancel_run'), ('cancelled', 'cancel_run') returning id`,
    )
    expect(await line.end(id)).toMatchObject({
      status: 'cancelled',
      error: { code: 'cancelled', operation_id: Math.min(...rows.map((row) => row.id)) },
    })
    for (const row of rows)
      expect(await line.end(row.id)).toMatchObject({
        result: { outcome: 'cancelled', operation_id: id },
      })
    expect((await line.end(after)).status).toBe('completed')
    expect(line.sent('POST', messagesPath)).toHaveLength(1)
  })
})
