import type { Handler } from './context.ts'
import type { RestoreThread } from './data/restore-thread.ts'
import { Refusal } from './refusal.ts'

export const restoreThread: Handler<RestoreThread> = async () => {
  throw new Refusal('not_ready', 'restore_thread is not ready yet')
}
