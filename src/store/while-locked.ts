import { setTimeout as sleep } from 'node:timers/promises'

const pauseMs = { first: 20, longest: 1_000 }

/**
 * Repeats a statement that a user's open transaction, or a database that is away for a moment, does
 * not let through: it returns `locked` or throws then. Rejects with the signal's reason once aborted.
 */
export async function whileLocked<T>(
  signal: AbortSignal,
  statement: () => Promise<T | typeof locked>,
): Promise<T> {
  for (let pause = pauseMs.first; ; pause = Math.min(pause * 2, pauseMs.longest)) {
    signal.throwIfAborted()
    const answer = await statement().catch(passing)
    if (answer !== locked) return answer
    await sleep(pause, undefined, { signal })
  }
}

/** What a statement returns that found its row held by somebody's transaction. */
export const locked = Symbol('locked')

/** Connection lost, deadlock or serialization, no resources, not available now, shutting down. */
const passingClasses = /^(08|40|53|55|57)/

function passing(error: unknown): typeof locked {
  const { code } = error as { code?: unknown }
  const sqlState = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined
  if (sqlState !== undefined && !passingClasses.test(sqlState)) throw error
  if (error instanceof TypeError || error instanceof RangeError) throw error
  return locked
}
