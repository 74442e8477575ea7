import { InturnError } from '../errors.ts'
import { isFinal } from '../model/operation.ts'
import { providerThreadOf } from '../store/holds.ts'
import { describeStanding, type OperationState } from '../store/operations.ts'
import { HoldLostError, resultOf } from './errors.ts'
import { HoldLease } from './hold-lease.ts'
import type { JoinOptions } from './new-operation.ts'
import type { HandleContext, OperationHandle } from './operation-handle.ts'
import type { ThreadHandle } from './thread-handle.ts'
import { untilSettled, type WaitOptions } from './until-settled.ts'

/** What code that holds a thread gets. */
export type Held = {
  /** Aborted when the hold is lost, and when the caller's own signal is. */
  signal: AbortSignal
  /** `conv_…` or `thread_…`; null while nothing of the thread exists at the provider. */
  providerThreadId: string | null
  /** The hold. */
  operationId: number
}

export type HoldOptions = Pick<JoinOptions, 'priority' | 'userId' | 'ifBusy'> & {
  /**
   * How long the thread stays held where this process dies or loses its database, in milliseconds, from
   * 100 to a day. Default 60000. It is renewed after each third of it.
   */
  leaseMs?: number
  /** Longest wait for the turn, in milliseconds; then the hold is withdrawn. Default: as long as it takes. */
  timeoutMs?: number
  /** Withdraws the hold while it waits; is passed on to the code that has the thread. */
  signal?: AbortSignal
}

/** See `ThreadHandle.hold`. */
export async function hold<T>(
  thread: ThreadHandle,
  context: HandleContext,
  work: (held: Held) => Promise<T> | T,
  { leaseMs = 60_000, timeoutMs, signal, ...join }: HoldOptions,
): Promise<T> {
  signal?.throwIfAborted()
  const handle = await thread.enqueue('hold', { lease_ms: leaseMs }, join)
  await untilHeld(context, handle, { timeoutMs, signal })
  const { id: operationId } = handle
  const lease = new HoldLease(context, operationId, thread.id, leaseMs)
  await lease.begin()
  let value: T
  try {
    const providerThreadId = await providerThreadOf(context.database, thread.id)
    const signals = signal ? [lease.signal, signal] : [lease.signal]
    value = await work({ signal: AbortSignal.any(signals), providerThreadId, operationId })
  } catch (error) {
    await lease.end().catch(() => {}) // what the caller's code says is what is to be told
    throw error
  }
  await lease.end()
  return value
}

async function untilHeld(
  { database, watch }: HandleContext,
  handle: OperationHandle<'hold'>,
  options: WaitOptions,
): Promise<void> {
  const { id, threadId } = handle
  const hasBegun = ({ status, held }: OperationState) => held || isFinal(status)
  let state: OperationState | null
  try {
    state = await untilSettled(watch, id, options, hasBegun)
  } catch (error) {
    await handle.cancel().catch(() => {}) // else it ends with its lease
    throw error
  }
  if (state === null) {
    const standing = await describeStanding(database, id, threadId).catch(() => 'not known')
    await handle.cancel()
    throw new InturnError(
      'hold_timeout',
      `Hold ${id} did not get thread "${threadId}" within ${options.timeoutMs} ms and was withdrawn: it was ${standing}`,
    )
  }
  if (state.held) return
  resultOf(state)
  throw new HoldLostError(id, threadId, 'somebody else released it')
}
