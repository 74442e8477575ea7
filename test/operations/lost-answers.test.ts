import { describe, expect } from 'vitest'
import { defaultModel } from '../../src/emulator/index.ts'
import { test } from '../support/database.ts'
import { Line, loseFirstAnswer, messagesPath, runsPath, startLine, who } from './line.ts'

describe.each(['responses', 'assistants'] as const)('a lost answer of "%s"', (name) => {
  test('to a message does not add it again, nor takes an equal one for it', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:message`
    await line.do(thread, 'add_message', { message: 'ok' })
    await line.secondIsOver(thread)
    loseFirstAnswer(line.relay, 'POST', messagesPath)
    const row = await line.do(thread, 'add_message', { message: 'ok' })
    expect(row).toMatchObject({ status: 'completed', attempts: 2, failures: 1, intent: null })
    expect(line.sent('POST', messagesPath)).toHaveLength(2)
    expect(await line.said(thread)).toEqual(['user: ok', 'user: ok'])
    const { provider_thread_id, message_id } = row.result
    expect(line.emulator.history(provider_thread_id).at(-1)?.id).toBe(message_id)
  })

  test('to a message that never arrived lets it be sent, once reads can be trusted', async ({
    pool,
  }) => {
    let resets = 1
    const line = await startLine(pool, name, {
      settleMs: 300,
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && messagesPath.test(path) && resets-- > 0 ? 'reset' : undefined,
      },
    })
    const thread = `${name}:never arrived`
    const id = await line.insert(thread, 'add_message', { message: 'Hi' })
    expect(await line.waiting(id, 'outcome_unknown')).toMatchObject({
      status: 'pending',
      failures: 1,
      intent: { call: 'add_message', after: null },
    })
    expect(await line.end(id)).toMatchObject({ status: 'completed', failures: 1 })
    expect(await line.said(thread)).toEqual(['user: Hi'])
  })

  test.for([0, 2_000])(
    'to a run that goes on makes nobody start another (reads lag %i ms)',
    async (settleMs, { pool }) => {
      const answer = Promise.withResolvers<void>()
      const line = await startLine(pool, name, {
        settleMs,
        emulator: {
          model: async (request) => {
            await answer.promise
            return defaultModel(request)
          },
        },
      })
      const thread = `${name}:run ${settleMs}`
      loseFirstAnswer(line.relay, 'POST', runsPath)
      const id = await line.insert(thread, 'add_message_and_run', {
        message: 'reply with exactly: once',
        ...who,
      })
      if (name === 'responses')
        await line.waiting(id, settleMs > 0 ? 'outcome_unknown' : 'conversation_locked')
      answer.resolve()
      const row = await line.end(id)
      expect(row).toMatchObject({ status: 'completed', failures: 1, result: { text: 'once' } })
      expect(line.emulator.stats.runsStarted).toBe(1)
      expect(await line.said(thread)).toEqual(['user: reply with exactly: once', 'assistant: once'])
      expect(row.result.run).toMatchObject(
        name === 'responses' ? { id: null, status: 'completed' } : { id: row.progress.run_id },
      )
      const next = await line.do(thread, 'add_message_and_run', { message: 'go on', ...who })
      expect(next).toMatchObject({ status: 'completed', attempts: 1 })
    },
  )

  test('to a run without a message of its own is found as well', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:bare run`
    await line.do(thread, 'add_message', { message: 'reply with exactly: bare' })
    loseFirstAnswer(line.relay, 'POST', runsPath)
    const row = await line.do(thread, 'create_run', who)
    expect(row).toMatchObject({ status: 'completed', result: { text: 'bare' } })
    expect(await line.said(thread)).toEqual(['user: reply with exactly: bare', 'assistant: bare'])
    expect(line.emulator.stats.runsStarted).toBe(1)
  })

  test('to the run that replaces a failed one does not revive that', async ({ pool }) => {
    const failures = [{ code: 'server_error', message: 'Sorry.' } as const]
    const line = await startLine(pool, name, { emulator: { failRun: () => failures.shift() } })
    const thread = `${name}:second run`
    line.relay.loseFrom = ({ method, path }) =>
      method === 'POST' && runsPath.test(path) && line.sent('POST', runsPath).length === 2
        ? ''
        : undefined
    const row = await line.do(thread, 'add_message_and_run', {
      message: 'reply with exactly: well',
      ...who,
    })
    expect(row).toMatchObject({ status: 'completed', result: { text: 'well' } })
    expect(await line.said(thread)).toEqual(['user: reply with exactly: well', 'assistant: well'])
  })

  test('to the creation of the thread leaves an empty one behind and no more', async ({ pool }) => {
    const line = await startLine(pool, name)
    loseFirstAnswer(line.relay, 'POST', /\/(threads|conversations)$/)
    const row = await line.do(`${name}:creation`, 'add_message', { message: 'Hi' })
    expect(row.status).toBe('completed')
    expect(await line.said(`${name}:creation`)).toEqual(['user: Hi'])
  })

  test('of a dispatcher that had to stop is awaited by the next, which follows its run', async ({
    pool,
  }) => {
    const answer = Promise.withResolvers<void>()
    const line = await startLine(pool, name, {
      emulator: {
        model: async (request) => {
          await answer.promise
          return defaultModel(request)
        },
      },
    })
    const thread = `${name}:handed on`
    const id = await line.insert(thread, 'add_message_and_run', {
      message: 'reply with exactly: handed on',
      ...who,
    })
    await expect.poll(async () => (await line.row(id)).progress?.run_id).toBeTruthy()
    await line.dispatcher.stop()
    const { status, progress } = await line.row(id)
    expect(status).toBe('processing')

    const successor = new Line(pool, name, line.emulator, line.relay, {})
    await successor.dispatcher.start()
    try {
      await expect.poll(async () => (await line.row(id)).attempts).toBe(2)
      answer.resolve()
      expect(await successor.end(id)).toMatchObject({
        status: 'completed',
        result: { run: { id: progress.run_id }, text: 'handed on' },
      })
    } finally {
      await successor.dispatcher.stop()
    }
    expect(line.emulator.stats).toMatchObject({ runsStarted: 1, conflicts: 0 })
  })
})

