import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Emulator, startEmulator } from '../../src/emulator/index.ts'
import { assistantsProvider } from '../../src/provider/assistants.ts'

const options = { signal: new AbortController().signal, timeoutMs: 10_000 }
let emulator: Emulator
let gone = false

beforeEach(async () => {
  gone = false
  emulator = await startEmulator({
    onRequest: () => (gone ? { status: 404, body: { error: { message: 'Gone.' } } } : undefined),
  })
})
afterEach(() => emulator.close())

const connect = () => assistantsProvider({ apiKey: 'key', baseUrl: emulator.url, pollMs: 5 })

it('tells a server without the Assistants API from one that does not know the thread', async () => {
  const unknown = `thread_${'0'.repeat(24)}`
  const provider = connect()
  const code = (work: Promise<unknown>) => work.catch((error) => error.code)
  expect(await code(provider.retrieveThread(unknown, options))).toBe('provider_thread_not_found')
  gone = true
  expect(await code(provider.retrieveThread(unknown, options))).toBe('assistants_api_gone')
  expect(await code(provider.createThread({}, options))).toBe('assistants_api_gone')
})

it('sends a message in the shape its caller gave it, with our tag beside the metadata', async () => {
  const provider = connect()
  const { id } = await provider.createThread({}, options)
  const content = [{ type: 'text', text: 'Hi' }]
  const message = { role: 'assistant' as const, content, metadata: { user: '42' } }
  await provider.addMessage(id, message, '7', options)
  expect(emulator.history(id)).toMatchObject([
    { role: 'assistant', text: 'Hi', metadata: { user: '42', inturn_operation: '7' } },
  ])
})
