import { describe, expect } from 'vitest'
import { runPath } from '../provider/use-provider.ts'
import { test } from '../support/database.ts'
import { runsPath, startLine, who } from './line.ts'

describe.each(['responses', 'assistants'] as const)('with reads of "%s" that lag', (name) => {
  const retrieval = name === 'responses' ? 'conversations.retrieve' : 'threads.retrieve'
  const run = name === 'responses' ? 'responses.retrieve' : 'runs.retrieve'
  const ask = { message: 'reply with exactly: here', ...who }

  test('a thread that is known is waited for, and burns no attempt', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 2_000, maxAttempts: 1 })
    line.emulator.setFaults([{ name: 'read_lag', on: retrieval, ms: 500 }])
    const thread = `${name}:known`
    const first = await line.do(thread, 'create_thread', {})
    const again = await line.do(thread, 'create_thread', {})
    expect(again).toMatchObject({ status: 'completed', failures: 0, result: first.result })
    expect((await line.ledger(again.id))[0]).toMatchObject({
      to_status: 'pending',
      code: 'provider_thread_not_found',
      detail: { provider_status: 404 },
    })
  })

  test('a thread is not taken for gone, nor another one put in its place', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 2_000 })
    line.emulator.setFaults([{ name: 'read_lag', on: retrieval, ms: 500 }])
    const thread = `${name}:in its place`
    const { result } = await line.do(thread, 'create_thread', {})
    const other = await line.do(`${name}:other`, 'create_thread', {})
    const { provider_thread_id } = other.result
    const adopted = await line.do(thread, 'create_thread', { provider: name, provider_thread_id })
    expect(adopted).toMatchObject({ error: { code: 'thread_has_provider_thread' } })
    expect((await line.thread(thread)).provider_thread_id).toBe(result.provider_thread_id)
  })

  test('a thread that stays unknown fails its operation after the settle time', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { settleMs: 300 })
    line.emulator.setFaults([{ name: 'read_lag', on: retrieval, ms: 3_600_000 }])
    const thread = `${name}:stays unknown`
    await line.do(thread, 'create_thread', {})
    const row = await line.do(thread, 'create_thread', {})
    expect(row).toMatchObject({
      status: 'failed',
      failures: 0,
      error: { code: 'provider_thread_not_found', provider_status: 404 },
    })
    expect(row.attempts).toBeGreaterThan(1)
  })

  test('a run whose stream breaks is followed, though it cannot be read for a while', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { settleMs: 2_000, maxAttempts: 1 })
    line.emulator.setFaults([
      { name: 'read_lag', on: run, ms: 500 },
      { name: 'replay_gone' },
      {
        name: 'stream_cut',
        on: name === 'responses' ? 'responses.create' : 'runs.create',
        event: 1,
      },
    ])
    const row = await line.do(`${name}:follows`, 'add_message_and_run', ask)
    expect(row).toMatchObject({ status: 'completed', attempts: 1, result: { text: 'here' } })
    expect(line.sent('POST', runsPath)).toHaveLength(1)
    expect(line.sent('GET', runPath).length).toBeGreaterThan(1)
  })

  test.for([0, 1, 2, 3, 5, 8])(
    'a stream that ends silently before its event %i costs nothing',
    async (event, { pool }) => {
      const line = await startLine(pool, name, { settleMs: 700, callTimeoutMs: 300 })
      line.emulator.setFaults([
        { name: 'read_lag', on: 'retrieve', ms: 300 },
        { name: 'read_lag', on: 'list', ms: 300 },
        { name: 'stream_cut', event, silently: true, times: 1 },
      ])
      const thread = `${name}:cut ${event}`
      const row = await line.do(thread, 'add_message_and_run', ask)
      expect(row).toMatchObject({ status: 'completed', result: { text: 'here' } })
      expect(line.emulator.stats).toMatchObject({ runsStarted: 1 })
      expect(await line.said(thread)).toEqual(['user: reply with exactly: here', 'assistant: here'])
    },
  )

  test('the last known item of a thread never becomes an older one', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 100, maxAttempts: 1 })
    const thread = `${name}:lower bound`
    const { result } = await line.do(thread, 'add_message', { message: 'Hi' })
    line.emulator.setFaults([
      { name: 'read_lag', on: 'list', ms: 3_600_000 },
      { name: 'run_fails', code: 'invalid_prompt' },
    ])
    const failed = await line.do(thread, 'create_run', who)
    expect(failed.status).toBe('failed')
    expect((await line.thread(thread)).last_item_id).toBe(result.message_id)
    const { result: second } = await line.do(thread, 'add_message', { message: 'Hi' })
    expect((await line.thread(thread)).last_item_id).toBe(second.message_id)
  })
})
