import type { Handler } from './context.ts'
import type { ForkThread } from './data/fork-thread.ts'
import { Refusal } from './refusal.ts'

export const forkThread: Handler<ForkThread> = async () => {
  throw new Refusal('not_ready', 'fork_thread is not ready yet')
}
