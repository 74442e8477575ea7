import { existsSync, readFileSync } from 'node:fs'
import { APIConnectionError, APIConnectionTimeoutError, APIError, APIUserAbortError } from 'openai'
import { describe, expect, it } from 'vitest'
import { classifyError } from '../../src/provider/classify-error.ts'
import { ProviderError } from '../../src/provider/provider-error.ts'

type Body = { message?: string; type?: string; param?: string | null; code?: string | null }

/** A reply as the SDK turns it into an error. */
function reply(status: number, body: Body | undefined, headers: Record<string, string> = {}) {
  const error = body && { type: 'invalid_request_error', param: null, code: null, ...body }
  return APIError.generate(status, error && { error }, undefined, new Headers(headers))
}

function fetchFailed(cause: object) {
  const failed = new TypeError('fetch failed', { cause: Object.assign(new Error('socket'), cause) })
  return new APIConnectionError({ cause: failed })
}

describe('classifyError', () => {
  it('waits for the foreign run that holds a thread, and names it', () => {
    const message = (text: string) => classifyError(reply(400, { message: text }))
    expect(message('Thread thread_abc already has an active run run_XyZ1.')).toMatchObject({
      code: 'thread_busy',
      decision: 'wait_for_run',
      blockingRunId: 'run_XyZ1',
      status: 400,
    })
    expect(message("Can't add messages to thread_abc while a run run_Q7 is active.")).toMatchObject(
      { code: 'thread_busy', decision: 'wait_for_run', blockingRunId: 'run_Q7' },
    )
    expect(
      classifyError(reply(409, { message: 'Conversation already has an active invocation.' })),
    ).toMatchObject({ code: 'thread_busy', decision: 'wait_for_run', blockingRunId: undefined })
  })

  it.each([400, 409])(
    'waits for a locked conversation, whether the status is %i or not',
    (status) => {
      const locked = reply(status, {
        message: 'Another process is currently operating on this conversation.',
        param: 'conversation',
        code: 'conversation_locked',
      })
      expect(classifyError(locked)).toMatchObject({
        code: 'conversation_locked',
        decision: 'wait_for_run',
      })
    },
  )

  it.each([
    [{ message: 'No tool output found for function call call_1.' }, 'tool_output_missing'],
    [
      {
        message:
          "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1'.",
      },
      'reasoning_item_missing',
    ],
    [
      {
        message:
          "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
      },
      'reasoning_item_missing',
    ],
  ])('parks a stuck conversation: %j', (body, code) => {
    expect(classifyError(reply(400, body))).toMatchObject({ code, decision: 'park' })
  })

  it('tells what to do about a conversation that is too long', () => {
    const body = { message: 'At most 128000 tokens.', code: 'context_length_exceeded' }
    expect(classifyError(reply(400, body))).toMatchObject({
      code: 'context_length_exceeded',
      decision: 'fail',
      message: expect.stringMatching(/^At most 128000 tokens\. The conversation is too long/),
    })
  })

  it.each([
    [429, { code: 'rate_limit_exceeded' }, 'rate_limit_exceeded'],
    [429, {}, 'rate_limited'],
    [429, undefined, 'rate_limited'],
    [429, { type: 'rate_limit_error', code: 'slow_down' }, 'slow_down'],
    [
      503,
      { type: 'service_unavailable_error', code: 'server_is_overloaded' },
      'server_is_overloaded',
    ],
    [503, { message: 'That model is currently overloaded.' }, 'overloaded'],
    [408, {}, 'request_incomplete'],
    [409, {}, 'conflict'],
  ])('sends again what was refused before anything was done: %i %j', (status, body, code) => {
    const decision = 'retry'
    expect(classifyError(reply(status, body))).toMatchObject({ code, decision, sent: true })
  })

  it.each([500, 502, 503, 504])('looks before sending again after a %i', (status) => {
    expect(classifyError(reply(status, undefined))).toMatchObject({
      code: 'provider_error',
      decision: 'reconcile',
      message: `The provider answered with HTTP status ${status}.`,
    })
  })

  it.each([
    [401, { code: 'invalid_api_key' }, 'invalid_api_key'],
    [401, {}, 'authentication_failed'],
    [403, { code: 'unsupported_country_region_territory' }, 'unsupported_country_region_territory'],
    [403, {}, 'permission_denied'],
    [429, { type: 'insufficient_quota', code: 'insufficient_quota' }, 'insufficient_quota'],
    [429, { type: 'insufficient_quota', code: null }, 'quota_exhausted'],
    [429, { code: 'credit_balance_exhausted' }, 'credit_balance_exhausted'],
    [429, { code: 'organization_spend_limit_exceeded' }, 'organization_spend_limit_exceeded'],
    [429, { code: 'billing_not_active' }, 'billing_not_active'],
  ])('lets the key rest: %i %j', (status, body, code) => {
    expect(classifyError(reply(status, body))).toMatchObject({ code, decision: 'rest' })
  })

  it('does not blame the key for a model that it may not use', () => {
    const refused = reply(403, { message: 'No access to model `m`.', code: 'model_not_found' })
    expect(classifyError(refused)).toMatchObject({ code: 'model_not_found', decision: 'fail' })
  })

  it.each(["No thread found with id 'thread_1'.", "Conversation with id 'conv_1' not found."])(
    'fails on a thread that the provider does not know: %s',
    (message) => {
      for (const provider of ['assistants', 'responses'] as const)
        expect(classifyError(reply(404, { message }), provider)).toMatchObject({
          code: 'provider_thread_not_found',
          decision: 'fail',
          message,
        })
    },
  )

  it('takes a malformed thread id for an unknown one', () => {
    const message = "Invalid 'thread_id': 'x'. Expected an ID that begins with 'thread'."
    expect(classifyError(reply(400, { message }))).toMatchObject({
      code: 'provider_thread_not_found',
    })
  })

  it.each([
    ["No run found with id 'run_1'.", 'run_not_found'],
    ["Response with id 'resp_1' not found.", 'run_not_found'],
    ["No assistant found with id 'asst_1'.", 'assistant_not_found'],
    ["No message found with id 'msg_1'.", 'item_not_found'],
    ["Item with id 'msg_1' not found.", 'item_not_found'],
    ['Invalid URL (GET /v1/nothing)', 'assistants_api_gone'],
  ])('tells which object is unknown: %s', (message, code) => {
    const failure = classifyError(reply(404, { message }), 'assistants')
    expect(failure).toMatchObject({ code, decision: 'fail' })
  })

  it('tells a server without the Assistants API from an unknown thread', () => {
    const gone = [
      reply(404, undefined),
      reply(404, { message: 'Invalid URL', code: 'unknown_url' }),
    ]
    for (const error of gone) {
      expect(classifyError(error, 'assistants')).toMatchObject({
        code: 'assistants_api_gone',
        decision: 'fail',
        message: expect.stringContaining('"responses"'),
      })
      expect(classifyError(error, 'responses').code).not.toBe('assistants_api_gone')
    }
  })

  it.each([
    [400, { message: "Unknown parameter: 'x'.", code: 'unknown_parameter' }, 'unknown_parameter'],
    [400, { message: 'Wrong.' }, 'invalid_request'],
    [400, { message: 'Wrong.', code: '400' }, 'invalid_request'],
    [422, undefined, 'invalid_request'],
    [400, { message: "Cannot cancel run with status 'completed'." }, 'run_not_cancellable'],
    [400, { message: 'Cannot cancel a completed response.' }, 'run_not_cancellable'],
    [409, { message: "Cannot cancel response 'r' with status 'failed'" }, 'run_not_cancellable'],
  ])('fails on a wrong request: %i %j', (status, body, code) => {
    expect(classifyError(reply(status, body))).toMatchObject({ code, decision: 'fail' })
  })

  it('keeps the request id and the wait that the provider asks for', () => {
    const wait = (headers: Record<string, string>) =>
      classifyError(reply(429, {}, headers)).retryAfterMs
    expect(classifyError(reply(500, {}, { 'x-request-id': 'req_1' })).requestId).toBe('req_1')
    expect(wait({ 'retry-after': '2.5' })).toBe(2500)
    expect(wait({ 'retry-after-ms': '120', 'retry-after': '2' })).toBe(120)
    expect(wait({ 'retry-after': new Date(Date.now() + 60_000).toUTCString() })).toBeGreaterThan(
      50_000,
    )
    expect(wait({ 'retry-after': new Date(0).toUTCString() })).toBe(0)
    expect(wait({ 'retry-after': 'soon' })).toBeUndefined()
    expect(wait({})).toBeUndefined()
  })

  it('never repeats what looks like a key, nor a page of HTML', () => {
    const quoted = { message: 'Incorrect API key provided: sk-proj-ab**yz.' }
    expect(classifyError(reply(401, quoted)).message).not.toContain('sk-')
    expect(classifyError(reply(400, quoted)).message).toBe('Incorrect API key provided: sk-…')
    const page = APIError.generate(502, undefined, '<html>secret</html>', new Headers())
    expect(classifyError(page).message).toBe('The provider answered with HTTP status 502.')
    expect(classifyError(reply(400, { message: 'x'.repeat(9000) })).message).toHaveLength(500)
  })

  it.each([
    { code: 'ECONNREFUSED', syscall: 'connect' },
    { code: 'ENOTFOUND', syscall: 'getaddrinfo' },
    { code: 'UND_ERR_CONNECT_TIMEOUT' },
    { code: 'CERT_HAS_EXPIRED' },
    { code: 'ECONNREFUSED', errors: [{ code: 'ECONNREFUSED', syscall: 'connect' }] },
  ])('knows that nothing was sent when the connection never opened: %j', (cause) => {
    expect(classifyError(fetchFailed(cause))).toMatchObject({
      code: 'provider_unreachable',
      decision: 'retry',
      sent: false,
      message: expect.stringContaining(cause.code),
    })
  })

  it.each([
    [fetchFailed({ code: 'ECONNRESET', syscall: 'read' }), 'connection_lost'],
    [fetchFailed({ code: 'UND_ERR_SOCKET' }), 'connection_lost'],
    [Object.assign(new Error('read'), { code: 'ECONNRESET' }), 'connection_lost'],
    [new APIConnectionError({}), 'connection_lost'],
    [new APIConnectionTimeoutError(), 'provider_timeout'],
    [new APIUserAbortError(), 'aborted'],
    [new DOMException('stop', 'AbortError'), 'aborted'],
    [new SyntaxError('Unexpected token'), 'provider_error'],
    [undefined, 'provider_error'],
  ])('looks before sending again when the outcome is unknown: %s', (error, code) => {
    expect(classifyError(error)).toMatchObject({ code, decision: 'reconcile', sent: true })
  })

  it('hands back the failure of what is classified already', () => {
    const failure = classifyError(reply(429, {}))
    expect(classifyError(new ProviderError(failure))).toBe(failure)
  })

  // Recorded and quoted bodies of the real API; they are not part of the project.
  const bodies = new URL(
    `file://${process.env.INTURN_SHARED ?? `${process.cwd()}/../shared`}/openai/errors.json`,
  )
  it.skipIf(!existsSync(bodies))('knows every conflict that was ever seen on the wire', () => {
    const { errors } = JSON.parse(readFileSync(bodies, 'utf8')) as {
      errors: { id: string; http: number; error: Body }[]
    }
    const decisions = Object.fromEntries(
      errors.map(({ id, http, error }) => [id, classifyError(reply(http, error)).decision]),
    )
    expect(decisions).toMatchObject({
      run_conflict: 'wait_for_run',
      message_conflict: 'wait_for_run',
      conversation_locked: 'wait_for_run',
      open_function_call: 'park',
      run_empty_thread: 'fail',
      response_not_found: 'fail',
      conversation_not_found: 'fail',
    })
  })
})
