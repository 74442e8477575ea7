import { type Deleting, endConversation, readExpiry } from '../store/deletions.ts'
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
 * operation that needs one begins a new one. Where a run of somebody else does not end it is cancelled,
 * not failed: nobody has asked for it.
 */
export const expireThread: Handler<ExpireThread> = async (context) => {
  const { journal } = context
  try {
    const deleting = journal.progress.deleting ?? (await begin(context))
    if (deleting === null) return { status: 'completed', result: { outcome: 'nothing_to_do' } }
    const { archive_id, expired } = deleting
    const deleted = expired && [await deleteProviderThread(context, expired)]
    const result = { ...(archive_id !== null && { archive_id }), ...(deleted && { deleted }) }
    return { status: 'completed', result: { outcome: 'expired', ...result } }
  } catch (error) {
    if (error instanceof Refusal && error.code === 'foreign_run_timeout')
      return { status: 'cancelled', error: error.failure }
    throw error
  }
}

/** Null: it has not expired. */
async function begin(context: OperationContext): Promise<Deleting | null> {
  const { operation, journal, pool, call, cancelWanted } = context
  const { generation, provider_thread_id } = operation
  const read = () => whileLocked(call.signal, () => readExpiry(pool, operation.id))
  const before = await read()
  if (provider_thread_id === null || before === null) return null
  await awaitAnyRun(context, provider_thread_id)
  const { archive_id } =
    before.on_expiry === 'delete'
      ? { archive_id: null }
      : await archiveConversation(context, provider_thread_id, 'expired')
  // It may have become active while it was archived.
  if ((await read()) === null) return null
  if (cancelWanted.aborted) throw new CancelWanted()
  const expired = before.on_expiry === 'archive' ? null : { generation, provider_thread_id }
  const facts = { reopen: true, archive_id, expired }
  await journal.writeNoting((claim) => endConversation(pool, claim, 'expired', facts))
  return journal.progress.deleting as Deleting
}
