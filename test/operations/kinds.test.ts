import { describe, expect } from 'vitest'
import { defaultModel } from '../../src/emulator/index.ts'
import { test } from '../support/database.ts'
import { startLine, who } from './line.ts'

describe.each(['responses', 'assistants'] as const)('an operation on "%s"', (name) => {
  test('creates the provider thread with the first message, and the row tells its ids', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const row = await line.do(`${name}:add`, 'add_message', { message: 'Hi' })
    const { provider_thread_id, message_id } = row.result
    expect(row).toMatchObject({ status: 'completed', turn: 1, error: null, intent: null })
    expect(provider_thread_id).toMatch(name === 'responses' ? /^conv_/ : /^thread_/)
    expect(await line.thread(`${name}:add`)).toMatchObject({
      provider: name,
      provider_thread_id,
      last_item_id: message_id,
    })
    expect(await line.said(`${name}:add`)).toEqual(['user: Hi'])
  })

  test('runs over what stands in the thread, and the row tells the answer', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:run`
    await line.insert(thread, 'add_message', { message: { content: 'My name is Ada.' } })
    await line.insert(thread, 'add_message', { message: 'What is my name?' })
    const row = await line.do(thread, 'create_run', who)
    expect(row).toMatchObject({
      status: 'completed',
      turn: 3,
      result: {
        run: { status: 'completed', model: 'gpt-4o', incomplete_reason: null },
        text: 'Your name is Ada.',
        usage: { total_tokens: expect.any(Number) },
      },
    })
    expect(row.result.run.id).toBe(row.progress.run_id)
    const last = line.emulator.history(row.result.provider_thread_id).at(-1)
    expect(await line.thread(thread)).toMatchObject({ last_item_id: last?.id })
  })

  test('adds its message and runs, turn after turn in the order of the line', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:both`
    const ids: number[] = []
    for (let n = 1; n <= 5; n++)
      ids.push(
        await line.insert(thread, 'add_message_and_run', {
          message: `reply with exactly: ${n}`,
          ...who,
        }),
      )
    const rows = await Promise.all(ids.map((id) => line.end(id)))
    expect(rows.map(({ turn, result }) => [turn, result.text])).toEqual(
      [1, 2, 3, 4, 5].map((n) => [n, `${n}`]),
    )
    expect(await line.said(thread)).toEqual(
      [1, 2, 3, 4, 5].flatMap((n) => [`user: reply with exactly: ${n}`, `assistant: ${n}`]),
    )
    expect(line.emulator.stats.conflicts).toBe(0)
    const isRead = /(items|messages)\?/
    expect(line.sent('GET', isRead)).toHaveLength(0)
  })

  test('passes its parameters on in their own names', async ({ pool }) => {
    const line = await startLine(pool, name)
    const row = await line.do(`${name}:parameters`, 'add_message_and_run', {
      message: 'Hi',
      ...who,
      instructions: 'reply with exactly: as told',
      temperature: 0.5,
      metadata: { order: '7' },
      provider_options: { top_p: 0.9 },
    })
    expect(row.result.text).toBe('as told')
    const body = JSON.parse(line.sent('POST', /\/(runs|responses)$/)[0]?.body ?? '')
    expect(body).toMatchObject({
      temperature: 0.5,
      top_p: 0.9,
      metadata: { order: '7', inturn_operation: String(row.id) },
    })
    expect(body).not.toHaveProperty('provider_options')
  })

  test('gives the thread its metadata, and replaces it', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:metadata`
    const created = await line.do(thread, 'create_thread', {
      metadata: { plan: 'free', since: '1' },
    })
    const id = created.result.provider_thread_id
    const options = { signal: new AbortController().signal, timeoutMs: 5_000 }
    const atProvider = async () =>
      (await line.providers[name]?.retrieveThread(id, options))?.metadata
    expect(await atProvider()).toEqual({ plan: 'free', since: '1' })
    expect((await line.thread(thread)).metadata).toEqual({ plan: 'free', since: '1' })

    const updated = await line.do(thread, 'update_thread', { metadata: { plan: 'pro' } })
    expect(updated).toMatchObject({ status: 'completed', result: { provider_thread_id: id } })
    const whole = name === 'responses' ? await atProvider() : { plan: 'pro' }
    expect(whole).toEqual({ plan: 'pro' })
    expect((await line.thread(thread)).metadata).toEqual({ plan: 'pro' })
  })

  test('that creates a thread twice finds the first one', async ({ pool }) => {
    const line = await startLine(pool, name)
    const first = await line.do(`${name}:twice`, 'create_thread', { provider: name })
    const second = await line.do(`${name}:twice`, 'create_thread', { metadata: { a: 'b' } })
    expect(second).toMatchObject({ status: 'completed', result: first.result })
    expect(line.sent('POST', /\/(threads|conversations)$/)).toHaveLength(1)
  })

  test('is complete when its run stopped before its end, and says so', async ({ pool }) => {
    const line = await startLine(pool, name)
    const limit = name === 'responses' ? { max_output_tokens: 16 } : { max_completion_tokens: 256 }
    const row = await line.do(`${name}:incomplete`, 'add_message_and_run', {
      message: 'Write a very long story of 1000 words.',
      ...who,
      ...limit,
    })
    expect(row).toMatchObject({ status: 'completed', result: { run: { status: 'incomplete' } } })
    expect(row.result.run.incomplete_reason).toMatch(/^max_/)
    const next = await line.do(`${name}:incomplete`, 'add_message', { message: 'and on' })
    expect(next.status).toBe('completed')
  })

  test('waits for a run that somebody else has started, and burns no attempt', async ({ pool }) => {
    const answer = Promise.withResolvers<void>()
    const line = await startLine(pool, name, {
      maxAttempts: 1,
      emulator: {
        model: async (request) => {
          await answer.promise
          return defaultModel(request)
        },
      },
    })
    const thread = `${name}:foreign`
    const { result } = await line.do(thread, 'add_message', { message: 'Hi' })
    const foreign = line.providers[name]?.startRun(
      result.provider_thread_id,
      { parameters: name === 'responses' ? { model: 'gpt-4o' } : who },
      'foreign',
      async () => {},
      { signal: new AbortController().signal, timeoutMs: 5_000 },
    )
    await expect.poll(() => line.emulator.stats.runsStarted).toBe(1)
    const id = await line.insert(thread, 'add_message_and_run', { message: 'Me too', ...who })
    const later = await line.insert(thread, 'add_message', { message: 'Me last' })
    await line.waiting(id, name === 'responses' ? 'conversation_locked' : 'thread_busy')
    expect((await line.row(later)).status).toBe('pending')
    answer.resolve()
    await foreign
    expect(await line.end(id)).toMatchObject({ status: 'completed', failures: 0 })
    await line.end(later)
    expect((await line.said(thread)).filter((entry) => entry.startsWith('user'))).toEqual([
      'user: Hi',
      'user: Me too',
      'user: Me last',
    ])
  })
})
