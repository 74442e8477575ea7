import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { Provider } from '../../src/provider/provider.ts'
import { createProviders } from '../../src/provider/registry.ts'
import { waitFor } from '../support/wait-for.ts'
import { failureOf, neverStarted, options, useProvider, who } from './use-provider.ts'

describe.each(['responses', 'assistants'] as const)(
  'a client of "%s" that may not call',
  (name) => {
    const at = useProvider(name)
    let mayCall = true
    let provider: Provider
    beforeEach(() => {
      mayCall = true
      const settings = { apiKey: 'key', baseUrl: at.relay.url, pollMs: 5, settleMs: 0 }
      provider = createProviders({ [name]: settings }, () => mayCall)[name] as Provider
    })

    test('sends nothing, neither what creates nor what reads, and says that nothing was sent', async () => {
      const { id } = await provider.createThread({}, options)
      mayCall = false
      const calls = [
        () => provider.createThread({}, options),
        () => provider.addMessage(id, 'Hi', '1', options),
        () => provider.lastItem(id, null, options),
        () => provider.startRun(id, { parameters: who[name] }, '1', neverStarted, options),
      ]
      for (const call of calls) {
        expect(await failureOf(call())).toEqual({
          code: 'aborted',
          message: 'The call was given up before it was sent.',
          decision: 'retry',
          sent: false,
        })
      }
      expect(at.relay.requests).toHaveLength(1)
      mayCall = true
      await provider.addMessage(id, 'Hi', '1', options)
      expect(at.relay.requests).toHaveLength(2)
    })

    test('sends nothing that was waiting for its connection when it may call no more', async () => {
      const stop = () => {
        mayCall = false
      }
      subscribe('undici:client:beforeConnect', stop)
      onTestFinished(() => void unsubscribe('undici:client:beforeConnect', stop))
      const call = provider.createThread({}, options)
      expect(await failureOf(call)).toMatchObject({ code: 'aborted', sent: false })
      expect(at.relay.requests).toEqual([])
    })

    test('asks for no further page', async () => {
      const { id } = await provider.createThread({}, options)
      for (let n = 0; n < 101; n++) await provider.addMessage(id, `Hi ${n}`, '1', options)
      const before = at.relay.requests.length
      at.relay.loseFrom = () => {
        mayCall = false // from the first page on
        return undefined
      }
      const search = provider.findMessage(id, 'not there', '2', null, options)
      expect(await failureOf(search)).toMatchObject({ code: 'aborted', sent: false })
      expect(at.relay.requests).toHaveLength(before + 1)
    })

    test('does not repeat a read that failed', async () => {
      const { id } = await provider.createThread({}, options)
      at.relay.loseFrom = () => {
        mayCall = false
        return ''
      }
      expect(await failureOf(provider.lastItem(id, null, options))).toMatchObject({
        code: 'aborted',
      })
      expect(at.relay.requests).toHaveLength(2)
    })

    test('looks no more at a run that goes on', async () => {
      const thinking = Promise.withResolvers<void>()
      at.thinking = thinking.promise
      const { id } = await provider.createThread({}, options)
      const runId = Promise.withResolvers<string>()
      const onStarted = async (started: string) => runId.resolve(started)
      const run = at.say(id, 'Hi', '1', { onStarted })
      const following = failureOf(provider.followRun(id, await runId.promise, options))
      await waitFor(() => at.relay.requests.length > 5)
      mayCall = false
      expect(await following).toMatchObject({ code: 'aborted', sent: false })
      const before = at.relay.requests.length
      thinking.resolve()
      await run
      expect(at.relay.requests).toHaveLength(before)
    })
  },
)
