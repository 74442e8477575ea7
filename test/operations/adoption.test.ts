import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { type Line, startLine, who } from './line.ts'

const options = { signal: new AbortController().signal, timeoutMs: 5_000 }
const unknownId = {
  responses: `conv_${'0123456789abcdef'.repeat(3)}`,
  assistants: 'thread_abcdefghijklmnopqrstuvwx',
}
const other = { responses: 'assistants', assistants: 'responses' } as const

describe.each(['responses', 'assistants'] as const)('with "%s"', (name) => {
  /** A provider thread that did not come from an operation, with a message in it. */
  async function existing(line: Line): Promise<string> {
    const provider = line.providers[name]
    const { id } = (await provider?.createThread({ from: 'elsewhere' }, options)) ?? { id: '' }
    await provider?.addMessage(id, 'My name is Ada.', '0', options)
    return id
  }

  test("a thread that bears a provider's own id is that provider thread", async ({ pool }) => {
    // The dispatcher's own default is the other provider.
    const line = await startLine(pool, other[name])
    const id = await existing(line)
    const row = await line.do(id, 'add_message_and_run', { message: 'What is my name?', ...who })
    expect(row).toMatchObject({
      status: 'completed',
      result: { provider_thread_id: id, text: 'Your name is Ada.' },
    })
    expect(await line.thread(id)).toMatchObject({ provider: name, provider_thread_id: id })
  })

  test.for([
    ['add_message', { message: 'Hi' }],
    ['create_run', who],
    ['add_message_and_run', { message: 'Hi', ...who }],
    ['update_thread', { metadata: { a: 'b' } }],
    ['create_thread', {}],
  ] as const)(
    '%s on an id that the provider does not know fails',
    async ([operation, data], { pool }) => {
      const line = await startLine(pool, name)
      const row = await line.do(unknownId[name], operation, data)
      expect(row).toMatchObject({
        status: 'failed',
        attempts: 1,
        error: { code: 'provider_thread_not_found', provider_status: 404 },
      })
      expect(line.sent('POST', /\/(threads|conversations)$/)).toHaveLength(0)
    },
  )

  test('create_thread adopts any id under a name of ours, with its metadata', async ({ pool }) => {
    const line = await startLine(pool, other[name])
    const provider_thread_id = await existing(line)
    const thread = `${name}:adopts`
    const row = await line.do(thread, 'create_thread', { provider: name, provider_thread_id })
    expect(row).toMatchObject({ status: 'completed', result: { provider_thread_id } })
    expect(await line.thread(thread)).toMatchObject({
      provider: name,
      provider_thread_id,
      metadata: { from: 'elsewhere' },
    })
    const answer = await line.do(thread, 'add_message_and_run', {
      message: 'What is my name?',
      ...who,
    })
    expect(answer.result.text).toBe('Your name is Ada.')
  })

  test('after a failed adoption nothing lands in another conversation, until a right id comes', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:wrong id`
    const wrong = { provider: name, provider_thread_id: unknownId[name] }
    const notFound = { status: 'failed', error: { code: 'provider_thread_not_found' } }
    expect(await line.do(thread, 'create_thread', wrong)).toMatchObject(notFound)
    expect(await line.do(thread, 'add_message', { message: 'Hi' })).toMatchObject(notFound)
    expect(await line.do(thread, 'create_thread', {})).toMatchObject(notFound)

    const right = { provider: name, provider_thread_id: await existing(line) }
    expect((await line.do(thread, 'create_thread', right)).status).toBe('completed')
    expect((await line.do(thread, 'add_message', { message: 'Hi' })).status).toBe('completed')
    expect(await line.said(thread)).toEqual(['user: My name is Ada.', 'user: Hi'])
  })

  test('a thread keeps the provider thread it has', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:keeps`
    const { result } = await line.do(thread, 'add_message', { message: 'Hi' })
    const refused = { status: 'failed', error: { code: 'thread_has_provider_thread' } }
    const provider_thread_id = await existing(line)
    for (const data of [
      { provider: name, provider_thread_id },
      { provider: other[name] },
      { provider: other[name], provider_thread_id },
    ])
      expect(await line.do(thread, 'create_thread', data)).toMatchObject(refused)
    const { provider_thread_id: present } = result
    expect(await line.thread(thread)).toMatchObject({ provider: name, provider_thread_id: present })
  })

  test('a thread that has none yet may go to another provider', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:moves`
    const failed = await line.do(thread, 'add_message_and_run', {
      message: 'Hi',
      model: 'gpt-4o',
      assistant_id: 'asst_unknown',
      ...(name === 'assistants' && { reasoning: {} }),
    })
    expect(failed.status).toBe('failed')
    expect(await line.thread(thread)).toMatchObject({ provider: name, provider_thread_id: null })
    const row = await line.do(thread, 'create_thread', { provider: other[name] })
    expect(row).toMatchObject({ status: 'completed', failures: 0 })
    expect(await line.thread(thread)).toMatchObject({
      provider: other[name],
      provider_thread_id: row.result.provider_thread_id,
    })
  })
})
