import type { OperationState } from '../store/operations.ts'
import type { SettleWatch } from './settle-watch.ts'

export type WaitOptions = {
  /** Longest wait, in milliseconds. Default: as long as it takes. */
  timeoutMs?: number
  /** Ends the wait, not the operation: the promise is then rejected with the signal's reason. */
  signal?: AbortSignal
}

/** The longest time that a timer of Node takes, in milliseconds. */
export const longestTimerMs = 2 ** 31 - 1

/** The state of an operation for which `isOver` (default: any final one); null: the time is up. Rejects as `SettleWatch.watch` does. */
export async function untilSettled(
  watch: SettleWatch,
  id: number,
  { timeoutMs, signal }: WaitOptions,
  isOver?: (state: OperationState) => boolean,
): Promise<OperationState | null> {
  signal?.throwIfAborted()
  const { settled, leave } = watch.watch(id, isOver)
  const onAbort = () => leave(signal?.reason)
  const late = Symbol('late')
  const timer =
    timeoutMs !== undefined && timeoutMs <= longestTimerMs
      ? setTimeout(() => leave(late), timeoutMs)
      : undefined
  signal?.addEventListener('abort', onAbort)
  try {
    return await settled
  } catch (error) {
    if (error !== late) throw error
    return null
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}
