/**
 * Kinds of failure that have a retry policy of their own. A rate limit, a resting key and a foreign run
 * have none: waiting for them burns no attempt.
 */
export const retryClasses = [
  /** The provider could not be reached, or the connection broke or timed out. */
  'connection',
  /** The provider answered that it is overloaded or broken. */
  'server',
  /** A run was started and failed or expired for a reason that passes. */
  'run',
  /** inturn or its database could not go on. */
  'internal',
] as const
export type RetryClass = (typeof retryClasses)[number]

/** What is left out comes from the next wider place: operation, then configuration, then the defaults. */
export type RetryLimits = {
  /** Attempts that count before the operation fails, from 1 to 1000. */
  max_attempts?: number
  /** First pause, in milliseconds; doubles with each further one. */
  base_ms?: number
  /** Longest pause, in milliseconds, unless the provider asks for a longer one. */
  max_ms?: number
}

/** Limits for every class, and for single ones: `{"max_attempts": 5, "run": {"max_attempts": 2}}`. */
export type RetryPolicy = RetryLimits & { [Class in RetryClass]?: RetryLimits }
