import { expect, test } from 'vitest'
import { emulated, raw, refusal } from './emulated.ts'

test('a thread is created with messages, retrieved, modified and deleted', async () => {
  const { client } = await emulated()
  const { threads } = client.beta
  const thread = await threads.create({
    metadata: { user: '42' },
    messages: [
      { role: 'user', content: 'first' },
      { role: 'assistant', content: [{ type: 'text', text: 'second' }] },
    ],
  })
  expect(thread.id).toMatch(/^thread_[A-Za-z0-9]{24}$/)
  expect(await threads.retrieve(thread.id)).toEqual(thread)
  const modified = await threads.update(thread.id, { metadata: { user: '43' } })
  expect(modified.metadata).toEqual({ user: '43' })
  expect(await threads.delete(thread.id)).toEqual({
    id: thread.id,
    object: 'thread.deleted',
    deleted: true,
  })
  const gone = await refusal(threads.retrieve(thread.id))
  expect(gone.status).toBe(404)
  expect(gone.error).toEqual({
    message: `No thread found with id '${thread.id}'.`,
    type: 'invalid_request_error',
    param: null,
    code: null,
  })
})

test('messages keep their true order though created within one second', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create()
  const contents = Array.from({ length: 7 }, (_, i) => `message ${i}`)
  for (const content of contents)
    await client.beta.threads.messages.create(id, { role: 'user', content })
  expect(emulator.history(id).map(({ text }) => text)).toEqual(contents)
  const newest = await client.beta.threads.messages.list(id)
  expect(newest.data.map(({ content }) => content[0])).toMatchObject(
    contents.toReversed().map((value) => ({ text: { value } })),
  )
})

test('lists come in pages, from either end, between cursors', async () => {
  const { client } = await emulated()
  const { id } = await client.beta.threads.create()
  const ids: string[] = []
  for (let i = 0; i < 25; i++)
    ids.push((await client.beta.threads.messages.create(id, { role: 'user', content: `${i}` })).id)
  const list = async (query: object) => {
    const page = await client.beta.threads.messages.list(id, query)
    return { ids: page.data.map((message) => message.id), more: page.has_more }
  }
  expect(await list({})).toEqual({ ids: ids.toReversed().slice(0, 20), more: true })
  expect(await list({ order: 'asc', limit: 2 })).toEqual({ ids: ids.slice(0, 2), more: true })
  expect(await list({ order: 'asc', after: ids[22] })).toEqual({ ids: ids.slice(23), more: false })
  expect(await list({ order: 'asc', before: ids[2] })).toEqual({
    ids: ids.slice(0, 2),
    more: false,
  })
  const all: string[] = []
  for await (const message of client.beta.threads.messages.list(id, { limit: 10 }))
    all.push(message.id)
  expect(all).toEqual(ids.toReversed())
})

test('an empty list has null cursors', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create()
  expect(JSON.parse((await raw(emulator, 'GET', `/threads/${id}/messages`)).text)).toEqual({
    object: 'list',
    data: [],
    first_id: null,
    last_id: null,
    has_more: false,
  })
})

test('messages can be read, tagged and deleted one by one', async () => {
  const { emulator, client } = await emulated()
  const { messages } = client.beta.threads
  const { id: thread_id } = await client.beta.threads.create()
  const message = await messages.create(thread_id, { role: 'user', content: 'hi' })
  expect(await messages.retrieve(message.id, { thread_id })).toEqual(message)
  const tagged = await messages.update(message.id, { thread_id, metadata: { op: '9' } })
  expect(tagged.metadata).toEqual({ op: '9' })
  await messages.delete(message.id, { thread_id })
  expect((await refusal(messages.retrieve(message.id, { thread_id }))).error).toMatchObject({
    message: `No message found with id '${message.id}'.`,
  })
  expect(emulator.history(thread_id)).toEqual([])
})

test('a finished message by REST has no status, as recorded', async () => {
  const { client } = await emulated()
  const { id } = await client.beta.threads.create()
  const message = await client.beta.threads.messages.create(id, { role: 'user', content: 'hi' })
  expect(Object.keys(message)).not.toContain('status')
})

