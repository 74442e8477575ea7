import type { Failure, Outcome } from '../model/outcome.ts'
import type { RetryClass, RetryLimits, RetryPolicy } from '../model/retry.ts'
import { RunFailed } from '../operations/run-outcome.ts'
import type { ProviderFailure } from '../provider/classify-error.ts'
import { ProviderError } from '../provider/provider-error.ts'

const defaults: Required<RetryLimits> = { max_attempts: 5, base_ms: 1_000, max_ms: 60_000 }

/** Longest pause between two looks whether a foreign run is over, in milliseconds. */
const waitMaxMs = 5_000

/** How often the operation was tried before this failure. */
export type Tries = {
  /** Attempts that counted. */
  failures: number
  /** Attempts that did not: they met a foreign run, a rate limit, a lane that rests or is full. */
  waits: number
}

/** The kind of failure, by which its limits are looked up. */
export function retryClassOf(error: unknown): RetryClass {
  if (error instanceof RunFailed) return 'run'
  if (!(error instanceof ProviderError)) return 'internal'
  const { status, code } = error.failure
  // `provider_error` without a status is an answer that nobody can read.
  return status === undefined && code !== 'provider_error' ? 'connection' : 'server'
}

/**
 * The limits for one class of errors. What the operation says about the class wins over what it says in
 * general, then come the configuration in the same order and the defaults.
 */
export function retryLimits(
  retryClass: RetryClass,
  operation: RetryPolicy | null,
  configured: RetryPolicy,
): Required<RetryLimits> {
  const { max_attempts, base_ms, max_ms } = {
    ...defaults,
    ...configured,
    ...configured[retryClass],
    ...operation,
    ...operation?.[retryClass],
  }
  return { max_attempts, base_ms, max_ms }
}

/** Attempts after which a call of unknown outcome is not sent again: the fewer of those that leave one. */
export function resendAttempts(operation: RetryPolicy | null, configured: RetryPolicy): number {
  const classes = ['connection', 'server'] as const
  return Math.min(...classes.map((one) => retryLimits(one, operation, configured).max_attempts))
}

/**
 * What becomes of an operation that ran into `failure`: another attempt after a pause, or its end.
 * The pause grows exponentially, is jittered to between a half and all of it, and follows the
 * provider's Retry-After where there is one. `random` gives numbers from 0 to 1.
 */
export function afterFailure(
  failure: ProviderFailure,
  { failures, waits }: Tries,
  limits: Required<RetryLimits>,
  random: () => number = Math.random,
): Exclude<Outcome, { status: 'completed' }> {
  const error = describe(failure)
  const { decision, retryAfterMs } = failure
  if (decision === 'fail' || decision === 'park') return { status: 'failed', error }
  const burnsAttempt = decision !== 'wait_for_run'
  if (burnsAttempt && failures + 1 >= limits.max_attempts) return { status: 'failed', error }

  const jitter = (ms: number) => ms * (0.5 + random() / 2)
  const ceilingMs = burnsAttempt ? limits.max_ms : Math.min(waitMaxMs, limits.max_ms)
  const backoffMs = Math.min(limits.base_ms * 2 ** (burnsAttempt ? failures : waits), ceilingMs)
  const delayMs =
    retryAfterMs !== undefined ? retryAfterMs + jitter(limits.base_ms) : jitter(backoffMs)
  return { status: 'retry', error, delayMs: Math.round(delayMs), burnsAttempt }
}

/** As `error` of an operation holds it. */
export function describe({ code, message, status, requestId }: ProviderFailure): Failure {
  return {
    code,
    message,
    ...(status !== undefined && { provider_status: status }),
    ...(requestId !== undefined && { request_id: requestId }),
  }
}
