import { expect, test } from 'vitest'
import { emulated, raw, refusal } from './emulated.ts'

const model = 'gpt-5'

test('a response not stored, or deleted, cannot be found', async () => {
  const { client } = await emulated()
  const unstored = await client.responses.create({ model, input: 'hi', store: false })
  const deleted = await client.responses.create({ model, input: 'hi' })
  await client.responses.delete(deleted.id)
  for (const { id } of [unstored, deleted]) {
    const gone = await refusal(client.responses.retrieve(id))
    expect(gone.status).toBe(404)
    expect(gone.message).toContain(`Response with id '${id}' not found.`)
  }
})

test('a prompt stands in for a model', async () => {
  const { client } = await emulated({ defaultModel: 'gpt-5-mini' })
  const response = await client.responses.create({ prompt: { id: 'pmpt_1' }, input: 'hi' })
  expect(response).toMatchObject({ model: 'gpt-5-mini', prompt: { id: 'pmpt_1', version: null } })
})

test.each([
  [
    'no model',
    { input: 'hi' },
    "Missing required parameter: 'model'.",
    'missing_required_parameter',
  ],
  [
    'nothing to answer',
    { model },
    'One of "input" or "previous_response_id" or \'prompt\' or \'conversation\' must be provided.',
    'missing_required_parameter',
  ],
  [
    'an unknown parameter',
    { model, input: 'hi', inputs: 1 },
    "Unknown parameter: 'inputs'.",
    'unknown_parameter',
  ],
  [
    'a previous response and a conversation',
    { model, input: 'hi', previous_response_id: 'resp_1', conversation: 'conv_1' },
    "Mutually exclusive parameters: ''. Ensure you are only providing one of: 'previous_response_id' or 'conversation'.",
    'mutually_exclusive_parameters',
  ],
  [
    'an unknown previous response',
    { model, input: 'hi', previous_response_id: 'resp_1' },
    "Previous response with id 'resp_1' not found.",
    'previous_response_not_found',
  ],
  [
    'an unknown conversation',
    { model, input: 'hi', conversation: 'conv_1' },
    "Conversation with id 'conv_1' not found.",
    null,
  ],
  [
    'an input item of an unsupported role',
    { model, input: [{ role: 'robot', content: 'hi' }] },
    "Invalid value: 'robot'. Supported values are: 'user', 'assistant', 'system' and 'developer'.",
    'invalid_value',
  ],
  [
    'a function call without its id',
    { model, input: [{ type: 'function_call', name: 'f', arguments: '{}' }] },
    "Missing required parameter: 'input[0].call_id'.",
    'missing_required_parameter',
  ],
  [
    'too few output tokens',
    { model, input: 'hi', max_output_tokens: 15 },
    "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 15 instead.",
    'integer_below_min_value',
  ],
])('a response with %s is refused', async (_, body, message, code) => {
  const { emulator } = await emulated()
  const { text } = await raw(emulator, 'POST', '/responses', body)
  expect(JSON.parse(text).error).toMatchObject({ message, code })
})

test('an item sent again under its own id is refused', async () => {
  const { client } = await emulated()
  const { id: conversation } = await client.conversations.create()
  const { output } = await client.responses.create({ model, conversation, input: 'hi' })
  const again = client.responses.create({ model, conversation, input: output as never })
  expect((await refusal(again)).message).toContain(
    `Duplicate item found with id ${output[0]?.id}. Remove duplicate items from your input`,
  )
})
