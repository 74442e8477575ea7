import type { Handler } from './context.ts'
import type { DeleteThread } from './data/delete-thread.ts'
import { Refusal } from './refusal.ts'

export const deleteThread: Handler<DeleteThread> = async () => {
  throw new Refusal('not_ready', 'delete_thread is not ready yet')
}
