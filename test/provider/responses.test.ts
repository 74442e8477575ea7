import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Emulator, startEmulator } from '../../src/emulator/index.ts'
import type { InterceptedRequest, Interception } from '../../src/emulator/options.ts'
import { responsesProvider } from '../../src/provider/responses.ts'
import { type Relay, startRelay } from './relay.ts'

describe('following a response', () => {
  let emulator: Emulator
  let relay: Relay
  let intercept: (request: InterceptedRequest) => Interception | undefined
  const options = { signal: new AbortController().signal, timeoutMs: 10_000 }
  const connect = (settleMs: number) =>
    responsesProvider({ apiKey: 'key', baseUrl: relay.url, pollMs: 5, settleMs })
  const notFound: Interception = {
    status: 404,
    body: { error: { message: "Response with id 'resp_1' not found." } },
  }
  const isLook = ({ method, path }: { method: string; path: string }) =>
    method === 'GET' && /\/responses\/\w+/.test(path)

  beforeEach(async () => {
    intercept = () => undefined
    emulator = await startEmulator({ onRequest: (request) => intercept(request) })
    relay = await startRelay(emulator.url)
  })
  afterEach(async () => {
    await relay.close()
    await emulator.close()
  })

  async function startAndLoseStream(settleMs: number) {
    const provider = connect(settleMs)
    const { id } = await provider.createThread({}, options)
    relay.loseFrom = ({ method, path }) =>
      method === 'POST' && path.endsWith('/responses') ? 'event: response.in_progress' : undefined
    const request = { messages: ['reply with exactly: here'], parameters: { model: 'gpt-4o' } }
    return provider.startRun(id, request, '1', async () => {}, options)
  }

  it('asks for the rest of a broken stream, and needs nothing more', async () => {
    expect(await startAndLoseStream(0)).toMatchObject({ status: 'completed', text: 'here' })
    const looks = relay.requests.filter(isLook)
    expect(looks).toHaveLength(1)
    expect(looks[0]?.path).toMatch(/stream=true/)
    // The last event that arrived was number 0 or 1 (created, queued).
    expect(looks[0]?.path).toMatch(/starting_after=[01](&|$)/)
  })

  it('looks at the response where the rest of the stream is refused', async () => {
    let refused = false
    intercept = (request) => {
      if (refused || !isLook(request)) return undefined
      refused = true
      return { status: 400, body: { error: { message: 'This response cannot be streamed.' } } }
    }
    expect(await startAndLoseStream(0)).toMatchObject({ status: 'completed', text: 'here' })
    expect(refused).toBe(true)
  })

  it('gives a response that cannot be found the time to become readable', async () => {
    let missing = 4
    intercept = (request) => (isLook(request) && missing-- > 0 ? notFound : undefined)
    expect(await startAndLoseStream(60_000)).toMatchObject({ status: 'completed', text: 'here' })
  })

  it('believes that a response is gone once that time is over', async () => {
    intercept = (request) => (isLook(request) ? notFound : undefined)
    await expect(startAndLoseStream(30)).rejects.toMatchObject({
      code: 'run_not_found',
      failure: { decision: 'fail', status: 404 },
    })
  })

  it('never tells the caller to start again what was started, however the look is refused', async () => {
    intercept = (request) =>
      isLook(request)
        ? { status: 429, body: {}, headers: { 'x-should-retry': 'false' } }
        : undefined
    await expect(startAndLoseStream(0)).rejects.toMatchObject({
      code: 'rate_limited',
      failure: { decision: 'reconcile', sent: true },
    })
  })
})
