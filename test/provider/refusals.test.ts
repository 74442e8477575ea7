import { describe, expect, it } from 'vitest'
import { failureOf, messagesPath, neverStarted, options, useProvider, who } from './use-provider.ts'

describe.each(['responses', 'assistants'] as const)('a refusal by "%s"', (name) => {
  const at = useProvider(name)

  it.each([
    [429, { code: 'rate_limit_exceeded' }, 'retry'],
    [429, { code: 'insufficient_quota', type: 'insufficient_quota' }, 'rest'],
    [401, { code: 'invalid_api_key' }, 'rest'],
    [500, { code: null }, 'reconcile'],
    [503, { code: 'server_is_overloaded' }, 'retry'],
    [400, { code: 'context_length_exceeded' }, 'fail'],
    [400, { code: 'unknown_parameter' }, 'fail'],
  ])('of a creation is met once and understood: %i %j', async (status, error, decision) => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    const body = { error: { message: 'No.', type: 'x', param: null, ...error } }
    const headers = { 'retry-after-ms': '70', 'x-request-id': 'req_7', 'x-should-retry': 'true' }
    at.intercept = ({ method }) => (method === 'POST' ? { status, body, headers } : undefined)
    const expected = { decision, status, retryAfterMs: 70, requestId: 'req_7', sent: true }
    at.relay.requests.length = 0

    expect(await failureOf(provider.createThread({}, options))).toMatchObject(expected)
    expect(await failureOf(provider.addMessage(id, 'Hi', '1', options))).toMatchObject(expected)
    const request = { parameters: who[name] }
    const start = provider.startRun(id, request, '2', neverStarted, options)
    expect(await failureOf(start)).toMatchObject(expected)
    expect(at.relay.requests).toHaveLength(3)
  })

  it('of a look is met by looking again', async () => {
    const { id } = await at.provider.createThread({}, options)
    let failures = 2
    const headers = { 'retry-after-ms': '1' }
    at.intercept = ({ method }) =>
      method === 'GET' && failures-- > 0 ? { status: 500, body: {}, headers } : undefined
    expect(await at.provider.lastItem(id, null, options)).toBeNull()
    expect(at.sent('GET', messagesPath)).toHaveLength(3)
  })

  it('is spared where the provider could not take it', async () => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    at.relay.requests.length = 0
    const foreign = { responses: { response_format: 'auto' }, assistants: { text: {} } }[name]
    const request = { parameters: { ...who[name], ...foreign } }
    const expected = { code: 'unsupported_parameter', decision: 'fail', sent: false }
    const start = provider.startRun(id, request, '1', neverStarted, options)
    expect(await failureOf(start)).toMatchObject(expected)
    const message = {
      responses: { content: 'Hi', attachments: [{ file_id: 'file_1' }] },
      assistants: { content: 'Hi', role: 'system' as const },
    }[name]
    expect(await failureOf(provider.addMessage(id, message, '1', options))).toMatchObject(expected)
    expect(at.relay.requests).toHaveLength(0)
  })
})
