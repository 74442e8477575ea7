import type { MessageInput } from '../model/message.ts'
import { type OperationContext, tagOf } from './context.ts'
import { awaitForeignRun, sendWhenFree } from './foreign-run.ts'
import { isoTime } from './journal.ts'
import { awaitNextSecond, checkOrder, removeMisplaced } from './message-order.ts'
import { itemBefore } from './provider-thread.ts'
import { mayResend } from './unknown-outcome.ts'

/** Adds the operation's message unless it stands there already; returns its id. */
export async function sendMessageOnce(
  context: OperationContext,
  threadId: string,
  message: MessageInput,
): Promise<string> {
  const { journal } = context
  if (journal.progress.message_id === undefined) {
    const { id } = await addOnce(context, threadId, message, tagOf(context))
    await journal.note({ message_id: id })
  }
  const id = journal.progress.message_id as string
  await noteNewest(context, id)
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
  await removeMisplaced(context, threadId)
  const lost = journal.unresolved('add_message')
  let added = lost && (await provider.findMessage(threadId, message, tag, lost.after, call))
  if (!added) {
    if (lost) await mayResend(context, lost)
    await awaitForeignRun(context, threadId)
    await awaitNextSecond(context)
    const after = await itemBefore(context, threadId)
    added = await sendWhenFree(context, 'add_message', after, () =>
      provider.addMessage(threadId, message, tag, call),
    )
  }
  await checkOrder(context, threadId, added.id)
  return added
}

/** Writes down that this message, which is noted, is the newest item of the thread. */
export async function noteNewest(
  { provider, journal }: OperationContext,
  id: string,
): Promise<void> {
  if (journal.newest.id === id) return
  const last_message_at = isoTime(journal.now())
  const ties = provider.profile.tiesBySecond
  await journal.noteThread({ last_item_id: id, ...(ties && { last_message_at }) })
}
