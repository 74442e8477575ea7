import { APIError, NotFoundError, OpenAI } from 'openai'
import type { ProviderName } from '../model/thread.ts'
import { classifyError } from './classify-error.ts'
import { gatedFetch, givenUp } from './gated-fetch.ts'
import type { CallOptions } from './provider.ts'
import { ProviderError } from './provider-error.ts'

export type ProviderSettings = {
  apiKey: string
  /** With the version, e.g. `http://127.0.0.1:4010/v1`. Default: OpenAI's own. */
  baseUrl?: string
  /** See `Profile.settleMs`. */
  settleMs?: number
  /** First pause between two looks at a run that cannot be streamed, in milliseconds; grows to 5 s. Default 500. */
  pollMs?: number
  /** Asked before every request, repetitions and further pages included: false refuses it. Default: always true. */
  mayCall?: () => boolean
}

export function createClient({ apiKey, baseUrl, mayCall = () => true }: ProviderSettings): OpenAI {
  return new OpenAI({
    apiKey,
    // What is not given here, the SDK would take from the environment.
    baseURL: baseUrl ?? 'https://api.openai.com/v1',
    organization: null,
    project: null,
    logLevel: 'off',
    maxRetries: 0,
    fetch: gatedFetch(mayCall),
  })
}

/** For reads, and for writes that may be doubled: the SDK may send it up to three times. */
export const repeatable = ({ signal, timeoutMs }: CallOptions) => ({
  signal,
  timeout: timeoutMs,
  maxRetries: 2,
})

/** For what creates something: no provider has idempotency keys here, so a repetition could double it. */
export const once = ({ signal, timeoutMs }: CallOptions) => ({
  signal,
  timeout: timeoutMs,
  maxRetries: 0,
})

/** For what is to be gone: gone is gone. */
export function unlessGone(error: unknown): void {
  if (!(error instanceof NotFoundError)) throw error
}

/** Does `work` at a provider; whatever it throws becomes a ProviderError. */
export async function attempt<T>(
  provider: ProviderName,
  options: Pick<CallOptions, 'signal'>,
  work: () => Promise<T>,
): Promise<T> {
  if (options.signal.aborted) throw givenUp()
  try {
    return await work()
  } catch (error) {
    if (error instanceof ProviderError) throw error
    // A reply's own text may quote a part of the key: what is fit to be read is in the failure.
    const cause = error instanceof APIError && error.status !== undefined ? undefined : error
    throw new ProviderError(classifyError(error, provider), { cause })
  }
}
