import OpenAI from 'openai'
import { expect, test } from 'vitest'
import { startEmulator } from '../../src/emulator/index.ts'
import { emulated, heldModel, raw, refusal } from './emulated.ts'

test('a request without a key is refused', async () => {
  const { emulator } = await emulated()
  const response = await fetch(`${emulator.url}/responses/resp_1`)
  expect(response.status).toBe(401)
  expect(await response.text()).toContain("You didn't provide an API key.")
})

test('the Assistants API wants its beta header', async () => {
  const { emulator } = await emulated()
  const response = await fetch(`${emulator.url}/threads`, {
    method: 'POST',
    headers: { authorization: 'Bearer any' },
  })
  expect(response.status).toBe(400)
  const error = {
    message:
      "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by setting the header 'OpenAI-Beta: assistants=v2'.",
    type: 'invalid_request_error',
    param: null,
    code: null,
  }
  expect(await response.json()).toEqual({ error })
})

test('a body that is no JSON, and a path that is none, are refused', async () => {
  const { emulator } = await emulated()
  const headers = { authorization: 'Bearer any' }
  const broken = await fetch(`${emulator.url}/responses`, { method: 'POST', headers, body: '{' })
  expect(broken.status).toBe(400)
  const nowhere = await raw(emulator, 'GET', '/nowhere')
  expect(nowhere.status).toBe(404)
  expect(JSON.parse(nowhere.text).error.message).toBe('Invalid URL (GET /v1/nowhere)')
})

test('every answer has a request id and rate limit headers', async () => {
  const { emulator } = await emulated()
  for (const path of ['/conversations/conv_1', '/nowhere']) {
    const { headers } = await raw(emulator, 'GET', path)
    expect(headers.get('x-request-id')).toMatch(/^req_[0-9a-f]{32}$/)
    expect(headers.get('openai-processing-ms')).toBeTruthy()
    expect(headers.get('x-ratelimit-remaining-requests')).toBeTruthy()
  }
})

test('a request can be answered otherwise before it is handled', async () => {
  const seen: string[] = []
  const { client, emulator } = await emulated({
    onRequest: ({ method, path, body }) => {
      seen.push(`${method} ${path} ${JSON.stringify(body)}`)
      if (seen.length > 1) return undefined
      const error = { message: 'Slow down.', type: 'requests', param: null, code: 'slow_down' }
      return { status: 429, body: { error }, headers: { 'retry-after': '7' } }
    },
  })
  const refused = await refusal(client.conversations.create({ metadata: { a: 'b' } }))
  expect(refused).toMatchObject({ status: 429, code: 'slow_down' })
  expect(refused.headers?.get('retry-after')).toBe('7')
  await client.conversations.create({})
  expect(seen).toEqual([
    'POST /v1/conversations {"metadata":{"a":"b"}}',
    'POST /v1/conversations {}',
  ])
  expect(emulator.stats.requests).toBe(2)
})

test('a connection can be reset', async () => {
  const { client } = await emulated({ onRequest: () => 'reset' })
  await expect(client.conversations.create({})).rejects.toThrow(OpenAI.APIConnectionError)
})

test('counters and history are there for other processes too', async () => {
  const { client, emulator } = await emulated({
    latency: { queuedMs: 0, thinkMs: 5, perTokenMs: 0 },
  })
  const { id } = await client.conversations.create()
  await client.responses.create({ model: 'gpt-5', conversation: id, input: 'hi' })
  const get = async (path: string) => (await fetch(new URL(path, emulator.url))).json()
  expect(await get('/emulator/stats')).toEqual(emulator.stats)
  expect(emulator.stats).toMatchObject({ requests: 2, conflicts: 0, runsStarted: 1 })
  expect(await get(`/emulator/threads/${id}`)).toEqual(emulator.history(id))
  expect((await fetch(new URL('/emulator/threads/conv_none', emulator.url))).status).toBe(404)
  expect(() => emulator.history('conv_none')).toThrow('no thread conv_none')
})

test('time is busy once, however many runs share it', async () => {
  const { client, emulator } = await emulated({
    latency: { queuedMs: 0, thinkMs: 50, perTokenMs: 0 },
  })
  const before = performance.now()
  const run = () => client.responses.create({ model: 'gpt-5', input: 'hi' })
  await Promise.all([run(), run(), run(), run()])
  const elapsed = performance.now() - before
  expect(emulator.stats.busyMs).toBeGreaterThan(0)
  expect(emulator.stats.busyMs).toBeLessThanOrEqual(elapsed)
})

test('a run that fails to think ends as failed', async () => {
  const { client } = await emulated({
    model: () => {
      throw new Error('no idea')
    },
  })
  const response = await client.responses.create({ model: 'gpt-5', input: 'hi' })
  expect(response).toMatchObject({
    status: 'failed',
    error: { code: 'server_error', message: 'Error: no idea' },
  })
})

test('closing cuts open streams', async () => {
  const emulator = await startEmulator({ model: heldModel().model })
  const client = new OpenAI({ apiKey: 'any', baseURL: emulator.url, maxRetries: 0 })
  const stream = await client.responses.create({ model: 'gpt-5', input: 'hi', stream: true })
  const read = (async () => {
    for await (const { type } of stream) if (type === 'response.in_progress') await emulator.close()
  })()
  await expect(read).rejects.toThrow()
  await expect(fetch(emulator.url)).rejects.toThrow()
})
