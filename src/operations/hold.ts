import { latestModel } from '../store/threads.ts'
import { whileLocked } from '../store/while-locked.ts'
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
  const { operation, pool, call, data } = context
  const { provider_thread_id, thread_id } = operation
  if (provider_thread_id !== null) {
    const model = await whileLocked(call.signal, () => latestModel(pool, thread_id))
    try {
      await awaitAnyRun(context, provider_thread_id, model)
    } catch (error) {
      if (error instanceof Refusal) return { status: 'cancelled', error: error.failure }
      throw error
    }
  }
  return { status: 'holding', leaseMs: data.lease_ms ?? defaultLeaseMs }
}
