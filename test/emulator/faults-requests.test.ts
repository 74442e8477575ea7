import OpenAI from 'openai'
import { expect, test } from 'vitest'
import type { Fault } from '../../src/emulator/index.ts'
import { emulated, refusal } from './emulated.ts'

const hello = { role: 'user' as const, content: 'hello' }

async function withThread(...faults: Fault[]) {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create()
  emulator.setFaults(faults)
  const say = () => client.beta.threads.messages.create(id, hello)
  const said = () => emulator.history(id).map(({ text }) => text)
  return { emulator, client, id, say, said }
}

test('a reset before the commit leaves nothing, one after it leaves the effect', async () => {
  const { emulator, say, said } = await withThread({ name: 'reset_before_commit' })
  await expect(say()).rejects.toThrow(OpenAI.APIConnectionError)
  expect(said()).toEqual([])

  emulator.setFaults([{ name: 'reset_after_commit' }])
  await expect(say()).rejects.toThrow(OpenAI.APIConnectionError)
  expect(said()).toEqual(['hello'])
  expect(emulator.stats.faults).toEqual({ reset_before_commit: 1, reset_after_commit: 1 })
})

test('a 500 before the commit leaves nothing, one after it leaves the effect', async () => {
  const { emulator, say, said } = await withThread({ name: 'server_error_before_commit' })
  expect(await refusal(say())).toMatchObject({ status: 500, type: 'server_error' })
  expect(said()).toEqual([])

  emulator.setFaults([{ name: 'server_error_after_commit' }])
  expect(await refusal(say())).toMatchObject({ status: 500, type: 'server_error' })
  expect(said()).toEqual(['hello'])
})

test('a run whose creation answers 500 goes on and locks its thread', async () => {
  const { client, emulator, id, say } = await withThread({
    name: 'server_error_after_commit',
    on: 'runs.create',
  })
  await say()
  const create = client.beta.threads.runs.create(id, { assistant_id: 'asst_1' })
  expect((await refusal(create)).status).toBe(500)
  await expect.poll(() => emulator.history(id).at(-1)?.role).toBe('assistant')
})

test('a request that runs into a time-out before the commit never takes effect', async () => {
  const { emulator, client, id, said } = await withThread({
    name: 'timeout_before_commit',
    ms: 60_000,
  })
  const impatient = client.withOptions({ timeout: 50 })
  const call = impatient.beta.threads.messages.create(id, hello)
  await expect(call).rejects.toThrow(OpenAI.APIConnectionTimeoutError)
  expect(said()).toEqual([])

  emulator.setFaults([{ name: 'timeout_before_commit', ms: 5 }])
  await expect(client.beta.threads.messages.create(id, hello)).rejects.toThrow(
    OpenAI.APIConnectionError,
  )
  expect(said()).toEqual([])
})

test('a request that runs into a time-out after the commit has taken effect', async () => {
  const { emulator, client, id, say, said } = await withThread({
    name: 'timeout_after_commit',
    ms: 60_000,
  })
  const impatient = client.withOptions({ timeout: 50 })
  const call = impatient.beta.threads.messages.create(id, hello)
  await expect(call).rejects.toThrow(OpenAI.APIConnectionTimeoutError)
  expect(said()).toEqual(['hello'])

  emulator.setFaults([{ name: 'timeout_after_commit', ms: 5 }])
  expect(await say()).toMatchObject({ role: 'user' })
})

test('a late request takes effect although its caller has gone', async () => {
  const { client, id, said } = await withThread({ name: 'late_commit', ms: 1500 })
  const impatient = client.withOptions({ timeout: 50 })
  const call = impatient.beta.threads.messages.create(id, hello)
  await expect(call).rejects.toThrow(OpenAI.APIConnectionTimeoutError)
  expect(said()).toEqual([])
  await expect.poll(said, { timeout: 10_000 }).toEqual(['hello'])
})

test('what the API refuses has no effect that a fault could hide', async () => {
  const { emulator, client } = await withThread({ name: 'reset_after_commit' })
  const call = client.beta.threads.messages.create('thread_none', hello)
  expect((await refusal(call)).status).toBe(404)
  expect(emulator.stats.faults).toEqual({})
})

test('a rate limit says how long to wait in seconds, in milliseconds, or not at all', async () => {
  const { emulator, say, said } = await withThread({ name: 'rate_limit', retryAfter: 7 })
  const limited = async (fault: Fault) => {
    emulator.setFaults([fault])
    const error = await refusal(say())
    expect(error).toMatchObject({ status: 429, code: 'rate_limit_exceeded' })
    return [error.headers?.get('retry-after'), error.headers?.get('retry-after-ms')]
  }
  expect(await limited({ name: 'rate_limit', retryAfter: 7 })).toEqual(['7', null])
  expect(await limited({ name: 'rate_limit', retryAfterMs: 1500 })).toEqual([null, '1500'])
  expect(await limited({ name: 'rate_limit' })).toEqual([null, null])
  expect(said()).toEqual([])
})

