import { describe, expect, it } from 'vitest'
import type { Trace } from '../../src/provider/provider.ts'
import { failureOf, options, useProvider } from './use-provider.ts'

type Item = { type: string; [field: string]: unknown }

const user = (content: string): Item => ({ type: 'message', role: 'user', content })
const assistant = (content: string): Item => ({ type: 'message', role: 'assistant', content })
const call = (n: number): Item => ({
  type: 'function_call',
  call_id: `call_${n}`,
  name: 'get_weather',
  arguments: '{}',
})
const output = (n: number): Item => ({
  type: 'function_call_output',
  call_id: `call_${n}`,
  output: '',
})

describe('what stands of a response whose id was lost', () => {
  const at = useProvider('responses')

  /** The trace that a run leaves in a conversation in which these items have come after "before". */
  async function traceOf(
    items: Item[],
    { message, input }: { message?: string; input?: Item[] },
  ): Promise<{ trace: Trace; ids: string[] }> {
    const { provider, emulator } = at
    const { id } = await provider.createThread({}, options)
    const before = await provider.addMessage(id, 'M', '0', options)
    const added = items.length === 0 ? [] : await add(emulator.url, id, items)
    const request = {
      parameters: { model: 'gpt-4o', input },
      ...(message && { messages: [message] }),
    }
    const trace = await provider.findAnswer(id, before.id, request, options)
    return { trace, ids: added.map((item) => item.id) }
  }

  async function add(url: string, id: string, items: Item[]): Promise<Array<{ id: string }>> {
    const answer = await fetch(`${url}/conversations/${id}/items`, {
      method: 'POST',
      headers: { authorization: 'Bearer any', 'content-type': 'application/json' },
      body: JSON.stringify({ items }),
    })
    const { data } = (await answer.json()) as { data: Array<{ id: string }> }
    return data
  }

  it.each([
    ['its message and what follows', [user('M'), assistant('A')], 'A'],
    ['not what others say later', [user('M'), assistant('A'), user('X'), assistant('B')], 'A'],
    ['not what others said before', [user('X'), assistant('B'), user('M'), assistant('A')], 'A'],
    ['all that it wrote', [user('M'), assistant('A'), assistant('B'), user('X')], 'A\nB'],
  ])('with a message: %s', async (_what, items, text) => {
    const { trace, ids } = await traceOf(items, { message: 'M' })
    const messageId = ids[items.findIndex((item) => item.content === 'M')]
    expect(trace).toMatchObject({ found: 'run', messageId, run: { id: null, text } })
  })

  it.each([
    ['nothing at all', [], 'nothing'],
    ['only what others say', [user('X'), assistant('B')], 'nothing'],
    ['its message alone', [user('M')], 'message'],
    ['its message, then others', [user('M'), user('X'), assistant('B')], 'message'],
    ['the same words twice', [user('M'), assistant('A'), user('M'), assistant('A')], 'ambiguous'],
  ])('with a message: %s', async (_what, items, found) => {
    expect((await traceOf(items, { message: 'M' })).trace.found).toBe(found)
  })

  it.each([
    ['what stands at once', [assistant('A'), user('X'), assistant('B')], 'run'],
    ['nothing at all', [], 'nothing'],
    ['only what others have said', [user('X'), user('Y')], 'nothing'],
    ['what may be an answer to others', [user('X'), assistant('B')], 'ambiguous'],
  ])('without a message: %s', async (_what, items, found) => {
    const { trace } = await traceOf(items, {})
    expect(trace.found).toBe(found)
    if (trace.found === 'run') expect(trace).toMatchObject({ messageId: null, run: { text: 'A' } })
  })

  it('is behind all its input, of whatever kind', async () => {
    const input = [output(1), user('more')]
    const items = [call(1), user('M'), ...input, assistant('A')]
    const asked = await traceOf(items, { message: 'M', input })
    expect(asked.trace).toMatchObject({ found: 'run', run: { text: 'A' } })
    const bare = await traceOf(items, { input })
    expect(bare.trace).toMatchObject({ found: 'run', run: { text: 'A' } })
    const cut = await traceOf(items.slice(0, 3), { message: 'M', input })
    expect(cut.trace).toEqual({ found: 'nothing' })
  })

  it('waits for outputs, also when somebody has given them since', async () => {
    const items = [user('M'), call(1), call(2), output(1), output(2), user('X')]
    const { trace } = await traceOf(items, { message: 'M' })
    expect(trace).toMatchObject({
      found: 'run',
      run: {
        status: 'requires_action',
        tool_calls: [{ call_id: 'call_1' }, { call_id: 'call_2' }],
      },
    })
  })

  it('comes only when the conversation is free, which a request tells that has no effect', async () => {
    const { provider, emulator } = at
    const { id } = await provider.createThread({}, options)
    const isBusy = () => provider.isBusy(id, { model: 'gpt-4o' }, options)
    expect(await isBusy()).toBe(false)
    const held = Promise.withResolvers<void>()
    at.thinking = held.promise
    const run = at.say(id, 'reply with exactly: A', '1')
    await expect.poll(isBusy).toBe(true)
    held.resolve()
    expect((await run).status).toBe('completed')
    expect(await isBusy()).toBe(false)
    expect(emulator.stats.runsStarted).toBe(1)
    expect(emulator.history(id)).toHaveLength(2)
  })

  it('cannot be asked for while the provider does not answer', async () => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    at.intercept = ({ path }) =>
      path.endsWith('/responses') ? { status: 503, body: {}, headers: {} } : undefined
    const failure = await failureOf(provider.isBusy(id, { model: 'gpt-4o' }, options))
    expect(failure).toMatchObject({ status: 503 })
  })

  it('is not left running by a server that takes any reference', async () => {
    const { provider, emulator } = at
    const { id } = await provider.createThread({}, options)
    let started = ''
    at.thinking = new Promise(() => {})
    at.intercept = async ({ method, path, body }) => {
      if (method !== 'POST' || !path.endsWith('/responses')) return undefined
      if (!JSON.stringify(body).includes('item_reference')) return undefined
      started = emulator.foreignRun(id, { ms: 3_600_000 })
      const response = await fetch(`${emulator.url}/responses/${started}`, {
        headers: { authorization: 'Bearer any' },
      })
      return { status: 200, body: await response.json() }
    }
    expect(await provider.isBusy(id, { model: 'gpt-4o' }, options)).toBe(false)
    expect((await provider.followRun(id, started, options)).status).toBe('cancelled')
  })
})
