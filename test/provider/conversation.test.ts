import { describe, expect, it } from 'vitest'
import type { ProviderName } from '../../src/model/thread.ts'
import { failureOf, neverStarted, options, runsPath, useProvider, who } from './use-provider.ts'

const weatherTool: Record<ProviderName, object> = {
  responses: { type: 'function', name: 'get_weather', parameters: null, strict: null },
  assistants: { type: 'function', function: { name: 'get_weather' } },
}

describe.each(['responses', 'assistants'] as const)('a conversation with "%s"', (name) => {
  const at = useProvider(name)

  it('is created, added to, run and read', async () => {
    const { provider } = at
    const { id } = await provider.createThread({ user: '42' }, options)
    expect(await provider.retrieveThread(id, options)).toEqual({ id, metadata: { user: '42' } })
    await provider.updateThread(id, { user: '43' }, options)
    expect((await provider.retrieveThread(id, options)).metadata).toEqual({ user: '43' })

    expect(await provider.lastItem(id, null, options)).toBeNull()
    const message = await provider.addMessage(id, 'My name is Ada.', '1', options)
    expect(await provider.lastItem(id, null, options)).toBe(message.id)

    const run = await at.say(id, 'What is my name?', '2')
    expect(run).toMatchObject({
      status: 'completed',
      text: 'Your name is Ada.',
      model: 'gpt-4o',
      error: null,
      incomplete_reason: null,
      tool_calls: [],
    })
    const { input_tokens, output_tokens, total_tokens } = run.usage ?? {}
    expect(output_tokens).toBeGreaterThan(0)
    expect(total_tokens).toBe((input_tokens ?? 0) + (output_tokens ?? 0))
    expect(await provider.lastItem(id, null, options)).not.toBe(message.id)
    expect(await provider.followRun(id, run.id, options)).toEqual(run)
    expect(at.emulator.history(id).map(({ role }) => role)).toEqual(['user', 'user', 'assistant'])
  })

  it('keeps the metadata of a run and adds our tag', async () => {
    const { id } = await at.provider.createThread({}, options)
    await at.say(id, 'Hi', '12', { metadata: { user: '42' } })
    const body = JSON.parse(at.sent('POST', runsPath)[0]?.body ?? '')
    expect(body).toMatchObject({ stream: true, metadata: { user: '42', inturn_operation: '12' } })
    expect(body.store).toBeUndefined()
    if (name === 'responses') expect(body).toMatchObject({ background: true, conversation: id })
  })

  it('tells how a run failed, and why one stopped early', async () => {
    const { id } = await at.provider.createThread({}, options)
    at.runFailure = { code: 'rate_limit_exceeded', message: 'Slow down.' }
    expect(await at.say(id, 'Hi', '1')).toMatchObject({
      status: 'failed',
      error: { code: 'rate_limit_exceeded', message: 'Slow down.' },
      text: null,
    })
    at.runFailure = null
    const limit = { responses: 'max_output_tokens', assistants: 'max_completion_tokens' }[name]
    const least = { responses: 16, assistants: 256 }[name]
    const message = 'Write a long story about the sea, 600 words.'
    expect(await at.say(id, message, '2', { [limit]: least })).toMatchObject({
      status: 'incomplete',
      incomplete_reason: limit,
      error: null,
      text: expect.any(String),
    })
  })

  it('waits for tool outputs, and leaves nothing open when it is left without them', async () => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    const tools = [weatherTool[name]]
    const run = await at.say(id, 'Call get_weather for Oslo.', '1', { tools })
    expect(run).toMatchObject({ status: 'requires_action', text: null })
    expect(run.tool_calls).toMatchObject([{ call_id: expect.any(String), name: 'get_weather' }])
    expect(await provider.followRun(id, run.id, options)).toEqual(run)

    if (provider.profile.callsStayOpen) {
      expect(await provider.openCalls(id, run.tool_calls, options)).toEqual(run.tool_calls)
      expect(await provider.openCalls(id, null, options)).toEqual(run.tool_calls)
      const answered = run.tool_calls.map((call) => ({ ...call, output: 'rain', is_error: false }))
      const { id: last } = await provider.answerCalls(id, answered, options)
      expect(await provider.lastItem(id, null, options)).toBe(last)
      expect(await provider.openCalls(id, run.tool_calls, options)).toEqual([])
      expect(await provider.openCalls(id, null, options)).toEqual([])
    } else {
      expect((await provider.endRun(id, run.id, options)).status).toBe('cancelled')
      expect((await provider.endRun(id, run.id, options)).status).toBe('cancelled')
    }
    expect(await at.say(id, 'reply with exactly: free', '2')).toMatchObject({ text: 'free' })
  })

  it('ends a run that is over as well', async () => {
    const { id } = await at.provider.createThread({}, options)
    const run = await at.say(id, 'Hi', '1')
    expect(await at.provider.endRun(id, run.id, options)).toEqual(run)
  })

  it('ends a run that still goes on', async () => {
    const { id } = await at.provider.createThread({}, options)
    const stop = new Error('stop')
    let runId = ''
    const onStarted = async (started: string) => {
      runId = started
      throw stop
    }
    at.thinking = new Promise(() => {})
    await expect(at.say(id, 'Hi', '1', { onStarted })).rejects.toBe(stop)
    expect(await at.provider.lookAtRun(id, runId, options)).toEqual({ isOver: false, tag: '1' })
    expect((await at.provider.endRun(id, runId, options)).status).toBe('cancelled')
    expect(await at.provider.lookAtRun(id, runId, options)).toEqual({ isOver: true, tag: '1' })
    at.thinking = undefined
    expect(await at.say(id, 'reply with exactly: free', '2')).toMatchObject({ text: 'free' })
  })

  it('reports the run that holds the thread', async () => {
    const { id } = await at.provider.createThread({}, options)
    let holder = ''
    let answer = () => {}
    at.thinking = new Promise((resolve) => {
      answer = resolve
    })
    let refused: Awaited<ReturnType<typeof failureOf>> | undefined
    await at.say(id, 'reply with exactly: first', '1', {
      onStarted: async (runId) => {
        holder = runId
        const request = { parameters: who[name] }
        refused = await failureOf(at.provider.startRun(id, request, '2', neverStarted, options))
        answer()
      },
    })
    expect(refused).toMatchObject({ decision: 'wait_for_run', status: 400 })
    if (name === 'assistants') expect(refused?.blockingRunId).toBe(holder)
  })

  it('cannot be held on a thread that the provider does not know', async () => {
    const id = { responses: `conv_${'0'.repeat(48)}`, assistants: `thread_${'0'.repeat(24)}` }[name]
    const { provider } = at
    const expected = { code: 'provider_thread_not_found', decision: 'fail', status: 404 }
    expect(await failureOf(provider.retrieveThread(id, options))).toMatchObject(expected)
    expect(await failureOf(provider.addMessage(id, 'Hi', '1', options))).toMatchObject(expected)
    expect(await failureOf(at.say(id, 'Hi', '1'))).toMatchObject(expected)
  })
})
