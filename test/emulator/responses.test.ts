import { expect, test } from 'vitest'
import { emulated, heldModel, raw, refusal } from './emulated.ts'
import { collect, type NumberedEvent, namesOf } from './events.ts'

const model = 'gpt-5'
const story = { model, input: 'reply with exactly: once upon a time', background: true } as const

test('a foreground response answers when it is complete', async () => {
  const { client } = await emulated()
  const response = await client.responses.create({
    model,
    input: 'reply with exactly: done',
    metadata: { op: '5' },
  })
  expect(response).toMatchObject({
    status: 'completed',
    background: false,
    output_text: 'done',
    metadata: { op: '5' },
    usage: { input_tokens: 4, output_tokens: 1, total_tokens: 5 },
  })
  expect(await client.responses.retrieve(response.id)).toEqual(response)
})

test('a foreground stream has no queued event and counts from zero', async () => {
  const { client } = await emulated()
  const input = 'reply with exactly: a b c'
  const events = await collect(await client.responses.create({ model, input, stream: true }))
  expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, i) => i))
  expect(namesOf(events)).toEqual([
    'response.created',
    'response.in_progress',
    'response.output_item.added',
    'response.content_part.added',
    'response.output_text.delta',
    'response.output_text.done',
    'response.content_part.done',
    'response.output_item.done',
    'response.completed',
  ])
})

test('a background stream can be taken up again after any event, while it runs and afterwards', async () => {
  const { client } = await emulated({ latency: { queuedMs: 0, thinkMs: 0, perTokenMs: 5 } })
  const first: NumberedEvent[] = []
  let id = ''
  for await (const event of await client.responses.create({ ...story, stream: true })) {
    first.push(event)
    if (event.type === 'response.created') id = event.response.id
    if (event.type === 'response.output_text.delta') break
  }
  expect(namesOf(first).slice(0, 3)).toEqual([
    'response.created',
    'response.queued',
    'response.in_progress',
  ])
  const starting_after = first.at(-1)?.sequence_number ?? 0
  const resume = () => client.responses.retrieve(id, { stream: true, starting_after })
  const rest = await collect(await resume())
  expect(rest[0]?.sequence_number).toBe(starting_after + 1)
  expect(rest.at(-1)).toMatchObject({
    type: 'response.completed',
    response: { output: [{ content: [{ text: 'once upon a time' }] }] },
  })
  expect(await collect(await resume())).toEqual(rest)
  const whole = await collect(await client.responses.retrieve(id, { stream: true }))
  expect(whole.slice(first.length)).toEqual(rest)
})

test('a Responses stream ends without [DONE]', async () => {
  const { emulator } = await emulated()
  const { text } = await raw(emulator, 'POST', '/responses', { ...story, stream: true })
  expect(text).toMatch(/^event: response\.created\ndata: \{"type":"response\.created"/)
  expect(text).not.toContain('[DONE]')
})

test('only what was created as a background stream can be streamed later', async () => {
  const { client } = await emulated()
  const foreground = await client.responses.create({ model, input: 'hi' })
  const refused = await refusal(client.responses.retrieve(foreground.id, { stream: true }))
  expect(refused.error).toEqual({
    message: 'This response cannot be streamed because it was not created with background=true.',
    type: 'invalid_request_error',
    param: 'stream',
    code: 'invalid_request_error',
  })
  const silent = await client.responses.create(story)
  expect((await refusal(client.responses.retrieve(silent.id, { stream: true }))).message).toContain(
    'not created with stream=true.',
  )
})

test('a background response answers queued at once', async () => {
  const { client } = await emulated()
  const queued = await client.responses.create(story)
  expect(queued).toMatchObject({ status: 'queued', output: [], usage: null })
  await expect
    .poll(() => client.responses.retrieve(queued.id))
    .toMatchObject({ status: 'completed', output_text: 'once upon a time' })
})

test('a cancelled response frees the conversation and leaves nothing in it', async () => {
  const { emulator, client } = await emulated({ model: heldModel().model })
  const { id: conversation } = await client.conversations.create()
  const stream = await client.responses.create({ ...story, conversation, stream: true })
  const events: NumberedEvent[] = []
  for await (const event of stream) {
    events.push(event)
    if (event.type !== 'response.in_progress') continue
    const { id } = event.response
    const cancelled = await client.responses.cancel(id)
    expect(cancelled).toMatchObject({ status: 'cancelled', output: [] })
    expect(await client.responses.cancel(id)).toEqual(cancelled)
  }
  expect(events.at(-1)).toMatchObject({
    type: 'response.failed',
    response: { status: 'cancelled' },
  })
  expect(emulator.history(conversation)).toEqual([])
  await client.conversations.items.create(conversation, {
    items: [{ type: 'message', role: 'user', content: 'free again' }],
  })
})

test('what cannot be cancelled says why', async () => {
  const { client } = await emulated()
  const message = async (id: string) => (await refusal(client.responses.cancel(id))).message
  const foreground = await client.responses.create({ model, input: 'hi' })
  expect(await message(foreground.id)).toBe('400 Cannot cancel a synchronous response.')
  const { id } = await client.responses.create(story)
  await expect.poll(async () => (await client.responses.retrieve(id)).status).toBe('completed')
  expect(await message(id)).toBe('400 Cannot cancel a completed response.')
  expect(await message('resp_none')).toBe("404 Response with id 'resp_none' not found.")
})

test('a failed response has an error and leaves nothing in the conversation', async () => {
  const { emulator, client } = await emulated({
    failRun: () => ({ code: 'server_error', message: 'The server had an error.' }),
  })
  const { id: conversation } = await client.conversations.create()
  const events = await collect(
    await client.responses.create({ ...story, conversation, stream: true }),
  )
  expect(events.at(-1)).toMatchObject({
    type: 'response.failed',
    response: { status: 'failed', error: { code: 'server_error' } },
  })
  expect(emulator.history(conversation)).toEqual([])
})

test('max_output_tokens cuts the answer short', async () => {
  const { client } = await emulated()
  const input = 'Write a long story.'
  const response = await client.responses.create({ model, input, max_output_tokens: 20 })
  expect(response).toMatchObject({
    status: 'incomplete',
    incomplete_details: { reason: 'max_output_tokens' },
    usage: { output_tokens: 20 },
  })
})
