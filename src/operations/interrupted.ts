import type { MessageInput } from '../model/message.ts'
import type { Outcome } from '../model/outcome.ts'
import { CancelWanted, owesMessages } from './cancelling.ts'
import { type OperationContext, tagOf } from './context.ts'
import { addMerged, mergedInto } from './merged-messages.ts'
import { sendMessageOnce } from './message-once.ts'
import { RunFailed } from './run-outcome.ts'

/**
 * Does `work`, a run over the operation's own messages and those merged into it. Where another operation
 * interrupts it, they stay in the thread all the same, and are added if no run has brought them there.
 */
export async function keepingMessages(
  context: OperationContext,
  threadId: string,
  own: readonly MessageInput[],
  work: () => Promise<Outcome>,
): Promise<Outcome> {
  const keep = async () => {
    if (owesMessages(context, context.journal)) await keepMessages(context, threadId, own)
  }
  // An earlier attempt may have added one of them, of which nothing else must be sent before it is known.
  if (context.journal.unresolved('add_message')) await keep()
  try {
    const outcome = await work()
    if (outcome.status !== 'cancelled') return outcome
    await keep()
    const { message_id } = context.journal.progress
    return { ...outcome, result: { ...outcome.result, ...(message_id && { message_id }) } }
  } catch (error) {
    if (error instanceof CancelWanted || error instanceof RunFailed) await keep()
    throw error
  }
}

async function keepMessages(
  context: OperationContext,
  threadId: string,
  own: readonly MessageInput[],
): Promise<void> {
  const { provider, journal, call } = context
  const merged = await mergedInto(context)
  const last = [...merged.map(({ message }) => message), ...own].at(-1)
  const { after, merged_message_ids: added } = journal.progress
  // A run that was started may have brought them; what this here has begun to add tells nothing of that.
  const mayBeThere = after !== undefined && added === undefined
  if (last !== undefined && mayBeThere && journal.unresolved('add_message') === null) {
    const found = await provider.findMessage(threadId, last, tagOf(context), after, call)
    if (found) return journal.note({ message_id: found.id })
  }
  await addMerged(context, threadId, merged)
  for (const message of own) await sendMessageOnce(context, threadId, message)
  const { message_id, merged_message_ids } = journal.progress
  await journal.noteThread({ last_item_id: message_id ?? merged_message_ids?.at(-1) })
}
