import { InturnError } from '../errors.ts'
import { lastInLine } from '../store/holds.ts'
import { OperationCancelledError } from './errors.ts'
import { hold } from './hold.ts'
import type { HandleContext } from './operation-handle.ts'
import type { ThreadHandle } from './thread-handle.ts'
import { longestTimerMs, untilSettled, type WaitOptions } from './until-settled.ts'

/** How long a thread stays taken where whoever looks at it dies just then, in milliseconds. */
const leaseMs = 10_000

/** See `ThreadHandle.idle`. */
export async function idle(
  thread: ThreadHandle,
  context: HandleContext,
  { timeoutMs, signal }: WaitOptions,
): Promise<void> {
  const limit =
    timeoutMs !== undefined && timeoutMs <= longestTimerMs
      ? AbortSignal.timeout(timeoutMs)
      : undefined
  const signals = [signal, limit].filter((one) => one !== undefined)
  try {
    while (!(await wasIdle(thread, context, AbortSignal.any(signals))));
  } catch (error) {
    if (limit === undefined || error !== limit.reason) throw error
    const { waiting = 0, active_operation: active = null } = (await thread.state()) ?? {}
    throw new InturnError(
      'idle_timeout',
      `Thread "${thread.id}" was not idle within ${timeoutMs} ms: ${active ?? 'nothing'} is served, ${waiting} wait`,
      { hint: 'A hold among them may be our own, behind a run of somebody else.' },
    )
  }
}

/** Waits until the line is empty, takes the thread for a moment, and looks whether anybody has come meanwhile. */
async function wasIdle(
  thread: ThreadHandle,
  context: HandleContext,
  signal: AbortSignal,
): Promise<boolean> {
  const { database, watch } = context
  for (let last; (last = await lastInLine(database, thread.id)) !== null; )
    await untilSettled(watch, last, { signal }).catch(unlessDeleted)
  const isLast = async ({ operationId }: { operationId: number }) =>
    (await lastInLine(database, thread.id)) === operationId
  try {
    return await hold(thread, context, isLast, { leaseMs, signal })
  } catch (error) {
    // A run of somebody else does not end: then the thread is not idle, and nothing is wrong.
    if (error instanceof OperationCancelledError && error.code === 'foreign_run_timeout')
      return false
    throw error
  }
}

function unlessDeleted(error: unknown): void {
  if (!(error instanceof InturnError && error.code === 'operation_not_found')) throw error
}
