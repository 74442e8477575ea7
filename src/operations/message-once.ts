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
  const { provider, journal, call } = context
  if (journal.progress.message_id !== undefined) return journal.progress.message_id
  const tag = tagOf(context)
  const lost = journal.unresolved('add_message')
  let found = lost && (await provider.findMessage(threadId, message, tag, lost.after, call))
  if (!found) {
    if (lost) await mayResend(context, lost)
    await awaitForeignRun(context, threadId)
    const after = await itemBefore(context, threadId)
    found = await sendWhenFree(context, 'add_message', after, () =>
      provider.addMessage(threadId, message, tag, call),
    )
  }
  await journal.note({ message_id: found.id })
  return found.id
}
