import type { OperationContext } from './context.ts'
import { mayResend } from './unknown-outcome.ts'

/**
 * Replaces the metadata of the provider thread as a whole, as both providers do. Harmless to repeat, but
 * not to be late: one that comes after that of a later operation would undo it.
 */
export async function replaceMetadataOnce(
  context: OperationContext,
  threadId: string,
  metadata: Record<string, string>,
): Promise<void> {
  const { provider, journal, call } = context
  if (journal.progress.overwritten) return
  const unresolved = journal.unresolved('update_thread')
  if (unresolved) await mayResend(context, unresolved)
  await journal.send('update_thread', null, () => provider.updateThread(threadId, metadata, call))
  await journal.note({ overwritten: true })
}