test.each([
  ['insufficient_quota', 429, 'insufficient_quota', 'insufficient_quota'],
  ['unauthorized', 401, 'invalid_request_error', 'invalid_api_key'],
  ['forbidden', 403, 'request_forbidden', 'unsupported_country_region_territory'],
  ['overloaded', 503, 'service_unavailable_error', 'server_is_overloaded'],
] as const)('%s is refused with its own status and code', async (name, status, type, code) => {
  const { say, said } = await withThread({ name })
  expect(await refusal(say())).toMatchObject({ status, type, code })
  expect(said()).toEqual([])
})

test('after the sunset the Assistants API is gone and Conversations are still there', async () => {
  const { client, id, say } = await withThread({ name: 'assistants_sunset' })
  expect((await refusal(say())).error).toMatchObject({
    message: `Invalid URL (POST /v1/threads/${id}/messages)`,
    type: 'invalid_request_error',
  })
  const threads = await refusal(client.beta.threads.create())
  expect(threads.message).toBe('404 Invalid URL (POST /v1/threads)')
  expect(await client.conversations.create()).toMatchObject({ object: 'conversation' })
})

test('a fault strikes only the requests, the thread, the key and the model it names', async () => {
  const { emulator, client, id, say } = await withThread({
    name: 'overloaded',
    on: ['runs.create', 'list'],
  })
  await say()
  expect((await refusal(client.beta.threads.messages.list(id))).status).toBe(503)

  const { id: other } = await client.beta.threads.create()
  emulator.setFaults([{ name: 'overloaded', thread: id }])
  await client.beta.threads.messages.create(other, hello)
  expect((await refusal(say())).status).toBe(503)

  emulator.setFaults([{ name: 'overloaded', key: 'poor' }])
  await say()
  const poor = client.withOptions({ apiKey: 'poor' })
  expect((await refusal(poor.conversations.create())).status).toBe(503)

  emulator.setFaults([{ name: 'overloaded', model: 'busy' }])
  await client.responses.create({ model: 'gpt-5', input: 'hi' })
  const busy = client.responses.create({ model: 'busy', input: 'hi' })
  expect((await refusal(busy)).status).toBe(503)
})

test('a conversation is found behind a response and in the body that names it', async () => {
  const { emulator, client } = await emulated()
  const { id: conversation } = await client.conversations.create()
  const { id } = await client.responses.create({ model: 'gpt-5', conversation, input: 'hi' })
  const { id: free } = await client.responses.create({ model: 'gpt-5', input: 'hi' })
  emulator.setFaults([{ name: 'overloaded', thread: conversation }])
  expect((await refusal(client.responses.retrieve(id))).status).toBe(503)
  const named = { model: 'gpt-5', conversation: { id: conversation }, input: 'hi' }
  expect((await refusal(client.responses.create(named))).status).toBe(503)
  await client.responses.retrieve(free)
})

test.each([
  'insufficient_quota',
  'credit_balance_exhausted',
  'project_spend_limit_exceeded',
  'organization_spend_limit_exceeded',
  'billing_not_active',
] as const)('a key that may spend no more is refused with %s', async (code) => {
  const { say, said } = await withThread({ name: 'insufficient_quota', code })
  expect(await refusal(say())).toMatchObject({ status: 429, code })
  expect(said()).toEqual([])
})

test('a rate limit can ask to slow down', async () => {
  const { say } = await withThread({ name: 'rate_limit', code: 'slow_down' })
  expect(await refusal(say())).toMatchObject({
    status: 429,
    code: 'slow_down',
    type: 'rate_limit_error',
  })
})

test('an answer that falls silent in its body has taken effect', async () => {
  const { emulator, client, id, said } = await withThread({ name: 'answer_stalls' })
  const answer = await fetch(`${emulator.url}/threads/${id}/messages`, {
    method: 'POST',
    headers: { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' },
    body: JSON.stringify(hello),
  })
  expect(answer.status).toBe(200)
  expect(said()).toEqual(['hello'])
  const body = answer.text()
  emulator.setFaults([])
  await expect(body).rejects.toThrow()
  expect((await client.beta.threads.messages.list(id)).data).toHaveLength(1)
})

test('an answer that fell silent is cut after its time', async () => {
  const { say, said } = await withThread({ name: 'answer_stalls', ms: 20 })
  await expect(say()).rejects.toThrow()
  expect(said()).toEqual(['hello'])
})

test('a stream falls silent before the event that the fault names', async () => {
  const { client, emulator } = await emulated({
    faults: [{ name: 'answer_stalls', on: 'responses.create', event: 3 }],
  })
  const stream = await client.responses.create({ model: 'gpt-5', input: 'hi', stream: true })
  const numbers: number[] = []
  const read = (async () => {
    for await (const { sequence_number } of stream) numbers.push(sequence_number)
  })()
  await expect.poll(() => numbers).toEqual([0, 1, 2])
  await expect.poll(() => emulator.runs()[0]?.status).toBe('completed')
  expect(numbers).toEqual([0, 1, 2])
  emulator.setFaults([])
  await expect(read).rejects.toThrow()
})
