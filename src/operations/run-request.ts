import type { RunRequest } from '../provider/provider.ts'
import type { OperationContext } from './context.ts'

/** What the operation asks for; its messages travel with the run, where the provider takes them along. */
export type RunWish = RunRequest

/** What is asked of the provider: messages that stand in the thread already are left out. */
export function requestOf({ journal }: OperationContext, wish: RunWish): RunRequest {
  const areThere = journal.progress.message_id !== undefined
  return areThere ? { parameters: wish.parameters } : wish
}

export const bringsMessages = ({ messages = [] }: RunRequest): boolean => messages.length > 0
