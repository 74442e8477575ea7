import type { DeletionProof, OperationResult } from '../model/outcome.ts'
import {
  type Deleting,
  endConversation,
  finishDeletion,
  readDeletionDefaults,
  readDeletionFacts,
  readGenerations,
} from '../store/deletions.ts'
import { eraseThread } from '../store/erasures.ts'
import { whileLocked } from '../store/while-locked.ts'
import { archiveConversation } from './archive-conversation.ts'
import { CancelWanted } from './cancelling.ts'
import type { Handler, OperationContext } from './context.ts'
import type { DeleteThread } from './data/delete-thread.ts'
import { deleteProviderThread } from './delete-provider-thread.ts'
import { endAnyRun } from './foreign-run.ts'

/**
 * Deletes all provider threads that the thread ever had. The conversation is not ended before no run goes
 * on and, where it is wanted, the archive is complete; from then on it is not cancelled any more.
 */
export const deleteThread: Handler<DeleteThread> = async (context) => {
  const { operation, journal, pool, call, data } = context
  // Where it was sent back after the thread was opened again, it has another one to end.
  const begun = operation.provider_thread_id === null && journal.progress.deleting
  const deleting = begun || (await begin(context))
  const result = await deleteGenerations(context)
  await journal.writeAsHolder((claim) => finishDeletion(pool, claim, data.erase ?? false))
  if (data.erase) await whileLocked(call.signal, () => eraseThread(pool, operation.thread_id))
  const { archive_id } = deleting
  return { status: 'completed', result: { ...result, ...(archive_id !== null && { archive_id }) } }
}

async function begin(context: OperationContext<DeleteThread>): Promise<Deleting> {
  const { operation, data, pool, call, journal, cancelWanted } = context
  const { thread_id, provider_thread_id: threadId } = operation
  const defaults = await whileLocked(call.signal, () => readDeletionDefaults(pool, thread_id))
  const { archive = defaults.archives, erase, reopen = defaults.reopens } = data
  let archive_id: number | null = null
  if (threadId !== null) {
    await endAnyRun(context, threadId)
    if (archive && !erase)
      ({ archive_id } = await archiveConversation(context, threadId, 'deleted'))
  }
  if (cancelWanted.aborted) throw new CancelWanted()
  const facts = { reopen, archive_id, expired: null }
  await journal.writeNoting((claim) => endConversation(pool, claim, 'deleted', facts))
  return journal.progress.deleting as Deleting
}

async function deleteGenerations(
  context: OperationContext,
): Promise<Pick<OperationResult, 'deleted' | 'not_deleted'>> {
  const { operation, pool, call, providers } = context
  const deleted: DeletionProof[] = []
  const not_deleted: NonNullable<OperationResult['not_deleted']> = []
  const generations = await whileLocked(call.signal, () =>
    readGenerations(pool, operation.thread_id),
  )
  for (const { generation, provider: name, provider_thread_id } of generations) {
    const provider = providers[name]
    const known = await whileLocked(call.signal, () =>
      readDeletionFacts(pool, operation.id, generation),
    )
    if (known?.proof) {
      deleted.push(known.proof)
    } else if (provider) {
      const ended = { generation, provider_thread_id }
      deleted.push(await deleteProviderThread({ ...context, provider }, ended))
    } else {
      const why = `This dispatcher has no settings for the provider "${name}".`
      not_deleted.push({ generation, provider_thread_id, why })
    }
  }
  return { deleted, ...(not_deleted.length > 0 && { not_deleted }) }
}
