import type { Handler } from './context.ts'
import type { RotateThread } from './data/rotate-thread.ts'
import { Refusal } from './refusal.ts'

export const rotateThread: Handler<RotateThread> = async () => {
  throw new Refusal('not_ready', 'rotate_thread is not ready yet')
}
