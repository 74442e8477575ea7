import type OpenAI from 'openai'
import { expect, test } from 'vitest'
import { emulated, refusal } from './emulated.ts'
import { collect, namesOf } from './events.ts'

const model = 'gpt-5'
const weather = {
  type: 'function' as const,
  name: 'get_weather',
  description: 'The weather in a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  strict: false,
}

const errorOf = async (call: Promise<unknown>) => (await refusal(call)).error

async function conversationWithOpenCall(client: OpenAI): Promise<[string, string]> {
  const { id } = await client.conversations.create()
  const { output } = await client.responses.create({
    model,
    conversation: id,
    input: 'What is the weather in Oslo?',
    tools: [weather],
  })
  const [call] = output
  if (call?.type !== 'function_call') throw new Error('the model called nothing')
  expect(call).toMatchObject({ name: 'get_weather', arguments: '{"city":"Oslo"}' })
  return [id, call.call_id]
}

test('a call blocks every turn but the one that answers it', async () => {
  const { emulator, client } = await emulated()
  const [conversation, call_id] = await conversationWithOpenCall(client)
  const other = client.responses.create({ model, conversation, input: 'And now?' })
  expect(await errorOf(other)).toEqual({
    message: `No tool output found for function call ${call_id}.`,
    type: 'invalid_request_error',
    param: 'input',
    code: null,
  })
  const answered = await client.responses.create({
    model,
    conversation,
    input: [{ type: 'function_call_output', call_id, output: 'snow' }],
  })
  expect(answered.output_text).toBe('According to get_weather: snow')
  expect(emulator.stats.conflicts).toBe(0)
  const { data } = await client.conversations.items.list(conversation, { order: 'asc' })
  expect(data.map(({ type }) => type)).toEqual([
    'message',
    'function_call',
    'function_call_output',
    'message',
  ])
})

test('an output needs a call that is not answered yet', async () => {
  const { client } = await emulated()
  const [conversation, call_id] = await conversationWithOpenCall(client)
  const output = (id: string) => ({
    model,
    conversation,
    input: [{ type: 'function_call_output' as const, call_id: id, output: 'snow' }],
  })
  expect(await errorOf(client.responses.create(output('call_none')))).toEqual({
    message: 'No tool call found for function call output with call_id call_none.',
    type: 'invalid_request_error',
    param: 'input',
    code: null,
  })
  await client.responses.create(output(call_id))
  expect(await errorOf(client.responses.create(output(call_id)))).toMatchObject({
    message: `No tool call found for function call output with call_id ${call_id}.`,
  })
})

test('an output may also be added as an item', async () => {
  const { client } = await emulated()
  const [conversation, call_id] = await conversationWithOpenCall(client)
  await client.conversations.items.create(conversation, {
    items: [{ type: 'function_call_output', call_id, output: 'fog' }],
  })
  const next = await client.responses.create({ model, conversation })
  expect(next.output_text).toBe('According to get_weather: fog')
})

test('a function call streams its arguments', async () => {
  const { client } = await emulated()
  const input = 'Call get_weather for Oslo'
  const events = await collect(
    await client.responses.create({ model, input, tools: [weather], stream: true }),
  )
  expect(namesOf(events).slice(2)).toEqual([
    'response.output_item.added',
    'response.function_call_arguments.delta',
    'response.function_call_arguments.done',
    'response.output_item.done',
    'response.completed',
  ])
})

test('a response goes on from a previous one and lists all of its input', async () => {
  const { client } = await emulated()
  const first = await client.responses.create({ model, input: 'My name is Ada.' })
  const second = await client.responses.create({
    model,
    input: 'What is my name?',
    previous_response_id: first.id,
  })
  expect(second.output_text).toBe('Your name is Ada.')
  const { data } = await client.responses.inputItems.list(second.id, { order: 'asc' })
  expect(data).toMatchObject([{ role: 'user' }, { role: 'assistant' }, { role: 'user' }])
})
