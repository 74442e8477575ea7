import type OpenAI from 'openai'
import { expect, test } from 'vitest'
import { emulated, refusal } from './emulated.ts'

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

test('cancelling answers "cancelling", ends in "cancelled", and cannot be done twice', async () => {
  const { client } = await emulated({ latency: { queuedMs: 0, thinkMs: 60_000, perTokenMs: 0 } })
  const thread_id = await threadSaying(client, 'hello')
  const { id } = await client.beta.threads.runs.create(thread_id, assistant)
  const cancelling = await client.beta.threads.runs.cancel(id, { thread_id })
  expect(cancelling).toMatchObject({ status: 'cancelling', cancelled_at: null })
  const run = await client.beta.threads.runs.poll(id, { thread_id }, poll)
  expect(run).toMatchObject({ status: 'cancelled', expires_at: null })
  expect((await refusal(client.beta.threads.runs.cancel(id, { thread_id }))).error).toMatchObject({
    message: "Cannot cancel run with status 'cancelled'.",
  })
  await client.beta.threads.messages.create(thread_id, { role: 'user', content: 'free again' })
})

test('cancelling ends a run whose model never answers, and one that waits for outputs', async () => {
  const { client } = await emulated({ model: () => new Promise(() => {}) })
  const thinking = await threadSaying(client, 'hello')
  const { id } = await client.beta.threads.runs.create(thinking, assistant)
  await client.beta.threads.runs.cancel(id, { thread_id: thinking })
  const run = await client.beta.threads.runs.poll(id, { thread_id: thinking }, poll)
  expect(run.status).toBe('cancelled')

  const other = await emulated()
  const { runs } = other.client.beta.threads
  const waiting = await threadSaying(other.client, 'get_weather please')
  const params = { ...assistant, tools: [weather] }
  const asking = await runs.createAndPoll(waiting, params, poll)
  expect(asking.status).toBe('requires_action')
  await runs.cancel(asking.id, { thread_id: waiting })
  const steps = await runs.steps.list(asking.id, { thread_id: waiting })
  await expect
    .poll(async () => (await runs.retrieve(asking.id, { thread_id: waiting })).status)
    .toBe('cancelled')
  expect(steps.data).toHaveLength(1)
})

test('cancelling in the middle of an answer leaves it incomplete', async () => {
  const { client } = await emulated({ latency: { queuedMs: 0, thinkMs: 0, perTokenMs: 30_000 } })
  const thread_id = await threadSaying(client, 'reply with exactly: one two three')
  const stream = client.beta.threads.runs.stream(thread_id, assistant)
  const events: string[] = []
  for await (const { event, data } of stream) {
    events.push(event)
    if (event === 'thread.message.in_progress')
      await client.beta.threads.runs.cancel((data as { run_id: string }).run_id, { thread_id })
  }
  expect(events.slice(-4)).toEqual([
    'thread.run.cancelling',
    'thread.message.incomplete',
    'thread.run.step.cancelled',
    'thread.run.cancelled',
  ])
  expect((await client.beta.threads.messages.list(thread_id)).data[0]).toMatchObject({
    status: 'incomplete',
    incomplete_details: { reason: 'run_cancelled' },
  })
})

test('a run that waits too long for its outputs expires and frees the thread', async () => {
  const { client } = await emulated({ runExpiresMs: 50 })
  const thread_id = await threadSaying(client, 'get_weather please')
  const created = await client.beta.threads.runs.create(thread_id, {
    ...assistant,
    tools: [weather],
  })
  await expect
    .poll(async () => (await client.beta.threads.runs.retrieve(created.id, { thread_id })).status)
    .toBe('expired')
  const late = client.beta.threads.runs.submitToolOutputs(created.id, {
    thread_id,
    tool_outputs: [],
  })
  expect((await refusal(late)).message).toContain(
    'Runs in status "expired" do not accept tool outputs.',
  )
  await client.beta.threads.messages.create(thread_id, { role: 'user', content: 'free again' })
})

test('a run can be made to fail, and the next one may pass', async () => {
  let failures = 1
  const { client } = await emulated({
    failRun: () =>
      failures-- > 0 ? { code: 'rate_limit_exceeded', message: 'Rate limit reached.' } : null,
  })
  const thread_id = await threadSaying(client, 'hello')
  const first = await client.beta.threads.runs.createAndPoll(thread_id, assistant, poll)
  expect(first).toMatchObject({
    status: 'failed',
    last_error: { code: 'rate_limit_exceeded', message: 'Rate limit reached.' },
  })
  const second = await client.beta.threads.runs.createAndPoll(thread_id, assistant, poll)
  expect(second.status).toBe('completed')
})

test('max_completion_tokens cuts the answer short', async () => {
  const { client } = await emulated()
  const thread_id = await threadSaying(client, 'Write a long story.')
  const run = await client.beta.threads.runs.createAndPoll(
    thread_id,
    { ...assistant, max_completion_tokens: 256 },
    poll,
  )
  expect(run).toMatchObject({
    status: 'incomplete',
    incomplete_details: { reason: 'max_completion_tokens' },
    usage: { completion_tokens: 256 },
  })
})
