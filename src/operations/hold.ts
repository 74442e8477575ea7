import type { Handler } from './context.ts'
import type { Hold } from './data/hold.ts'
import { awaitAnyRun } from './foreign-run.ts'
import { Refusal } from './refusal.ts'

const defaultLeaseMs = 60_000

/**
 * Gives the thread to whoever inserted the hold, once no run of somebody else is on it. One that waits
 * for such a run in vain is cancelled: nothing has failed, and the line goes on whatever `on_failure` says.
 */
export const hold: Handler<Hold> = async (context) => {
  const { operation, data } = context
  const { provider_thread_id } = operation
  if (provider_thread_id !== null) {
    try {
      await awaitAnyRun(context, provider_thread_id)
    } catch (error) {
      if (error instanceof Refusal) return { status: 'cancelled', error: error.failure }
      throw error
    }
  }
  return { status: 'holding', leaseMs: data.lease_ms ?? defaultLeaseMs }
}
