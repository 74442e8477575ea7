import type OpenAI from 'openai'
import { expect, test } from 'vitest'
import { emulated, heldModel, raw, refusal } from './emulated.ts'

const assistant = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }
const weather = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    description: 'The weather in a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}
const poll = { pollIntervalMs: 5 }

async function threadSaying(client: OpenAI, content: string): Promise<string> {
  return (await client.beta.threads.create({ messages: [{ role: 'user', content }] })).id
}

test('a run goes from queued to completed and leaves its answer, step and usage', async () => {
  const { client } = await emulated()
  const thread_id = await threadSaying(client, 'reply with exactly: well done')
  const created = await client.beta.threads.runs.create(thread_id, assistant)
  expect(created).toMatchObject({ status: 'queued', started_at: null, usage: null })
  expect(created.expires_at).toBe(created.created_at + 600)

  const run = await client.beta.threads.runs.poll(created.id, { thread_id }, poll)
  expect(run).toMatchObject({ status: 'completed', expires_at: null, model: 'gpt-4o' })
  expect(run.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 })

  const [answer] = (await client.beta.threads.messages.list(thread_id)).data
  expect(answer).toMatchObject({ role: 'assistant', run_id: run.id })
  expect(answer?.content[0]).toMatchObject({ text: { value: 'well done' } })
  const steps = await client.beta.threads.runs.steps.list(run.id, { thread_id })
  expect(steps.data).toMatchObject([
    { status: 'completed', step_details: { message_creation: { message_id: answer?.id } } },
  ])
})

test('while a run is active the thread takes neither messages nor runs, in the exact words', async () => {
  const held = heldModel()
  const { emulator, client } = await emulated({ model: held.model })
  const thread_id = await threadSaying(client, 'hello')
  const run = await client.beta.threads.runs.create(thread_id, assistant)
  await held.asked

  const second = await raw(emulator, 'POST', `/threads/${thread_id}/runs`, assistant)
  expect(second.status).toBe(400)
  expect(second.headers.get('content-length')).toBe('206')
  expect(second.text).toBe(`{
  "error": {
    "message": "Thread ${thread_id} already has an active run ${run.id}.",
    "type": "invalid_request_error",
    "param": null,
    "code": null
  }
}`)
  const message = { role: 'user', content: 'me too' }
  const added = await raw(emulator, 'POST', `/threads/${thread_id}/messages`, message)
  expect(added.status).toBe(400)
  expect(JSON.parse(added.text).error).toEqual({
    message: `Can't add messages to ${thread_id} while a run ${run.id} is active.`,
    type: 'invalid_request_error',
    param: null,
    code: null,
  })
  expect(emulator.stats).toMatchObject({
    conflicts: 2,
    conflictsByKind: { run_conflict: 1, message_conflict: 1, conversation_locked: 0 },
  })

  held.answer('there')
  await client.beta.threads.runs.poll(run.id, { thread_id }, poll)
  await client.beta.threads.messages.create(thread_id, { role: 'user', content: 'now' })
  expect(emulator.history(thread_id).map(({ text }) => text)).toEqual(['hello', 'there', 'now'])
})

test('a refused run leaves none of its additional messages behind', async () => {
  const held = heldModel()
  const { emulator, client } = await emulated({ model: held.model })
  const thread_id = await threadSaying(client, 'hello')
  await client.beta.threads.runs.create(thread_id, assistant)
  const refused = client.beta.threads.runs.create(thread_id, {
    ...assistant,
    additional_messages: [{ role: 'user', content: 'lost' }],
  })
  await refusal(refused)
  expect(emulator.history(thread_id).map(({ text }) => text)).toEqual(['hello'])
})

test('additional messages and instructions reach the model with the run', async () => {
  const held = heldModel()
  const { client } = await emulated({ model: held.model })
  const { id } = await client.beta.threads.create()
  await client.beta.threads.runs.create(id, {
    ...assistant,
    instructions: 'Be brief.',
    additional_instructions: 'Be kind.',
    additional_messages: [{ role: 'user', content: 'hi', metadata: { op: '7' } }],
  })
  expect(await held.asked).toMatchObject({
    instructions: 'Be brief.\nBe kind.',
    history: [{ role: 'user', text: 'hi' }],
  })
  expect((await client.beta.threads.messages.list(id)).data[0]?.metadata).toEqual({ op: '7' })
})

