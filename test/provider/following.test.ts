import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import type { ProviderName } from '../../src/model/thread.ts'
import {
  failureOf,
  neverStarted,
  options,
  runPath,
  runsPath,
  useProvider,
  who,
} from './use-provider.ts'

/** An event soon after the run's id is known, and one while it answers. */
const eventsOf: Record<ProviderName, readonly [string, string]> = {
  responses: ['response.in_progress', 'response.output_text.delta'],
  assistants: ['thread.run.in_progress', 'thread.message.delta'],
}

describe.each(['responses', 'assistants'] as const)('following a run of "%s"', (name) => {
  const at = useProvider(name)
  const [soon, later] = eventsOf[name]

  it('tells the id of a run before it reads anything else', async () => {
    const { id } = await at.provider.createThread({}, options)
    // With its stream broken behind the id, the next thing to do would be to look at the run.
    at.relay.loseFrom = ({ path }) => (runsPath.test(path) ? `event: ${soon}` : undefined)
    const told: Array<{ runId: string; requests: number }> = []
    const run = await at.say(id, 'Hi', '1', {
      onStarted: async (runId) => {
        const before = at.relay.requests.length
        for (let n = 0; n < 5; n++) await at.provider.lastItem(id, null, options)
        told.push({ runId, requests: at.relay.requests.length - before })
      },
    })
    expect(told).toEqual([{ runId: run.id, requests: 5 }])
  })

  it('hands on what goes wrong while the id is written down, and leaves the run alone', async () => {
    const { id } = await at.provider.createThread({}, options)
    const broken = new Error('database is away')
    let runId = ''
    const onStarted = async (started: string) => {
      runId = started
      throw broken
    }
    await expect(at.say(id, 'reply with exactly: on', '1', { onStarted })).rejects.toBe(broken)
    expect(await at.provider.followRun(id, runId, options)).toMatchObject({ text: 'on' })
  })

  it.each([soon, later])('goes on when the stream breaks at "%s"', async (event) => {
    const { id } = await at.provider.createThread({}, options)
    at.relay.loseFrom = ({ method, path }) =>
      method === 'POST' && runsPath.test(path) ? `event: ${event}` : undefined
    const told: string[] = []
    const onStarted = async (runId: string) => void told.push(runId)
    const run = await at.say(id, 'reply with exactly: still here', '1', { onStarted })
    expect(run).toMatchObject({ id: told[0], status: 'completed', text: 'still here' })
    expect(told).toHaveLength(1)
    expect(at.sent('POST', runsPath)).toHaveLength(1)
    expect(at.sent('GET', runPath)).not.toHaveLength(0)
  })

  it('has the whole answer of a run whose messages cannot be read yet', async () => {
    const { id } = await at.provider.createThread({}, options)
    at.emulator.setFaults([{ name: 'read_lag', ms: 300 }])
    at.relay.loseFrom = ({ method, path }) =>
      method === 'POST' && runsPath.test(path) ? `event: ${later}` : undefined
    const run = await at.say(id, 'reply with exactly: still here', '1')
    expect(run).toMatchObject({ status: 'completed', text: 'still here' })
    expect(run.last_item_id).toBe(at.emulator.history(id).at(-1)?.id)
  })

  it('goes on when the stream falls silent', async () => {
    const { id } = await at.provider.createThread({}, options)
    at.relay.loss = 'silence'
    at.relay.loseFrom = ({ path }) =>
      runsPath.test(path) || /stream=true/.test(path) ? `event: ${later}` : undefined
    const run = await at.say(id, 'reply with exactly: still here', '1', { timeoutMs: 300 })
    expect(run).toMatchObject({ status: 'completed', text: 'still here' })
    expect(at.sent('POST', runsPath)).toHaveLength(1)
  })

  it('does not wait for ever for the id of a run', async () => {
    const { id } = await at.provider.createThread({}, options)
    at.relay.loss = 'silence'
    at.relay.loseFrom = ({ path }) => (runsPath.test(path) ? 'event: ' : undefined)
    expect(await failureOf(at.say(id, 'Hi', '1', { timeoutMs: 300 }))).toMatchObject({
      decision: 'reconcile',
      sent: true,
    })
  })

  it('does not wait for ever for the id of a run among other events', async () => {
    const server = createServer((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      const event = 'event: keepalive\ndata: {"type": "keepalive", "sequence_number": 0}\n\n'
      const chatter = setInterval(() => response.write(event), 20)
      response.on('close', () => clearInterval(chatter))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    try {
      const provider = at.connect(`http://127.0.0.1:${port}/v1`)
      const request = { parameters: who[name] }
      const call = { ...options, timeoutMs: 300 }
      const start = provider.startRun(`${name}_1`, request, '1', neverStarted, call)
      expect(await failureOf(start)).toMatchObject({
        code: 'provider_timeout',
        decision: 'reconcile',
        sent: true,
      })
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  it('stops when it is told to, and the run goes on', async () => {
    const { id } = await at.provider.createThread({}, options)
    const stop = new AbortController()
    let runId = ''
    const start = at.say(id, 'reply with exactly: on and on', '2', {
      signal: stop.signal,
      onStarted: async (started) => {
        runId = started
        stop.abort()
      },
    })
    const expected = { code: 'aborted', decision: 'reconcile', sent: true }
    expect(await failureOf(start)).toMatchObject(expected)
    expect(await at.provider.followRun(id, runId, options)).toMatchObject({ text: 'on and on' })
  })
})
