import { setTimeout } from 'node:timers'
import type { CallOptions } from '../provider/provider.ts'

/**
 * Does `work`, whose calls are given up `limitMs` after `begin` was called with the time that had passed
 * by then, in milliseconds; from `begin` on, also as soon as `cut` is aborted. Null: they were.
 */
export async function withinTime<T>(
  call: CallOptions,
  limitMs: number,
  work: (call: CallOptions, begin: (passedMs: number) => void) => Promise<T>,
  cut?: AbortSignal,
): Promise<T | null> {
  const limit = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const end = () => limit.abort()
  const begin = (passedMs: number) => {
    timer = setTimeout(end, Math.max(0, limitMs - passedMs))
    cut?.addEventListener('abort', end)
    if (cut?.aborted) end()
  }
  try {
    return await work({ ...call, signal: AbortSignal.any([call.signal, limit.signal]) }, begin)
  } catch (error) {
    if (limit.signal.aborted && !call.signal.aborted) return null
    throw error
  } finally {
    clearTimeout(timer)
    cut?.removeEventListener('abort', end)
  }
}
