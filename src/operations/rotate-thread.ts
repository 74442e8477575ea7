import { readArchiveFacts } from '../store/archived-items.ts'
import { readRotationPolicy, replaceProviderThread } from '../store/rotation.ts'
import { whileLocked } from '../store/while-locked.ts'
import { archiveConversation } from './archive-conversation.ts'
import { archiveSource } from './archive-source.ts'
import type { Handler, OperationContext } from './context.ts'
import { copyItems } from './copy-items.ts'
import type { RotateThread } from './data/rotate-thread.ts'
import { deleteProviderThread } from './delete-provider-thread.ts'
import { ownMetadata, withOrigin } from './origin.ts'
import { Refusal } from './refusal.ts'

/**
 * Archives the provider thread and goes on in a new one, which begins with its last messages. What the
 * thread waits for in vain cancels it, as a hold: nothing has failed, and the line goes on whatever
 * `on_failure` says.
 */
export const rotateThread: Handler<RotateThread> = async (context) => {
  const { operation, data, journal, pool, call } = context
  const { provider_thread_id: old, thread_id } = operation
  const policy = await whileLocked(call.signal, () => readRotationPolicy(pool, thread_id))
  if (!journal.progress.assigned) {
    if (old === null) return { status: 'completed', result: { items: 0 } }
    try {
      await goOnAnew(context, old, data.carry_over ?? policy.carry_over)
    } catch (error) {
      if (error instanceof Refusal && error.code === 'foreign_run_timeout')
        return { status: 'cancelled', error: error.failure }
      throw error
    }
  }
  const { assigned, archived } = journal.progress
  const { provider_thread_id, generation, items, left_out, ended } = assigned as NonNullable<
    typeof assigned
  >
  const isDeleted = ended !== null && (data.delete_old ?? policy.delete_rotated)
  const deleted = isDeleted ? [await deleteProviderThread(context, ended)] : undefined
  const archive_id = archived?.archive_id
  return {
    status: 'completed',
    result: { provider_thread_id, generation, archive_id, items, left_out, deleted },
  }
}

async function goOnAnew(context: OperationContext, old: string, last: number): Promise<void> {
  const { operation, journal, pool, call } = context
  const { archive_id } = await archiveConversation(context, old, 'rotated')
  const facts = await whileLocked(call.signal, () => readArchiveFacts(pool, archive_id))
  if (facts === null)
    throw new Refusal(
      'archive_not_found',
      `The archive ${archive_id} of operation ${operation.id} was deleted before it was done: insert the operation again.`,
    )
  const own = ownMetadata(facts.metadata)
  const copy = await copyItems(context, archiveSource(context, archive_id, old), {
    last,
    metadata: withOrigin(own, 'previous_thread', old),
  })
  await journal.writeNoting((claim) =>
    replaceProviderThread(pool, claim, 'rotated', { ...copy, metadata: own }),
  )
}
