import type OpenAI from 'openai'
import { expect, test } from 'vitest'
import { emulated, refusal } from './emulated.ts'

const ask = { model: 'gpt-5', input: 'reply with exactly: done' } as const

async function thoughtUp(client: OpenAI) {
  const { id: conversation } = await client.conversations.create()
  await client.responses.create({ ...ask, conversation, reasoning: { effort: 'low' } })
  const items = async () =>
    (await client.conversations.items.list(conversation, { order: 'asc' })).data
  const [, reasoning, message] = await items()
  if (!reasoning?.id || !message?.id) throw new Error('The answer came without its reasoning')
  const remove = (item_id: string) =>
    client.conversations.items.delete(item_id, { conversation_id: conversation })
  return { conversation, reasoning: reasoning.id, message: message.id, items, remove }
}

test('an answer to a request for reasoning comes behind a reasoning item', async () => {
  const { client } = await emulated()
  const { items, conversation } = await thoughtUp(client)
  expect((await items()).map(({ type }) => type)).toEqual(['message', 'reasoning', 'message'])
  const next = await client.responses.create({ ...ask, conversation })
  expect(next.status).toBe('completed')
  expect(next.output.map(({ type }) => type)).toEqual(['message'])
})

test('an answer without its reasoning item refuses the next response, until it is deleted too', async () => {
  const { client } = await emulated()
  const { conversation, reasoning, message, remove } = await thoughtUp(client)
  await remove(reasoning)
  const next = () => client.responses.create({ ...ask, conversation })
  expect(await refusal(next())).toMatchObject({
    status: 400,
    type: 'invalid_request_error',
    message: expect.stringContaining(
      `Item '${message}' of type 'message' was provided without its required 'reasoning' item: '${reasoning}'.`,
    ),
  })
  await remove(message)
  expect((await next()).status).toBe('completed')
})

test('a reasoning item without its answer refuses the next response, until it is deleted too', async () => {
  const { client } = await emulated()
  const { conversation, reasoning, message, remove } = await thoughtUp(client)
  await remove(message)
  const next = () => client.responses.create({ ...ask, conversation })
  expect((await refusal(next())).message).toContain(
    `Item '${reasoning}' of type 'reasoning' was provided without its required following item.`,
  )
  await remove(reasoning)
  expect((await next()).status).toBe('completed')
})

test('a call belongs to its reasoning item as an answer does', async () => {
  const { client } = await emulated({
    model: () => ({ toolCalls: [{ name: 'look', arguments: '{}' }], reasoning: true }),
  })
  const first = await client.responses.create({ ...ask })
  expect(first.output.map(({ type }) => type)).toEqual(['reasoning', 'function_call'])
  const call = first.output[1]
  const output = { type: 'function_call_output' as const, call_id: '', output: 'seen' }
  if (call?.type === 'function_call') output.call_id = call.call_id
  const next = await client.responses.create({
    model: 'gpt-5',
    previous_response_id: first.id,
    input: [output],
  })
  expect(next.status).toBe('completed')
})

test('a fault loses the reasoning item of an answer', async () => {
  const { client, emulator } = await emulated({ faults: [{ name: 'reasoning_lost', times: 1 }] })
  const { id: conversation } = await client.conversations.create()
  await client.responses.create({ ...ask, conversation })
  expect((await refusal(client.responses.create({ ...ask, conversation }))).message).toContain(
    "without its required 'reasoning' item",
  )
  expect(emulator.stats.faults).toEqual({ reasoning_lost: 1 })
})
