import { beginDeletion, endConversation, readExpiry } from '../store/deletions.ts'
import { latestModel } from '../store/threads.ts'
import { whileLocked } from '../store/while-locked.ts'
import { archiveConversation } from './archive-conversation.ts'
import { CancelWanted } from './cancelling.ts'
import type { Handler, OperationContext } from './context.ts'
import type { ExpireThread } from './data/expire-thread.ts'
import { deleteProviderThread } from './delete-provider-thread.ts'
import { awaitAnyRun } from './foreign-run.ts'
import { Refusal } from './refusal.ts'

/**
 * Ends the provider thread where a time to live of the thread's policy is over at its turn; the next
 * operation that needs one begins a new one. One that cannot do so is cancelled, not failed: nobody
 * has asked for it, so the line goes on whatever `on_failure` says.
 */
export const expireThread: Handler<ExpireThread> = async (context) => {
  const { operation, journal, pool } = context
  const { generation, provider_thread_id } = operation
  const deleting = journal.progress.deleting
  if (provider_thread_id === null)
    return {
      status: 'completed',
      result: { outcome: deleting?.ended ? 'expired' : 'nothing_to_do' },
    }
  try {
    const begun = deleting
      ? { archive_id: deleting.archive_id, deletes: true }
      : await begin(context)
    if (begun === null) return { status: 'completed', result: { outcome: 'nothing_to_do' } }
    const { archive_id, deletes } = begun
    const thread = { generation, provider_thread_id }
    const deleted = deletes ? [await deleteProviderThread(context, thread)] : []
    await journal.writeNoting((claim) => endConversation(pool, claim, 'expired', false))
    const result = { outcome: 'expired', ...(archive_id !== null && { archive_id }) } as const
    return { status: 'completed', result: { ...result, ...(deletes && { deleted }) } }
  } catch (error) {
    if (error instanceof Refusal) return { status: 'cancelled', error: error.failure }
    throw error
  }
}

/** Null: it has not expired. */
async function begin(
  context: OperationContext,
): Promise<{ archive_id: number | null; deletes: boolean } | null> {
  const { operation, journal, pool, call, cancelWanted } = context
  const threadId = operation.provider_thread_id as string
  const expiry = await whileLocked(call.signal, () => readExpiry(pool, operation.id))
  if (expiry === null) return null
  const model = await whileLocked(call.signal, () => latestModel(pool, operation.thread_id))
  await awaitAnyRun(context, threadId, model)
  const archives = expiry.on_expiry !== 'delete'
  const deletes = expiry.on_expiry !== 'archive'
  const archive_id = archives
    ? (await archiveConversation(context, threadId, 'expired')).archive_id
    : null
  // It may have become active while it was archived.
  if ((await whileLocked(call.signal, () => readExpiry(pool, operation.id))) === null) return null
  if (cancelWanted.aborted) throw new CancelWanted()
  if (deletes)
    await journal.writeNoting((claim) =>
      beginDeletion(pool, claim, false, { reopen: true, archive_id }),
    )
  return { archive_id, deletes }
}
