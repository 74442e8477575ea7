import { setTimeout } from 'node:timers/promises'

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

/** The pause that a reply asks for, as the SDK's own polling reads it. */
export function pollAfterMs({ headers }: Response): number | undefined {
  const value = Number.parseInt(headers.get('openai-poll-after-ms') ?? '', 10)
  return value >= 0 ? value : undefined
}
