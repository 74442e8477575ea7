import type { MessageInput } from '../model/message.ts'
import { type OperationContext, tagOf } from './context.ts'
import { itemBefore } from './provider-thread.ts'

/** Adds the operation's message unless it stands there already; returns its id. */
export async function sendMessageOnce(
  context: OperationContext,
  threadId: string,
  message: MessageInput,
): Promise<string> {
  const { provider, journal, call } = context
  if (journal.progress.message_id !== undefined) return journal.progress.message_id
  const tag = tagOf(context)
  const after = await itemBefore(context, threadId)
  const unresolved = journal.unresolved('add_message')
  let found = unresolved && (await provider.findMessage(threadId, message, tag, after, call))
  if (unresolved && !found) journal.giveTimeToSettle(unresolved, provider.profile.settleMs)
  found ??= await journal.send('add_message', after, () =>
    provider.addMessage(threadId, message, tag, call),
  )
  await journal.note({ message_id: found.id })
  return found.id
}
