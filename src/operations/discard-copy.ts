import type { Outcome } from '../model/outcome.ts'
import type { OperationContext } from './context.ts'
import { deleteItems } from './delete-items.ts'

/** Deletes the copy that the operation is making, if there is one, with what stands in it. Harmless to repeat. */
export async function discardCopy(context: OperationContext): Promise<void> {
  const { provider, journal, call } = context
  const { copying } = journal.progress
  if (!copying) return
  const { provider_thread_id: threadId } = copying
  if (provider.profile.itemsOutliveThread) await deleteItems(context, threadId, async () => {})
  await provider.deleteThread(threadId, call)
  await journal.note({ copying: null })
}

/** Before an operation is recorded as failed or cancelled: a copy that is nobody's is deleted. What fails on the way is thrown. */
export async function leaveNoCopy(
  context: OperationContext,
  outcome: Outcome | null,
): Promise<Outcome | null> {
  if (outcome?.status === 'failed' || outcome?.status === 'cancelled') await discardCopy(context)
  return outcome
}
