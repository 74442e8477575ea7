import type { MessageInput } from '../model/message.ts'
import { type OperationContext, tagOf } from './context.ts'
import { awaitForeignRun, sendWhenFree } from './foreign-run.ts'
import { itemBefore } from './provider-thread.ts'
import { mayResend } from './unknown-outcome.ts'

/** Adds the operation's message unless it stands there already; returns its id. */
export async function sendMessageOnce(
  context: OperationContext,
  threadId: string,
  message: MessageInput,
): Promise<string> {
  const { journal } = context
  if (journal.progress.message_id !== undefined) return journal.progress.message_id
  const { id } = await addOnce(context, threadId, message, tagOf(context))
  await journal.note({ message_id: id })
  return id
}

/** Adds the message that is next to be added, unless an earlier attempt has; the caller notes its id. */
export async function addOnce(
  context: OperationContext,
  threadId: string,
  message: MessageInput,
  tag: string,
): Promise<{ id: string }> {
  const { provider, journal, call } = context
  const lost = journal.unresolved('add_message')
  const found = lost && (await provider.findMessage(threadId, message, tag, lost.after, call))
  if (found) return found
  if (lost) await mayResend(context, lost)
  await awaitForeignRun(context, threadId)
  const after = await itemBefore(context, threadId)
  return sendWhenFree(context, 'add_message', after, () =>
    provider.addMessage(threadId, message, tag, call),
  )
}
