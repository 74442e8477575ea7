import type { RunRequest } from '../provider/provider.ts'
import type { OperationContext } from './context.ts'

/**
 * What the operation asks for; its messages travel with the run, where the provider takes them along.
 * With the outputs of the calls of the run before, where the turn goes on.
 */
export type RunWish = RunRequest

/** What is asked of the provider: messages that stand in the thread already are left out. */
export function requestOf({ journal }: OperationContext, wish: RunWish): RunRequest {
  const areThere = journal.progress.message_id !== undefined
  return areThere && !wish.outputs ? { parameters: wish.parameters } : wish
}

/** What is sent: also without the outputs that an earlier try has left in the thread. */
export async function requestToSend(
  context: OperationContext,
  threadId: string,
  wish: RunWish,
): Promise<RunRequest> {
  const { provider, journal, call } = context
  const request = requestOf(context, wish)
  const { outputs } = request
  const { failed_run_ids, repaired } = journal.progress
  if (!outputs || !(journal.unresolved('start_run') || failed_run_ids || repaired)) return request
  const open = await provider.openCalls(threadId, outputs, call)
  const isOpen = (id: string) => open.some(({ call_id }) => call_id === id)
  return { ...request, outputs: outputs.filter(({ call_id }) => isOpen(call_id)) }
}

export const bringsMessages = ({ messages = [] }: RunRequest): boolean => messages.length > 0
