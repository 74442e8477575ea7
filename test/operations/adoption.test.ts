import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, startLine, who } from './line.ts'

const options = { signal: new AbortController().signal, timeoutMs: 5_000 }
const unknownId = {
  responses: `conv_${'0123456789abcdef'.repeat(3)}`,
  assistants: 'thread_abcdefghijklmnopqrstuvwx',
}
const unknownElsewhere = {
  responses: `conv_${'fedcba9876543210'.repeat(3)}`,
  assistants: 'thread_zyxwvutsrqponmlkjihgfedc',
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
    const wrong = { provider: name, provider_thread_id: unknownElsewhere[name] }
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

  test('a provider thread that another thread of ours has is refused, under its own id too', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const provider_thread_id = await existing(line)
    const [first, second] = [`${name}:has it`, `${name}:wants it`]
    const adopt = { provider: name, provider_thread_id }
    const inUse = {
      status: 'failed',
      attempts: 1,
      error: {
        code: 'provider_thread_in_use',
        message: expect.stringContaining(`Write to thread_id "${first}"`),
      },
    }
    expect((await line.do(first, 'create_thread', adopt)).status).toBe('completed')
    expect((await line.do(first, 'create_thread', adopt)).status).toBe('completed')
    expect(await line.do(second, 'create_thread', adopt)).toMatchObject(inUse)
    expect((await line.thread(second)).provider_thread_id).toBeNull()
    for (const [operation, data] of [
      ['add_message', { message: 'Hi' }],
      ['create_thread', adopt],
      ['create_thread', {}],
    ] as const)
      expect(await line.do(provider_thread_id, operation, data)).toMatchObject(inUse)
    expect(await line.said(first)).toEqual(['user: My name is Ada.'])

    // Once it is free, it is the provider's own id that counts, and no new conversation begins.
    await pool.query('update threads set provider_thread_id = null where id = $1', [first])
    const row = await line.do(provider_thread_id, 'add_message', { message: 'Hi' })
    expect(row).toMatchObject({ status: 'completed', result: { provider_thread_id } })
  })

  test('of many threads that adopt one provider thread at once, one has it', async ({ pool }) => {
    const line = await startLine(pool, name)
    const provider_thread_id = await existing(line)
    const adopt = { provider: name, provider_thread_id }
    const rows = await Promise.all(
      Array.from({ length: 8 }, (_, i) => line.do(`${name}:race ${i}`, 'create_thread', adopt)),
    )
    const codes = rows.map(({ status, error }) => (status === 'completed' ? status : error.code))
    expect(codes.toSorted()).toEqual([
      'completed',
      ...Array.from({ length: 7 }, () => 'provider_thread_in_use'),
    ])
    const { rowCount } = await pool.query('select from threads where provider_thread_id = $1', [
      provider_thread_id,
    ])
    expect(rowCount).toBe(1)
  })

  test("an adoption waits for a user's transaction that holds the thread, and nothing else does", async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const adopt = async () => ({ provider: name, provider_thread_id: await existing(line) })
    const thread = `${name}:held`
    await pool.query('insert into threads (id, provider) values ($1, $2)', [thread, name])
    const user = await pool.connect()
    try {
      await user.query('begin')
      await user.query('select from threads where id = $1 for update', [thread])
      const id = await line.insert(thread, 'create_thread', await adopt())
      await waitFor(async () => (await line.row(id)).status === 'processing')
      const other = await line.do(`${name}:not held`, 'create_thread', await adopt())
      expect(other.status).toBe('completed')
      expect((await line.row(id)).status).toBe('processing')
      await user.query('commit')
      expect(await line.end(id)).toMatchObject({ status: 'completed', attempts: 1 })
    } finally {
      user.release(true)
    }
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
