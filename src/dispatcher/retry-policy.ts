import type { Failure, Outcome } from '../model/outcome.ts'
import type { ProviderFailure } from '../provider/classify-error.ts'

export type RetryLimits = {
  /** Attempts that count before the operation fails. */
  maxAttempts: number
  /** First pause, in milliseconds; doubles with each further one. */
  baseMs: number
  /** Longest pause, in milliseconds, unless the provider asks for a longer one. */
  maxMs: number
}

export const defaultBackoff = { baseMs: 1_000, maxMs: 60_000 }

/** How often the operation was tried before this failure. */
export type Tries = {
  /** Attempts that counted. */
  failures: number
  /** Attempts that did not: they met a foreign run, a rate limit, a resting key. */
  waits: number
}

/** Longest pause between two looks whether a foreign run is over, in milliseconds. */
const waitMaxMs = 5_000
/** Pause of an operation whose key may not do anything now, in milliseconds. */
const restMs = 30_000

/**
 * What becomes of an operation that ran into `failure`: another attempt after a pause, or its end.
 * The pause grows exponentially, is jittered to between a half and all of it, and follows the
 * provider's Retry-After where there is one. `random` gives numbers from 0 to 1.
 */
export function afterFailure(
  failure: ProviderFailure,
  { failures, waits }: Tries,
  limits: RetryLimits,
  random: () => number = Math.random,
): Exclude<Outcome, { status: 'completed' }> {
  const error = describe(failure)
  const { decision, retryAfterMs } = failure
  if (decision === 'fail' || decision === 'park') return { status: 'failed', error }
  const burnsAttempt = decision !== 'wait_for_run' && decision !== 'rest' && !isRateLimit(failure)
  if (burnsAttempt && failures + 1 >= limits.maxAttempts) return { status: 'failed', error }

  const jitter = (ms: number) => ms * (0.5 + random() / 2)
  const ceilingMs = decision === 'wait_for_run' ? Math.min(waitMaxMs, limits.maxMs) : limits.maxMs
  const backoffMs = Math.min(limits.baseMs * 2 ** (burnsAttempt ? failures : waits), ceilingMs)
  const delayMs =
    retryAfterMs !== undefined
      ? retryAfterMs + jitter(limits.baseMs)
      : jitter(decision === 'rest' ? restMs : backoffMs)
  return { status: 'retry', error, delayMs: Math.round(delayMs), burnsAttempt }
}

/** As `error` of an operation holds it. */
function describe({ code, message, status, requestId }: ProviderFailure): Failure {
  return {
    code,
    message,
    ...(status !== undefined && { provider_status: status }),
    ...(requestId !== undefined && { request_id: requestId }),
  }
}

/** Refused by HTTP status, or found out by a run that had started already. */
function isRateLimit({ status, code }: ProviderFailure): boolean {
  return status === 429 || /^(rate_limit|slow_down)/.test(code)
}
