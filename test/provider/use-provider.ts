import { afterEach, beforeEach, expect } from 'vitest'
import {
  defaultModel,
  type Emulator,
  type EmulatorOptions,
  type RunFailure,
  startEmulator,
} from '../../src/emulator/index.ts'
import type { ProviderName } from '../../src/model/thread.ts'
import type { ProviderFailure } from '../../src/provider/classify-error.ts'
import type { Provider, RunParameters } from '../../src/provider/provider.ts'
import { ProviderError } from '../../src/provider/provider-error.ts'
import { createProviders } from '../../src/provider/registry.ts'
import { type Relay, startRelay } from './relay.ts'

export const options = { signal: new AbortController().signal, timeoutMs: 10_000 }

/** Where messages are added and listed, where runs are started, and where one run is looked at. */
export const messagesPath = /\/(messages|items)(\?|$)/
export const runsPath = /\/(runs|responses)(\?|$)/
export const runPath = /\/(runs|responses)\/\w+(\?|$)/

/** The least that says who is to answer. */
export const who: Record<ProviderName, RunParameters> = {
  responses: { model: 'gpt-4o' },
  assistants: { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' },
}

export const neverStarted = async () => {
  throw new Error('a run was started')
}

export async function failureOf(work: Promise<unknown>): Promise<ProviderFailure> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(error).toBeInstanceOf(ProviderError)
  return (error as ProviderError).failure
}

type SayOptions = RunParameters & {
  onStarted?: (runId: string) => Promise<void>
  timeoutMs?: number
  signal?: AbortSignal
}

/** A fresh provider for each test, talking to an emulator through a relay that can lose answers. */
export function useProvider(name: ProviderName) {
  const at = {
    emulator: undefined as unknown as Emulator,
    relay: undefined as unknown as Relay,
    provider: undefined as unknown as Provider,
    intercept: (() => undefined) as NonNullable<EmulatorOptions['onRequest']>,
    /** How every run fails. */
    runFailure: null as RunFailure | null,
    /** What the model waits for before it answers. */
    thinking: undefined as Promise<void> | undefined,

    connect(baseUrl: string): Provider {
      const settings = { apiKey: 'key', baseUrl, pollMs: 5, settleMs: 2_000 }
      return createProviders({ [name]: settings })[name] as Provider
    },

    /** Adds a message and runs, in the way of the provider. */
    async say(threadId: string, message: string, tag: string, given: SayOptions = {}) {
      const {
        onStarted = async () => {},
        timeoutMs = options.timeoutMs,
        signal = options.signal,
        ...parameters
      } = given
      const request = { parameters: { ...who[name], ...parameters } }
      const call = { signal, timeoutMs }
      const { provider } = at
      if (provider.profile.runCarriesMessage)
        return provider.startRun(
          threadId,
          { ...request, messages: [message] },
          tag,
          onStarted,
          call,
        )
      await provider.addMessage(threadId, message, tag, options)
      return provider.startRun(threadId, request, tag, onStarted, call)
    },

    /** The requests that came through, oldest first. */
    sent: (method: string, path: RegExp) =>
      at.relay.requests.filter((request) => request.method === method && path.test(request.path)),
  }

  beforeEach(async () => {
    Object.assign(at, { intercept: () => undefined, runFailure: null, thinking: undefined })
    at.emulator = await startEmulator({
      onRequest: (request) => at.intercept(request),
      failRun: () => at.runFailure,
      model: async (request) => {
        await at.thinking
        return defaultModel(request)
      },
    })
    at.relay = await startRelay(at.emulator.url)
    at.provider = at.connect(at.relay.url)
  })
  afterEach(async () => {
    await at.relay.close()
    await at.emulator.close()
  })
  return at
}
