import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { asLine } from '../support/line.ts'
import { type Line, loseFirstAnswer, messagesPath, startLine } from './line.ts'

/** Requests that change the metadata of a thread, and those that add a message. */
const routes = {
  responses: { update: 'conversations.update', add: 'items.create' },
  assistants: { update: 'threads.update', add: 'messages.create' },
} as const

const metadataOf = async (line: Line, name: 'responses' | 'assistants', thread: string) => {
  const { provider_thread_id } = await line.thread(thread)
  const options = { signal: new AbortController().signal, timeoutMs: 5_000 }
  return (await line.providers[name]?.retrieveThread(provider_thread_id, options))?.metadata
}

/** Changes the intent of a waiting operation, which is then looked at at once. */
const change = (pool: pg.Pool, id: number, facts: object) =>
  asLine(pool, (client) =>
    client.query(
      `update thread_operations set intent = intent || $2, ready_at = clock_timestamp() where id = $1`,
      [id, facts],
    ),
  )

describe.each(['responses', 'assistants'] as const)('a call of unknown outcome on "%s"', (name) => {
  const { add, update } = routes[name]
  const neverArrives = { name: 'reset_before_commit', on: add, times: 1 } as const

  test('is not sent again before its deadline and the settle time are over, as the ledger shows', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { settleMs: 300, callTimeoutMs: 300 })
    const thread = `${name}:settles`
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([neverArrives])
    const row = await line.do(thread, 'add_message', { message: 'Hi' })
    expect(row).toMatchObject({ status: 'completed', failures: 1 })
    expect(await line.said(thread)).toEqual(['user: Hi'])
    const [lost, ...waits] = await line.ledger(row.id)
    expect(lost).toMatchObject({ to_status: 'pending', code: 'connection_lost' })
    expect(waits.length).toBeGreaterThan(0)
    const settles = waits.map(({ code, detail }) => {
      expect([code, detail.call]).toEqual(['outcome_unknown', 'add_message'])
      return Date.parse(detail.settles_at)
    })
    // Each look comes to the same moment, by the database's clock alone.
    expect(Math.max(...settles) - Math.min(...settles)).toBeLessThan(50)
    const { rows } = await pool.query('select finished_at from thread_operations where id = $1', [
      row.id,
    ])
    expect(rows[0].finished_at.getTime()).toBeGreaterThanOrEqual(Math.min(...settles))
  })

  test('is found where the provider carries it out when nobody waits for it any more', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { settleMs: 1_000, callTimeoutMs: 200 })
    const thread = `${name}:late`
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([{ name: 'late_commit', on: add, ms: 500, times: 1 }])
    const row = await line.do(thread, 'add_message', { message: 'Hi' })
    expect(row).toMatchObject({ status: 'completed', failures: 1 })
    expect(line.sent('POST', messagesPath)).toHaveLength(1)
    expect(await line.said(thread)).toEqual(['user: Hi'])
    expect((await line.ledger(row.id))[0]).toMatchObject({ code: 'provider_timeout' })
  })

  test('is found however long reads lag within the settle time', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 1_500, callTimeoutMs: 200 })
    const thread = `${name}:lag`
    await line.do(thread, 'add_message', { message: 'Hi' })
    line.emulator.setFaults([
      { name: 'read_lag', on: 'list', ms: 1_000 },
      { name: 'server_error_after_commit', on: add, times: 1 },
    ])
    expect((await line.do(thread, 'add_message', { message: 'Hi' })).status).toBe('completed')
    expect(await line.said(thread)).toEqual(['user: Hi', 'user: Hi'])
  })

  test('does not wait for a clock that was set back', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 200, callTimeoutMs: 200 })
    const thread = `${name}:clock`
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([neverArrives])
    const id = await line.insert(thread, 'add_message', { message: 'Hi' })
    await line.waiting(id, 'outcome_unknown')
    await change(pool, id, { at: new Date(Date.now() + 3_600_000).toISOString() })
    expect((await line.end(id)).status).toBe('completed')
    expect(await line.said(thread)).toEqual(['user: Hi'])
  })

  test('is for an operator to judge where its kind is to be held', async ({ pool }) => {
    const line = await startLine(pool, name, { callTimeoutMs: 200, holdUnknown: ['add_message'] })
    const thread = `${name}:held`
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([neverArrives])
    const id = await line.insert(thread, 'add_message', { message: 'Hi' })
    const behind = await line.insert(thread, 'add_message', { message: 'behind it' })
    await expect
      .poll(async () => (await line.row(id)).error?.message)
      .toMatch(
        new RegExp(
          `\`inturn resume "${thread}"\` sends it again; cancelling operation ${id} gives`,
        ),
      )
    expect(await line.row(id)).toMatchObject({
      status: 'pending',
      ready_at: new Date('9999-01-01T00:00:00Z'),
      error: { code: 'outcome_unknown', call: 'add_message' },
    })
    expect(line.sent('POST', messagesPath)).toHaveLength(1)

    await change(pool, id, { resend: true })
    expect((await line.end(id)).status).toBe('completed')
    expect((await line.end(behind)).status).toBe('completed')
    expect(await line.said(thread)).toEqual(['user: Hi', 'user: behind it'])
  })

  test('is looked for once more when the operator has it sent again', async ({ pool }) => {
    const line = await startLine(pool, name, {
      settleMs: 60_000,
      callTimeoutMs: 200,
      holdUnknown: ['add_message'],
    })
    const thread = `${name}:found after all`
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([
      { name: 'read_lag', on: 'list', ms: 3_600_000 },
      { name: 'server_error_after_commit', on: add, times: 1 },
    ])
    const id = await line.insert(thread, 'add_message', { message: 'Hi' })
    await line.waiting(id, 'outcome_unknown')
    line.emulator.setFaults([])
    await change(pool, id, { resend: true })
    expect((await line.end(id)).status).toBe('completed')
    expect(await line.said(thread)).toEqual(['user: Hi'])
  })

  test('on the last attempt is looked for before the operation is given up', async ({ pool }) => {
    const line = await startLine(pool, name, { maxAttempts: 1, callTimeoutMs: 200 })
    const thread = `${name}:last attempt`
    await line.do(thread, 'create_thread', {})
    loseFirstAnswer(line.relay, 'POST', messagesPath)
    const row = await line.do(thread, 'add_message', { message: 'Hi' })
    expect(row).toMatchObject({ status: 'completed', failures: 1 })

    line.emulator.setFaults([{ ...neverArrives, times: undefined }])
    const lost = await line.do(thread, 'add_message', { message: 'Never' })
    expect(lost).toMatchObject({
      status: 'failed',
      error: { code: 'outcome_unknown', call: 'add_message' },
    })
    line.emulator.setFaults([])
    await line.do(thread, 'add_message', { message: 'Next' })
    expect(await line.said(thread)).toEqual(['user: Hi', 'user: Next'])
    expect(line.sent('POST', messagesPath)).toHaveLength(3)
  })

  test('that overwrites metadata cannot undo what a later operation writes', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 500, callTimeoutMs: 200 })
    const thread = `${name}:metadata`
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([{ name: 'late_commit', on: update, ms: 500, times: 1 }])
    const first = await line.insert(thread, 'update_thread', { metadata: { plan: 'free' } })
    const row = await line.do(thread, 'update_thread', { metadata: { plan: 'pro' } })
    expect(row).toMatchObject({ status: 'completed', failures: 0 })
    expect(await line.row(first)).toMatchObject({ status: 'completed', failures: 1, intent: null })
    expect((await line.ledger(first)).map(({ code }) => code)).toContain('outcome_unknown')
    expect(await metadataOf(line, name, thread)).toEqual({ plan: 'pro' })
  })

  test('that adopts a thread with new metadata is journaled as well', async ({ pool }) => {
    const line = await startLine(pool, name, { callTimeoutMs: 200 })
    const thread = `${name}:adopted`
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([{ name: 'reset_after_commit', on: update, times: 1 }])
    const row = await line.do(thread, 'create_thread', { metadata: { plan: 'pro' } })
    expect(row).toMatchObject({ status: 'completed', failures: 1 })
    expect((await line.ledger(row.id)).at(-1)).toMatchObject({
      code: 'outcome_unknown',
      detail: { call: 'update_thread' },
    })
    expect(await metadataOf(line, name, thread)).toEqual({ plan: 'pro' })
  })
})
