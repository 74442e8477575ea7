import { expect, test } from 'vitest'
import { emulated, heldModel, raw, refusal } from './emulated.ts'

const user = (text: string) => ({ type: 'message' as const, role: 'user' as const, content: text })

test('a conversation is created with items, retrieved, updated and deleted', async () => {
  const { client } = await emulated()
  const { conversations } = client
  const made = await conversations.create({ metadata: { topic: 'a' }, items: [user('hello')] })
  expect(made.id).toMatch(/^conv_[0-9a-f]{32,}$/)
  expect(await conversations.retrieve(made.id)).toEqual(made)
  const updated = await conversations.update(made.id, { metadata: { topic: 'b' } })
  expect(updated.metadata).toEqual({ topic: 'b' })
  const deleted = { id: made.id, object: 'conversation.deleted', deleted: true }
  expect(await conversations.delete(made.id)).toEqual(deleted)
  const again = await refusal(conversations.delete(made.id))
  expect(again.status).toBe(404)
  expect(again.error).toEqual({
    message: `Conversation with id '${made.id}' not found.`,
    type: 'invalid_request_error',
    param: null,
    code: null,
  })
})

test('items are added in order, listed newest first, read and deleted', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.conversations.create()
  const { items } = client.conversations
  const added = await items.create(id, {
    items: [user('one'), { type: 'message', role: 'assistant', content: 'two' }],
  })
  expect(added.data).toMatchObject([
    { type: 'message', status: 'completed', content: [{ type: 'input_text', text: 'one' }] },
    { role: 'assistant', content: [{ type: 'output_text', text: 'two' }] },
  ])
  const [first, second] = added.data.map((item) => item.id ?? '')
  expect((await items.list(id)).data.map((item) => item.id)).toEqual([second, first])
  expect((await items.list(id, { order: 'asc', after: first })).data).toEqual([added.data[1]])
  expect(await items.retrieve(first ?? '', { conversation_id: id })).toEqual(added.data[0])
  expect(await items.delete(first ?? '', { conversation_id: id })).toMatchObject({
    id,
    object: 'conversation',
  })
  expect(emulator.history(id).map(({ text }) => text)).toEqual(['two'])
})

test('more than 20 items at once are refused', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.conversations.create()
  const items = Array.from({ length: 21 }, (_, i) => user(`${i}`))
  for (const path of ['/conversations', `/conversations/${id}/items`]) {
    const { status, text } = await raw(emulator, 'POST', path, { items })
    expect(status).toBe(400)
    expect(JSON.parse(text).error).toEqual({
      message:
        "Invalid 'items': array too long. Expected an array with maximum length 20, but got an array with length 21 instead.",
      type: 'invalid_request_error',
      param: 'items',
      code: 'array_above_max_length',
    })
  }
})

test('while a response works on it a conversation can be read but not changed', async () => {
  const held = heldModel()
  const { emulator, client } = await emulated({ model: held.model })
  const { id } = await client.conversations.create({ items: [user('before')] })
  const [item] = (await client.conversations.items.list(id)).data
  const response = await client.responses.create({
    model: 'gpt-5',
    conversation: id,
    input: 'question',
    background: true,
  })
  await held.asked

  const locked = `{
  "error": {
    "message": "Another process is currently operating on this conversation. Please retry in a few seconds.",
    "type": "invalid_request_error",
    "param": "conversation",
    "code": "conversation_locked"
  }
}`
  const items = `/conversations/${id}/items`
  const refused = await Promise.all([
    raw(emulator, 'POST', '/responses', { model: 'gpt-5', conversation: { id }, input: 'x' }),
    raw(emulator, 'POST', items, { items: [user('x')] }),
    raw(emulator, 'DELETE', `${items}/${item?.id}`),
  ])
  for (const { status, text } of refused) expect([status, text]).toEqual([400, locked])
  expect(emulator.stats.conflictsByKind.conversation_locked).toBe(3)
  expect(emulator.history(id).map(({ text }) => text)).toEqual(['before'])

  held.answer('answer')
  await expect
    .poll(async () => (await client.responses.retrieve(response.id)).status)
    .toBe('completed')
  expect(emulator.history(id)).toMatchObject([
    { role: 'user', text: 'before', runId: null },
    { role: 'user', text: 'question', runId: response.id },
    { role: 'assistant', text: 'answer', runId: response.id },
  ])
})

test.each([
  [
    'GET',
    '/conversations/abc',
    "Invalid 'conversation_id': 'abc'. Expected an ID that begins with 'conv'.",
  ],
  [
    'POST',
    '/conversations/conv_a/messages',
    'Invalid URL (POST /v1/conversations/conv_a/messages)',
  ],
  ['GET', '/conversations/conv_a/items', "Conversation with id 'conv_a' not found."],
])('%s %s is refused', async (method, path, message) => {
  const { emulator } = await emulated()
  const { text } = await raw(emulator, method, path, method === 'POST' ? {} : undefined)
  expect(JSON.parse(text).error.message).toBe(message)
})
