import { describe, expect, it } from 'vitest'
import { afterFailure, retryClassOf, retryLimits } from '../../src/dispatcher/retry-policy.ts'
import { RunFailed } from '../../src/operations/run-outcome.ts'
import type { ProviderFailure } from '../../src/provider/classify-error.ts'
import type { Decision } from '../../src/provider/error-rules.ts'
import { ProviderError } from '../../src/provider/provider-error.ts'

const limits = { max_attempts: 5, base_ms: 1_000, max_ms: 10_000 }
const first = { failures: 0, waits: 0 }
/** No jitter: the whole pause. */
const longest = () => 1
const shortest = () => 0

const failure = (decision: Decision, more: Partial<ProviderFailure> = {}): ProviderFailure => ({
  code: 'some_code',
  message: 'Some words.',
  decision,
  sent: true,
  ...more,
})

describe('the pause before the next attempt', () => {
  const pauses = (decision: Decision, tries: Array<Partial<typeof first>>) =>
    tries.map((some) =>
      afterFailure(
        failure(decision),
        { ...first, ...some },
        { ...limits, max_attempts: 99 },
        longest,
      ),
    )

  it('doubles with each attempt that counted, up to a ceiling', () => {
    const tries = [0, 1, 2, 3, 4, 20].map((failures) => ({ failures, waits: 3 }))
    expect(pauses('retry', tries)).toMatchObject(
      [1_000, 2_000, 4_000, 8_000, 10_000, 10_000].map((delayMs) => ({ delayMs })),
    )
  })

  it('doubles with each wait for a foreign run, which is looked at every few seconds', () => {
    const tries = [0, 1, 2, 3, 20].map((waits) => ({ failures: 3, waits }))
    expect(pauses('wait_for_run', tries)).toMatchObject(
      [1_000, 2_000, 4_000, 5_000, 5_000].map((delayMs) => ({ delayMs })),
    )
  })

  it('is jittered down to its half', () => {
    expect(afterFailure(failure('retry'), first, limits, shortest)).toMatchObject({ delayMs: 500 })
  })

  it("is the provider's Retry-After and a little more, also above the ceiling", () => {
    const asked = failure('retry', { retryAfterMs: 60_000, status: 503 })
    expect(afterFailure(asked, first, limits, shortest)).toMatchObject({ delayMs: 60_500 })
    expect(afterFailure(asked, first, limits, longest)).toMatchObject({ delayMs: 61_000 })
  })
})

describe('an attempt', () => {
  it.each([
    ['retry', {}, true],
    ['reconcile', {}, true],
    ['wait_for_run', {}, false],
    ['retry', { status: 503 }, true],
  ] as const)('that ends in %s %o counts: %s', (decision, more, burnsAttempt) => {
    const outcome = afterFailure(failure(decision, more), first, limits)
    expect(outcome).toMatchObject({ status: 'retry', burnsAttempt })
  })

  it('is the last one when the limit is reached, unless it does not count', () => {
    const tries = { failures: 4, waits: 0 }
    expect(afterFailure(failure('retry'), tries, limits).status).toBe('failed')
    expect(afterFailure(failure('reconcile'), tries, limits).status).toBe('failed')
    expect(afterFailure(failure('wait_for_run'), tries, limits).status).toBe('retry')
    expect(afterFailure(failure('retry'), { failures: 3, waits: 50 }, limits).status).toBe('retry')
  })

  it.each(['fail', 'park'] as const)('is the only one when the decision is %s', (decision) => {
    expect(afterFailure(failure(decision), first, limits).status).toBe('failed')
  })
})

describe('the limits of a class of errors', () => {
  it('are the defaults where nobody says anything', () => {
    const expected = { max_attempts: 5, base_ms: 1_000, max_ms: 60_000 }
    expect(retryLimits('server', null, {})).toEqual(expected)
    expect(retryLimits('server', {}, { run: { max_attempts: 1 } })).toEqual(expected)
  })

  const configured = { max_attempts: 10, base_ms: 20, run: { max_attempts: 11 } }
  it.each([
    ['server', null, 10],
    ['run', null, 11],
    ['server', { max_attempts: 12 }, 12],
    ['run', { max_attempts: 12 }, 12],
    ['run', { max_attempts: 12, run: { max_attempts: 13 } }, 13],
    ['server', { max_attempts: 12, run: { max_attempts: 13 } }, 12],
    ['server', { run: { max_attempts: 13 } }, 10],
  ] as const)('of %s with %o: %i attempts', (retryClass, operation, max_attempts) => {
    const found = retryLimits(retryClass, operation, configured)
    expect(found).toEqual({ max_attempts, base_ms: 20, max_ms: 60_000 })
  })

  it('is told by where the failure came from', () => {
    const of = (more: Partial<ProviderFailure>) =>
      retryClassOf(new ProviderError(failure('reconcile', more)))
    expect(of({ code: 'connection_lost' })).toBe('connection')
    expect(of({ code: 'provider_unreachable', sent: false })).toBe('connection')
    expect(of({ code: 'provider_error', status: 500 })).toBe('server')
    expect(of({ code: 'overloaded', status: 503 })).toBe('server')
    expect(of({ code: 'provider_error' })).toBe('server')
    expect(retryClassOf(new RunFailed({ code: 'server_error', message: 'x' }, {}))).toBe('run')
    expect(retryClassOf(new TypeError('x'))).toBe('internal')
  })
})

it('says what the provider said, for people to quote', () => {
  const told = failure('fail', { status: 400, requestId: 'req_1', retryAfterMs: 5 })
  expect(afterFailure(told, first, limits)).toEqual({
    status: 'failed',
    error: {
      code: 'some_code',
      message: 'Some words.',
      provider_status: 400,
      request_id: 'req_1',
    },
  })
  expect(afterFailure(failure('fail'), first, limits)).toEqual({
    status: 'failed',
    error: { code: 'some_code', message: 'Some words.' },
  })
})
