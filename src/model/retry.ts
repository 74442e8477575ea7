import { z } from 'zod'
import { nearest } from './nearest.ts'

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
  /** First pause, in milliseconds; doubles with each further one. At most a day. */
  base_ms?: number
  /** Longest pause, in milliseconds, unless the provider asks for a longer one. At most a day. */
  max_ms?: number
}

/** Limits for every class, and for single ones: `{"max_attempts": 5, "run": {"max_attempts": 2}}`. */
export type RetryPolicy = RetryLimits & { [Class in RetryClass]?: RetryLimits }

/** Lowest and highest value of each limit; `check_retry_policy` of the database says the same. */
const ranges = {
  max_attempts: [1, 1_000],
  base_ms: [1, 86_400_000],
  max_ms: [1, 86_400_000],
} as const satisfies Record<keyof RetryLimits, readonly [number, number]>

const limits = Object.fromEntries(
  Object.entries(ranges).map(([name, [lowest, highest]]) => [
    name,
    z
      .int(`must be a whole number from ${lowest} to ${highest}`)
      .min(lowest)
      .max(highest)
      .optional(),
  ]),
)
const classLimits = z.strictObject(limits, 'must be an object').optional()
const schema = z.strictObject(
  { ...limits, ...Object.fromEntries(retryClasses.map((name) => [name, classLimits])) },
  'must be an object',
)

/** What is wrong with `value` as a RetryPolicy, and what to write; null when it is fine. */
export function retryPolicyProblem(value: unknown): string | null {
  const issue = schema.safeParse(value).error?.issues[0]
  if (issue === undefined) return null
  const name = issue.path.join('.')
  if (issue.code !== 'unrecognized_keys') {
    const limit = issue.path.at(-1) as keyof typeof ranges
    const [lowest, highest] = ranges[limit] ?? []
    const must = lowest === undefined ? 'an object' : `a whole number from ${lowest} to ${highest}`
    return `"${name || 'retry'}" must be ${must}`
  }
  const known = [...Object.keys(ranges), ...(name ? [] : retryClasses)]
  const [key = ''] = issue.keys
  return `unknown key "${name && `${name}.`}${key}": did you mean "${nearest(key, known)}"? Known are ${known.join(', ')}`
}
