import type { OperationContext } from './context.ts'

/** Id of the provider thread, which is created with the first operation that needs it. */
export async function ensureProviderThread(
  { operation, provider, journal, call }: OperationContext,
  metadata?: Record<string, string>,
): Promise<string> {
  if (operation.provider_thread_id !== null) return operation.provider_thread_id
  let id = journal.progress.provider_thread_id
  if (id === undefined) {
    // One that was lost in an earlier attempt cannot be found; empty, it harms nobody.
    const created = await journal.send('create_thread', null, () =>
      provider.createThread(metadata ?? {}, call),
    )
    id = created.id
    await journal.note({ provider_thread_id: id })
  }
  await journal.noteThread({ provider_thread_id: id, ...(metadata && { metadata }) })
  return id
}

/**
 * Newest item of the provider thread before the call that comes next, or before the earlier one whose
 * effect is looked for: what it adds stands after it. Null when there was none.
 */
export async function itemBefore(
  { operation, provider, journal, call }: OperationContext,
  threadId: string,
): Promise<string | null> {
  const unresolved = journal.unresolved()
  if (unresolved) return unresolved.after
  const { provider_thread_id, message_id, after } = journal.progress
  if (message_id !== undefined) return message_id
  if (after !== undefined) return after
  if (operation.last_item_id !== null) return operation.last_item_id
  // Created by this very operation, it was empty; any other may hold what others wrote.
  return provider_thread_id !== undefined ? null : provider.lastItem(threadId, call)
}
