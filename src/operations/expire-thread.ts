import type { Handler } from './context.ts'
import type { ExpireThread } from './data/expire-thread.ts'
import { Refusal } from './refusal.ts'

export const expireThread: Handler<ExpireThread> = async () => {
  throw new Refusal('not_ready', 'expire_thread is not ready yet')
}