test.for([
  ['responses', 7],
  ['responses', 11],
  ['assistants', 7],
  ['assistants', 11],
] as const)(
  'whatever answers of "%s" are lost, everything is there once and in order (seed %i)',
  async ([name, seed], { pool }) => {
    const line = await startLine(pool, name, { maxAttempts: 100 })
    const random = seeded(seed)
    const markers = ['', 'event: ', '"in_progress"', 'delta']
    // A third of them.
    line.relay.loseFrom = () => markers[Math.floor(random() * 12)]
    const threads = [1, 2, 3].map((n) => `${name}:${seed}:${n}`)
    const ids: number[] = []
    for (let n = 1; n <= 6; n++)
      for (const thread of threads)
        ids.push(
          n % 3 === 0
            ? await line.insert(thread, 'add_message', { message: 'ok' })
            : await line.insert(thread, 'add_message_and_run', {
                message: 'reply with exactly: fine',
                ...who,
              }),
        )
    for (const id of ids) expect((await line.end(id)).status).toBe('completed')
    const turn = ['user: reply with exactly: fine', 'assistant: fine']
    const once = [...turn, ...turn, 'user: ok', ...turn, ...turn, 'user: ok']
    for (const thread of threads) expect(await line.said(thread)).toEqual(once)
  },
)

/** Numbers from 0 to 1 that come in the same order for the same seed (a linear congruence). */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
}

test('a failed response that has kept its input is repeated without it', async ({ pool }) => {
  const failures = [{ code: 'server_error', message: 'Sorry.' } as const]
  let kept = false
  const line = await startLine(pool, 'responses', {
    emulator: {
      failRun: () => failures.shift(),
      // Nobody documents what becomes of the input of a failed response: here it stays.
      onRequest: async ({ method, path }) => {
        if (kept || method !== 'GET' || !messagesPath.test(path)) return undefined
        kept = true
        await fetch(line.emulator.url.replace('/v1', path), {
          method: 'POST',
          headers: { authorization: 'Bearer any', 'content-type': 'application/json' },
          body: JSON.stringify({
            items: [{ type: 'message', role: 'user', content: 'reply with exactly: kept' }],
          }),
        })
        return undefined
      },
    },
  })
  const row = await line.do('kept', 'add_message_and_run', {
    message: 'reply with exactly: kept',
    ...who,
  })
  expect(row).toMatchObject({ status: 'completed', result: { text: 'kept' } })
  expect(await line.said('kept')).toEqual(['user: reply with exactly: kept', 'assistant: kept'])
})

test('a function call of a response whose answer was lost is answered for it', async ({ pool }) => {
  const line = await startLine(pool, 'responses', { toolDeadlineMs: 1, onToolDeadline: 'cancel' })
  loseFirstAnswer(line.relay, 'POST', runsPath)
  const parameters = { type: 'object', properties: {} }
  const row = await line.do('lost call', 'add_message_and_run', {
    message: 'Call get_weather.',
    ...who,
    tools: [{ type: 'function', name: 'get_weather', strict: false, parameters }],
  })
  expect(row).toMatchObject({ status: 'failed', error: { code: 'tool_deadline' } })
  const next = await line.do('lost call', 'add_message_and_run', { message: 'Hi', ...who })
  expect(next.status).toBe('completed')
})
