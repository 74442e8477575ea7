import { readArchiveFacts } from '../store/archived-items.ts'
import { readThreadMetadata, replaceProviderThread } from '../store/rotation.ts'
import { whileLocked } from '../store/while-locked.ts'
import { archiveSource } from './archive-source.ts'
import type { Handler, OperationContext } from './context.ts'
import { copyItems } from './copy-items.ts'
import type { RestoreThread } from './data/restore-thread.ts'
import { awaitAnyRun } from './foreign-run.ts'
import { ownMetadata, withOrigin } from './origin.ts'
import { isNotFound } from './read-lag.ts'
import { Refusal } from './refusal.ts'

/** Goes on in a new provider thread that holds what an archive holds; the present one, if any, ends. */
export const restoreThread: Handler<RestoreThread> = async (context) => {
  const { data, journal } = context
  if (!journal.progress.assigned) await restore(context, data.archive_id)
  const { assigned } = journal.progress
  const { provider_thread_id, generation, items, left_out } = assigned as NonNullable<
    typeof assigned
  >
  const { archive_id } = data
  return {
    status: 'completed',
    result: { provider_thread_id, generation, archive_id, items, left_out },
  }
}

async function restore(context: OperationContext, archiveId: number): Promise<void> {
  const { operation, journal, pool, call } = context
  const { thread_id } = operation
  const facts = await whileLocked(call.signal, () => readArchiveFacts(pool, archiveId))
  if (facts === null)
    throw new Refusal(
      'archive_not_found',
      `There is no archive ${archiveId}. Those of the thread: SELECT id, archived_at, messages FROM thread_archives WHERE thread_id = '${thread_id.replaceAll("'", "''")}';`,
    )
  await awaitRunOnPresent(context)
  const known = await whileLocked(call.signal, () => readThreadMetadata(pool, thread_id))
  const own = Object.keys(known).length > 0 ? known : ownMetadata(facts.metadata)
  const name = `archive ${archiveId}`
  const copy = await copyItems(context, archiveSource(context, archiveId, name), {
    last: null,
    metadata: withOrigin(own, 'restored_from', name),
  })
  await journal.writeNoting((claim) =>
    replaceProviderThread(pool, claim, 'restored', { ...copy, metadata: own }),
  )
}

/** No run is to end on a provider thread that is the thread's no more. One that is gone has none. */
async function awaitRunOnPresent(context: OperationContext): Promise<void> {
  const { provider_thread_id } = context.operation
  if (provider_thread_id === null) return
  try {
    await awaitAnyRun(context, provider_thread_id)
  } catch (error) {
    if (!(isNotFound(error) && error.code === 'provider_thread_not_found')) throw error
  }
}