test('a run that calls functions waits, keeps the lock, and goes on with all outputs', async () => {
  const { emulator, client } = await emulated()
  const thread_id = await threadSaying(client, 'What is the weather in Oslo?')
  const run = await client.beta.threads.runs.createAndPoll(
    thread_id,
    { ...assistant, tools: [weather] },
    poll,
  )
  expect(run.status).toBe('requires_action')
  const [call] = run.required_action?.submit_tool_outputs.tool_calls ?? []
  expect(call?.function).toEqual({ name: 'get_weather', arguments: '{"city":"Oslo"}' })
  const tool_call_id = call?.id ?? ''

  const busy = client.beta.threads.messages.create(thread_id, { role: 'user', content: 'x' })
  expect((await refusal(busy)).message).toContain(`while a run ${run.id} is active.`)
  const none = client.beta.threads.runs.submitToolOutputs(run.id, { thread_id, tool_outputs: [] })
  expect((await refusal(none)).message).toContain(
    `Expected tool outputs for call_ids ['${tool_call_id}'], got []`,
  )

  const tool_outputs = [{ tool_call_id, output: 'snow' }]
  const queued = await client.beta.threads.runs.submitToolOutputs(run.id, {
    thread_id,
    tool_outputs,
  })
  expect(queued).toMatchObject({ status: 'queued', required_action: null })
  const done = await client.beta.threads.runs.poll(run.id, { thread_id }, poll)
  expect(done.status).toBe('completed')
  expect(emulator.history(thread_id).at(-1)?.text).toBe('According to get_weather: snow')

  const late = client.beta.threads.runs.submitToolOutputs(run.id, { thread_id, tool_outputs })
  expect((await refusal(late)).error).toMatchObject({
    message: 'Runs in status "completed" do not accept tool outputs.',
  })
})

test('metadata of a finished run can be changed, of an active one not', async () => {
  const held = heldModel()
  const { client } = await emulated({ model: held.model })
  const thread_id = await threadSaying(client, 'hello')
  const run = await client.beta.threads.runs.create(thread_id, {
    ...assistant,
    metadata: { op: '1' },
  })
  await held.asked
  const change = { thread_id, metadata: { op: '2' } }
  expect((await refusal(client.beta.threads.runs.update(run.id, change))).error).toMatchObject({
    message: "Cannot update run with status 'in_progress'.",
  })
  held.answer('hi')
  await client.beta.threads.runs.poll(run.id, { thread_id }, poll)
  expect((await client.beta.threads.runs.update(run.id, change)).metadata).toEqual({ op: '2' })
})

test('a run needs a known assistant where any will not do', async () => {
  const { client } = await emulated({ anyAssistant: false })
  const thread_id = await threadSaying(client, 'hello')
  const unknown = await refusal(client.beta.threads.runs.create(thread_id, assistant))
  expect(unknown.status).toBe(404)
  expect(unknown.error).toMatchObject({
    message: `No assistant found with id '${assistant.assistant_id}'.`,
  })
  const { id } = await client.beta.assistants.create({ model: 'gpt-5', instructions: 'Rhyme.' })
  const run = await client.beta.threads.runs.create(thread_id, { assistant_id: id })
  expect(run).toMatchObject({ model: 'gpt-5', instructions: 'Rhyme.' })
})

test('a run of an empty thread needs instructions', async () => {
  const { client } = await emulated()
  const { id } = await client.beta.threads.create()
  const refused = await refusal(client.beta.threads.runs.create(id, assistant))
  expect(refused).toMatchObject({ status: 400, code: 'invalid_thread' })
  await client.beta.threads.runs.create(id, { ...assistant, instructions: 'Greet.' })
})

test('unknown and malformed ids of runs and steps are told apart', async () => {
  const { client } = await emulated()
  const { id: thread_id } = await client.beta.threads.create()
  const message = async (call: Promise<unknown>) => {
    const { status, error } = await refusal(call)
    return [status, (error as { message: string }).message]
  }
  const { runs } = client.beta.threads
  expect(await message(runs.retrieve('run_x', { thread_id }))).toEqual([
    404,
    "No run found with id 'run_x'.",
  ])
  expect(await message(runs.retrieve(thread_id, { thread_id: 'undefined' }))).toEqual([
    400,
    "Invalid 'thread_id': 'undefined'. Expected an ID that begins with 'thread'.",
  ])
  const run = await client.beta.threads.createAndRunPoll(
    { ...assistant, thread: { messages: [{ role: 'user', content: 'hi' }] } },
    poll,
  )
  const step = runs.steps.retrieve('step_123', { thread_id: run.thread_id, run_id: run.id })
  expect(await message(step)).toEqual([404, "No run step found with id 'step_123'."])
})
