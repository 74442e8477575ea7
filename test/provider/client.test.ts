import { afterEach, expect, it, vi } from 'vitest'
import { createClient } from '../../src/provider/client.ts'
import { pollAfterMs } from '../../src/provider/poll.ts'
import { createProviders } from '../../src/provider/registry.ts'

afterEach(() => vi.unstubAllEnvs())

it('takes nothing from the environment but what it is given', () => {
  vi.stubEnv('OPENAI_BASE_URL', 'http://127.0.0.1:9/elsewhere')
  vi.stubEnv('OPENAI_ORG_ID', 'org_of_the_shell')
  vi.stubEnv('OPENAI_PROJECT_ID', 'proj_of_the_shell')
  vi.stubEnv('OPENAI_LOG', 'debug')
  const client = createClient({ apiKey: 'key' })
  expect(client).toMatchObject({
    baseURL: 'https://api.openai.com/v1',
    organization: null,
    project: null,
    logLevel: 'off',
    maxRetries: 0,
  })
  expect(createClient({ apiKey: 'key', baseUrl: 'http://h/v1' }).baseURL).toBe('http://h/v1')
})

it('makes a provider for each that has settings, with its own settle time', () => {
  const providers = createProviders({ responses: { apiKey: 'key', settleMs: 7 } })
  expect(Object.keys(providers)).toEqual(['responses'])
  expect(providers.responses?.profile).toMatchObject({ runCarriesMessage: true, settleMs: 7 })
  expect(createProviders({})).toEqual({})
})

it('reads the pause that a reply asks for', () => {
  const asked = (value?: string) =>
    pollAfterMs(new Response(null, value ? { headers: { 'openai-poll-after-ms': value } } : {}))
  expect(asked('1500')).toBe(1500)
  expect(asked('soon')).toBeUndefined()
  expect(asked()).toBeUndefined()
})
