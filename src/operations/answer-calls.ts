import type { ToolCall } from '../model/run.ts'
import type { OperationContext } from './context.ts'
import { sendWhenFree } from './foreign-run.ts'
import { itemBefore } from './provider-thread.ts'
import { mayResend } from './unknown-outcome.ts'

const callsAtOnce = 20

/**
 * Gives these calls of the thread (null: all that are in it) an error for an output, unless they have
 * one: a conversation in which a call stands without refuses every run. Their `call_id` tells which do.
 */
export async function answerCalls(
  context: OperationContext,
  threadId: string,
  calls: readonly ToolCall[] | null,
): Promise<void> {
  const { provider, journal, call } = context
  const open = await provider.openCalls(threadId, calls, call)
  const lost = journal.unresolved('answer_calls')
  if (lost && open.length > 0) await mayResend(context, lost)
  if (lost && open.length === 0) await journal.note({})
  for (let start = 0; start < open.length; start += callsAtOnce) {
    const some = open.slice(start, start + callsAtOnce)
    const after = await itemBefore(context, threadId)
    const { id } = await sendWhenFree(context, 'answer_calls', after, () =>
      provider.answerCalls(threadId, some, call),
    )
    await journal.note({ last_item_id: id })
  }
}
