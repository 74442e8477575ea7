import type pg from 'pg'
import { describe, expect } from 'vitest'
import { runsPath, startLine, who } from '../operations/line.ts'
import { test } from '../support/database.ts'
import { insertRow } from '../support/line.ts'
import { withTransaction } from '../support/transaction.ts'

const events = (log: Array<Record<string, unknown>>) =>
  log.filter(({ operation_id }) => operation_id !== undefined)

describe('an operation', () => {
  test('is told in one line per event, without what was said', async ({ pool }) => {
    const failures = [{ code: 'server_error', message: 'Sorry.' } as const]
    const line = await startLine(pool, 'responses', {
      emulator: { failRun: () => failures.shift() },
    })
    const row = await line.do('logged', 'add_message_and_run', {
      message: 'reply with exactly: secret',
      ...who,
    })
    await line.do('logged', 'create_run', { assistant_id: 'asst_nobody' })
    expect(events(line.log)).toMatchObject([
      { msg: 'operation started', attempt: 1 },
      { msg: 'operation will be tried again', code: 'server_error', delay_ms: expect.any(Number) },
      { msg: 'operation started', attempt: 2 },
      { msg: 'operation completed', turn: 1, ms: expect.any(Number), run_id: row.result.run.id },
      { msg: 'operation started', turn: 2 },
      { msg: 'operation failed', code: 'assistant_not_found' },
    ])
    expect(events(line.log)[0]).toMatchObject({
      operation_id: row.id,
      thread_id: 'logged',
      operation: 'add_message_and_run',
    })
    expect(JSON.stringify(line.log)).not.toContain('secret')
  })

  test('is told with what was said where that is asked for', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { logContent: true })
    await line.do('content', 'add_message_and_run', { message: 'reply with exactly: x', ...who })
    expect(events(line.log)).toMatchObject([
      { data: { message: 'reply with exactly: x' } },
      { text: 'x' },
    ])
  })

  test('whose data is older than what is asked of it now fails and says why', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    // What lies deeper inside is not looked at before.
    const row = await line.do('old', 'update_thread', { metadata: { key: 'v'.repeat(600) } })
    expect(row).toMatchObject({ status: 'failed', error: { code: 'data_invalid' } })
    expect(row.error.message).toContain('metadata.key')
    expect(line.relay.requests).toHaveLength(0)
  })

  test.for([
    ['responses', { response_format: {} }, 'use "text" instead'],
    ['assistants', { reasoning: {} }, 'use "reasoning_effort" instead'],
    ['responses', { provider_options: { stream: false } }, 'leave it out'],
  ] as const)(
    'with a parameter that "%s" has not fails before anything is sent: %o',
    async ([name, data, words], { pool }) => {
      const line = await startLine(pool, name)
      const row = await line.do(`${name}:foreign`, 'add_message_and_run', {
        message: 'Hi',
        ...who,
        ...data,
      })
      expect(row).toMatchObject({ status: 'failed', error: { code: 'unsupported_parameter' } })
      expect(row.error.message).toContain(words)
      expect(line.relay.requests).toHaveLength(0)
    },
  )

  test.for([
    ['its own limit for runs', { run: { max_attempts: 1 } }, 1],
    ['its own limit for all errors', { max_attempts: 2 }, 2],
    ['a limit for other errors', { server: { max_attempts: 1 }, max_attempts: 3 }, 3],
    ['no limit of its own', null, 4],
  ] as const)(
    'whose run fails again and again stops at %s',
    async ([, retry, attempts], { pool }) => {
      const line = await startLine(pool, 'responses', {
        maxAttempts: 4,
        emulator: { failRun: () => ({ code: 'server_error', message: 'Sorry.' }) },
      })
      const { id } = await insertRow(pool, {
        thread_id: `limit:${attempts}`,
        operation: 'create_run',
        data: who,
        retry,
      })
      expect(await line.end(id)).toMatchObject({ status: 'failed', attempts })
    },
  )

  test('that the provider refuses fails with its words and request id', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const row = await line.do('refused', 'add_message_and_run', {
      message: 'Hi',
      ...who,
      provider_options: { nonsense: 1 },
    })
    expect(row).toMatchObject({
      status: 'failed',
      attempts: 1,
      error: {
        code: 'unknown_parameter',
        message: "Unknown parameter: 'nonsense'.",
        provider_status: 400,
        request_id: expect.stringMatching(/^req_/),
      },
    })
  })

  test('waits for a dispatcher that has settings for its provider', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { providers: ['responses'] })
    const id = await line.insert('moves away', 'create_thread', { provider: 'assistants' })
    await line.do('served here', 'add_message', { message: 'Hi' })
    expect(await line.row(id)).toMatchObject({ status: 'pending', attempts: 0 })
  })
})

describe("a user's open transaction", () => {
  test('that holds the operation delays it, and its run is started once', async ({ pool }) => {
    const line = await startLine(pool, 'assistants')
    const thread = 'held operation'
    await line.do(thread, 'create_thread', {})
    let held: Promise<void> | undefined
    const freed = Promise.withResolvers<void>()
    line.relay.loseFrom = ({ method, path }) => {
      if (method === 'POST' && runsPath.test(path)) held ??= hold(pool, id, freed.promise)
      return undefined
    }
    const id = await line.insert(thread, 'add_message_and_run', { message: 'Hi', ...who })
    await expect.poll(() => line.emulator.stats.runsStarted).toBe(1)
    const other = await line.do('not held', 'add_message_and_run', { message: 'Hi', ...who })
    expect(other.status).toBe('completed')
    freed.resolve()
    await held
    expect(await line.end(id)).toMatchObject({ status: 'completed', attempts: 1 })
    expect(await line.said(thread)).toHaveLength(2)
  })

  test('that holds the thread delays its operation, and no other', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await line.do('held thread', 'create_thread', {})
    const id = await withTransaction(pool, async (client) => {
      await client.query(`update threads set metadata = '{}' where id = 'held thread'`)
      const id = await line.insert('held thread', 'add_message', { message: 'Hi' })
      await expect.poll(async () => (await line.row(id)).progress?.message_id).toBeTruthy()
      await line.do('another', 'add_message', { message: 'Hi' })
      expect((await line.row(id)).status).toBe('processing')
      return id
    })
    expect(await line.end(id)).toMatchObject({ status: 'completed', attempts: 1 })
    expect(await line.said('held thread')).toEqual(['user: Hi'])
  })
})

const hold = (pool: pg.Pool, id: number, freed: Promise<void>) =>
  withTransaction(pool, async (client) => {
    await client.query('select from thread_operations where id = $1 for update', [id])
    await freed
  })
