import { APIError, OpenAI } from 'openai'
import type { ProviderName } from '../model/thread.ts'
import { everyWorker, type Half, type HalfOptions, isInOrder } from './half.ts'

const tries = 3
const model = 'gpt-4o'

/**
 * Every worker calls the provider itself, as one does without a queue. A request that fails is tried
 * three times in all, at once; when it fails for the third time, the iteration is lost.
 */
export async function withoutInturn(options: HalfOptions): Promise<Half> {
  const { provider, emulator, workers, iterations, signal, onProgress } = options
  const client = new OpenAI({
    apiKey: 'demo',
    baseURL: emulator.url,
    organization: null,
    project: null,
    logLevel: 'off',
    maxRetries: 0,
  })
  const thread = await createThread[provider](client)
  let gotThrough = 0
  let done = 0
  const startedAt = performance.now()
  await everyWorker(options, async (_worker, text) => {
    if (await succeeds(() => iterate[provider](client, thread, text, signal))) gotThrough++
    onProgress(++done)
  })
  return {
    gotThrough,
    of: workers * iterations,
    conflicts: emulator.stats.conflicts,
    inOrder: isInOrder(emulator.history(thread), options),
    wallMs: performance.now() - startedAt,
    busyMs: emulator.stats.busyMs,
  }
}

const createThread: Record<ProviderName, (client: OpenAI) => Promise<string>> = {
  assistants: async (client) => (await client.beta.threads.create()).id,
  responses: async (client) => (await client.conversations.create()).id,
}

type Iterate = (client: OpenAI, thread: string, text: string, signal: AbortSignal) => Promise<void>

/** Adds a message, runs, and waits for the end of the run. */
const iterate: Record<ProviderName, Iterate> = {
  async assistants(client, thread, text, signal) {
    const { messages, runs } = client.beta.threads
    await insist(() => messages.create(thread, { role: 'user', content: text }, { signal }))
    const poll = { signal, pollIntervalMs: 20 }
    await insist(() => runs.createAndPoll(thread, { assistant_id: 'asst_demo' }, poll))
  },
  async responses(client, thread, text, signal) {
    const body = { conversation: thread, model, input: text }
    await insist(() => client.responses.create(body, { signal }))
  },
}

async function insist<T>(request: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await request()
    } catch (error) {
      if (!isRefusal(error) || attempt === tries) throw error
    }
  }
}

async function succeeds(work: () => Promise<void>): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    if (!isRefusal(error)) throw error
    return false
  }
}

const isRefusal = (error: unknown) => error instanceof APIError && error.status === 400
