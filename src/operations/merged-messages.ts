import type { MessageInput } from '../model/message.ts'
import { type MergedMessage, readMessages } from '../store/merged-messages.ts'
import type { OperationContext } from './context.ts'
import { addOnce, noteNewest } from './message-once.ts'
import { Refusal } from './refusal.ts'

/** All messages that the operation's run brings along or finds: those merged into it, then its own. */
export async function messagesOf(
  context: OperationContext,
  threadId: string,
  own: readonly MessageInput[],
): Promise<readonly MessageInput[]> {
  const merged = await mergedInto(context)
  if (context.provider.profile.runCarriesMessage) {
    const { merged_message_ids: added = [] } = context.journal.progress
    return [...merged.slice(added.length).map(({ message }) => message), ...own]
  }
  await addMerged(context, threadId, merged)
  return []
}

/** The messages merged into the operation, in their order. */
export async function mergedInto({ operation, pool }: OperationContext): Promise<MergedMessage[]> {
  const ids = operation.merges ?? []
  if (ids.length === 0) return []
  const merged = await readMessages(pool, ids)
  if (merged.length === ids.length) return merged
  const missing = ids.filter((id) => !merged.some((other) => other.id === id))
  const message = `What was merged into this operation was deleted: ${missing.join(', ')}.`
  throw new Refusal('merged_operation_missing', message)
}

/** Adds what was merged into the operation, one after the other, each tagged as that of its own operation. */
export async function addMerged(
  context: OperationContext,
  threadId: string,
  merged: readonly MergedMessage[],
): Promise<void> {
  const { journal } = context
  const { merged_message_ids: known = [] } = journal.progress
  let ids = known
  for (const { id, message } of merged.slice(known.length)) {
    const added = await addOnce(context, threadId, message, String(id))
    ids = [...ids, added.id]
    await journal.note({ merged_message_ids: ids, last_item_id: added.id })
    await noteNewest(context, added.id)
  }
}