const tooMany = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`key${i}`, 'x']))

test.each([
  [
    'no role',
    { content: 'hi' },
    "Missing required parameter: 'role'.",
    'role',
    'missing_required_parameter',
  ],
  [
    'an unsupported role',
    { role: 'system', content: 'hi' },
    "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
    'role',
    'invalid_value',
  ],
  [
    'an unknown parameter',
    { role: 'user', content: 'hi', contents: 'hi' },
    "Unknown parameter: 'contents'.",
    'contents',
    'unknown_parameter',
  ],
  [
    'content of a wrong type',
    { role: 'user', content: 7 },
    "Invalid type for 'content': expected one of a string or an array, but got an integer instead.",
    'content',
    'invalid_type',
  ],
  [
    'a content part of an unknown type',
    { role: 'user', content: [{ type: 'video' }] },
    "Invalid value: 'video'. Supported values are: 'text', 'image_url' and 'image_file'.",
    'content[0].type',
    'invalid_value',
  ],
  [
    'empty content',
    { role: 'user', content: '' },
    'Message content must be non-empty.',
    'content',
    'invalid_value',
  ],
  [
    'metadata of a wrong type',
    { role: 'user', content: 'hi', metadata: { modified: true } },
    "Invalid type for 'metadata.modified': expected a string, but got a boolean instead.",
    'metadata.modified',
    'invalid_type',
  ],
  [
    'too much metadata',
    { role: 'user', content: 'hi', metadata: tooMany },
    "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with 17 properties instead.",
    'metadata',
    'object_above_max_properties',
  ],
  [
    'a metadata value too long',
    { role: 'user', content: 'hi', metadata: { note: 'x'.repeat(513) } },
    "Invalid 'metadata.note': string too long. Expected a string with maximum length 512, but got a string with length 513 instead.",
    'metadata.note',
    'string_above_max_length',
  ],
  [
    'a metadata key too long',
    { role: 'user', content: 'hi', metadata: { ['x'.repeat(65)]: 'y' } },
    "Invalid 'metadata': property name too long. Expected a property name with maximum length 64, but got a property name with length 65 instead.",
    'metadata',
    'string_above_max_length',
  ],
])('a message with %s is refused', async (_, body, message, param, code) => {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create()
  const { status, text } = await raw(emulator, 'POST', `/threads/${id}/messages`, body)
  expect(status).toBe(400)
  expect(JSON.parse(text).error).toEqual({ message, type: 'invalid_request_error', param, code })
})

test.each([
  [
    'limit=101',
    "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead.",
  ],
  [
    'limit=0',
    "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead.",
  ],
  ['limit=ten', "Invalid type for 'limit': expected an integer, but got a string instead."],
  ['order=up', "Invalid value: 'up'. Supported values are: 'asc' and 'desc'."],
  ['after=msg_none', "No message found with id 'msg_none'."],
])('a list with %s is refused', async (query, message) => {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create()
  const { text } = await raw(emulator, 'GET', `/threads/${id}/messages?${query}`)
  expect(JSON.parse(text).error.message).toBe(message)
})

test('assistants are created, changed, listed and deleted', async () => {
  const { client } = await emulated()
  const { assistants } = client.beta
  const made = await assistants.create({
    model: 'gpt-5',
    tools: [{ type: 'function', function: { name: 'look_up' } }],
  })
  expect(made.tools).toEqual([
    {
      type: 'function',
      function: { name: 'look_up', parameters: { type: 'object', properties: {} }, strict: false },
    },
  ])
  expect((await assistants.update(made.id, { name: 'Ada' })).name).toBe('Ada')
  expect((await assistants.list()).data.map(({ id }) => id)).toEqual([made.id])
  await assistants.delete(made.id)
  expect((await refusal(assistants.retrieve(made.id))).error).toMatchObject({
    message: `No assistant found with id '${made.id}'.`,
  })
})
