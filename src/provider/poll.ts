import { setTimeout } from 'node:timers/promises'
import { NotFoundError } from 'openai'

const pauseMaxMs = 5_000

/** What a look has found; `waitMs` is the pause that the provider asks for. */
export type Look<T> = { end?: T; waitMs?: number }

/** Looks again and again, at growing intervals, until there is an end. */
export async function poll<T extends object>(
  look: () => Promise<Look<T>>,
  { pollMs = 500, signal }: { pollMs?: number; signal: AbortSignal },
): Promise<T> {
  for (let pauseMs = pollMs; ; pauseMs = Math.min(pauseMs * 1.5, pauseMaxMs)) {
    const { end, waitMs = pauseMs } = await look()
    if (end) return end
    await setTimeout(waitMs, undefined, { signal })
  }
}

/**
 * The look, for something that is known to exist: that it cannot be found may only mean that it cannot
 * be read yet, so that counts for an answer `settleMs` after the first look and not before.
 */
export function unlessMissing<T>(
  look: () => Promise<Look<T>>,
  settleMs: number,
): () => Promise<Look<T>> {
  const since = performance.now()
  return async () => {
    try {
      return await look()
    } catch (error) {
      if (error instanceof NotFoundError && performance.now() - since < settleMs) return {}
      throw error
    }
  }
}

/** The pause that a reply asks for, as the SDK's own polling reads it. */
export function pollAfterMs({ headers }: Response): number | undefined {
  const value = Number.parseInt(headers.get('openai-poll-after-ms') ?? '', 10)
  return value >= 0 ? value : undefined
}
