import { describe, expect } from 'vitest'
import type { RunFailure } from '../../src/emulator/index.ts'
import { test } from '../support/database.ts'
import { messagesPath, runsPath, startLine, who } from './line.ts'

const refused = (status: number, code: string, headers = {}) => ({
  status,
  headers,
  body: { error: { message: 'Not now.', type: 'x', param: null, code } },
})

describe.each(['responses', 'assistants'] as const)('on "%s"', (name) => {
  test.for([
    ['server_error', 2],
    ['rate_limit_exceeded', 0],
  ] as const)(
    'a run that fails with %s is run again, its message stays one',
    async ([code, failures], { pool }) => {
      const planned: RunFailure[] = [
        { code, message: 'Sorry.' },
        { code, message: 'Sorry again.' },
      ]
      const line = await startLine(pool, name, { emulator: { failRun: () => planned.shift() } })
      const thread = `${name}:${code}`
      const id = await line.insert(thread, 'add_message_and_run', {
        message: 'reply with exactly: third',
        ...who,
      })
      const next = await line.insert(thread, 'add_message', { message: 'after it' })
      const row = await line.end(id)
      expect(row).toMatchObject({
        status: 'completed',
        attempts: 3,
        failures,
        error: null,
        result: { text: 'third' },
      })
      expect(row.progress.failed_run_ids).toHaveLength(2)
      expect(row.progress.failed_run_ids).not.toContain(row.result.run.id)
      expect(line.emulator.stats.runsStarted).toBe(3)
      await line.end(next)
      expect(await line.said(thread)).toEqual([
        'user: reply with exactly: third',
        'assistant: third',
        'user: after it',
      ])
    },
  )

  test('a run that never succeeds fails its operation after the last attempt', async ({ pool }) => {
    const line = await startLine(pool, name, {
      maxAttempts: 2,
      emulator: { failRun: () => ({ code: 'server_error', message: 'Sorry.' }) },
    })
    const row = await line.do(`${name}:never`, 'add_message_and_run', { message: 'Hi', ...who })
    expect(row).toMatchObject({
      status: 'failed',
      attempts: 2,
      error: { code: 'server_error', message: 'Sorry.' },
      result: { run: { status: 'failed', id: row.progress.run_id } },
    })
    expect(line.emulator.stats.runsStarted).toBe(2)
  })

  test('a run that fails for a reason that stays is not repeated', async ({ pool }) => {
    const line = await startLine(pool, name, {
      emulator: { failRun: () => ({ code: 'invalid_prompt', message: 'No such prompt.' }) },
    })
    const row = await line.do(`${name}:stays`, 'add_message_and_run', { message: 'Hi', ...who })
    expect(row).toMatchObject({ status: 'failed', attempts: 1, error: { code: 'invalid_prompt' } })
    expect(line.emulator.stats.runsStarted).toBe(1)
  })

  test('a 429 keeps the head of the line and burns no attempt', async ({ pool }) => {
    let refusals = 3
    const line = await startLine(pool, name, {
      maxAttempts: 1,
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && /(messages|items|responses)$/.test(path) && refusals-- > 0
            ? refused(429, 'rate_limit_exceeded', { 'retry-after-ms': '5' })
            : undefined,
      },
    })
    const thread = `${name}:429`
    const first = await line.insert(thread, 'add_message_and_run', { message: 'one', ...who })
    const second = await line.insert(thread, 'add_message_and_run', { message: 'two', ...who })
    expect(await line.end(first)).toMatchObject({ status: 'completed', attempts: 4, failures: 0 })
    expect(await line.end(second)).toMatchObject({ status: 'completed', attempts: 1 })
    const said = (await line.said(thread)).filter((entry) => entry.startsWith('user'))
    expect(said).toEqual(['user: one', 'user: two'])
  })

  test('a 429 after the message has been added does not add it again', async ({ pool }) => {
    let refusals = 2
    const line = await startLine(pool, name, {
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && /(runs|responses)$/.test(path) && refusals-- > 0
            ? refused(429, 'rate_limit_exceeded')
            : undefined,
      },
    })
    const thread = `${name}:429 run`
    const row = await line.do(thread, 'add_message_and_run', { message: 'one', ...who })
    expect(row).toMatchObject({ status: 'completed', attempts: 3 })
    expect(line.sent('POST', messagesPath)).toHaveLength(name === 'responses' ? 0 : 1)
    expect(line.sent('POST', runsPath)).toHaveLength(3)
    expect(await line.said(thread)).toHaveLength(2)
  })

  test('a bad key or an empty account lets the operation wait', async ({ pool }) => {
    const line = await startLine(pool, name, {
      maxAttempts: 1,
      emulator: { onRequest: () => refused(401, 'invalid_api_key') },
    })
    const id = await line.insert(`${name}:key`, 'add_message', { message: 'Hi' })
    const row = await line.waiting(id, 'invalid_api_key')
    expect(row).toMatchObject({ status: 'pending', failures: 0, intent: null })
    expect(row.error).toMatchObject({ provider_status: 401, request_id: expect.any(String) })
  })

  test('a server error counts, and the operation fails after the last attempt', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, {
      maxAttempts: 3,
      emulator: { onRequest: ({ method }) => (method === 'POST' ? refused(500, '') : undefined) },
    })
    const row = await line.do(`${name}:500`, 'add_message', { message: 'Hi' })
    expect(row).toMatchObject({
      status: 'failed',
      attempts: 3,
      failures: 2,
      error: { code: 'provider_error', provider_status: 500 },
    })
  })

  test('a run that somebody cancels ends its operation as cancelled', async ({ pool }) => {
    const line = await startLine(pool, name, {
      emulator: { model: () => new Promise(() => {}) },
    })
    const thread = `${name}:cancelled`
    const id = await line.insert(thread, 'add_message_and_run', { message: 'Hi', ...who })
    await expect.poll(async () => (await line.row(id)).progress?.run_id).toBeTruthy()
    const { provider_thread_id } = await line.thread(thread)
    const { run_id } = (await line.row(id)).progress
    const path = name === 'responses' ? '/responses' : `/threads/${provider_thread_id}/runs`
    await fetch(`${line.emulator.url}${path}/${run_id}/cancel`, {
      method: 'POST',
      headers: { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' },
    })
    expect(await line.end(id)).toMatchObject({
      status: 'cancelled',
      error: { code: 'run_cancelled' },
      result: { run: { id: run_id, status: 'cancelled' } },
    })
  })
})

test('a run that expires fails its operation', async ({ pool }) => {
  const line = await startLine(pool, 'assistants', {
    emulator: { model: () => new Promise(() => {}), runExpiresMs: 50 },
  })
  const row = await line.do('expires', 'add_message_and_run', { message: 'Hi', ...who })
  expect(row).toMatchObject({ status: 'failed', error: { code: 'run_expired' } })
})
