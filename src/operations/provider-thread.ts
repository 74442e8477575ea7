import { isProviderThreadId } from '../model/thread.ts'
import { adoptProviderThread as noteAdoption } from '../store/adoption.ts'
import type { OperationContext } from './context.ts'
import { Refusal } from './refusal.ts'
import { mayResend } from './unknown-outcome.ts'

/** Id of the provider thread, which is created with the first operation that needs it. */
export async function ensureProviderThread(
  context: OperationContext,
  metadata?: Record<string, string>,
): Promise<string> {
  const { operation, provider, journal, call, holdsUnknown } = context
  if (operation.provider_thread_id !== null) return operation.provider_thread_id
  // It bears the id of a provider thread, which another thread of ours had when this one began.
  if (operation.generation === 0 && isProviderThreadId(operation.thread_id)) {
    await adoptProviderThread(context, operation.thread_id)
    return operation.thread_id
  }
  let id = journal.progress.provider_thread_id
  if (id === undefined) {
    // One that was lost in an earlier attempt cannot be found; empty, it harms nobody.
    const lost = journal.unresolved('create_thread')
    if (lost && holdsUnknown) await mayResend(context, lost)
    const created = await journal.send('create_thread', null, () =>
      provider.createThread(metadata ?? {}, call),
    )
    id = created.id
    await journal.note({ provider_thread_id: id })
  }
  await journal.noteThread({ provider_thread_id: id, ...(metadata && { metadata }) })
  return id
}

/** Makes it the thread's own. Throws a Refusal where another thread of ours has it: their lines would race. */
export async function adoptProviderThread(
  { operation, journal, pool }: OperationContext,
  id: string,
): Promise<void> {
  const { inUseBy } = await journal.writeAsHolder((claim) => noteAdoption(pool, claim, id))
  journal.reach('after_thread_note')
  if (inUseBy === null) return
  const [thread, other] = [operation.thread_id, inUseBy].map((name) => JSON.stringify(name))
  throw new Refusal(
    'provider_thread_in_use',
    `Thread ${thread} cannot have the provider thread ${id}: it is that of thread ${other}, and two lines on one conversation would race. Write to thread_id ${other}.`,
  )
}

/**
 * Newest item of the provider thread before the call that comes next, or before the earlier one whose
 * effect is looked for: what it adds stands after it. Null when there was none. It may be older than
 * the newest, never newer.
 */
export async function itemBefore(
  { operation, provider, journal, call }: OperationContext,
  threadId: string,
): Promise<string | null> {
  const unresolved = journal.unresolved()
  if (unresolved) return unresolved.after
  const { provider_thread_id, foreign_run } = journal.progress
  const known = knownItem(operation, journal)
  // A foreign run writes what we do not know, and so do operations that were served since.
  if (foreign_run || othersWereServed(operation, journal))
    return provider.lastItem(threadId, known, call)
  // Created by this very operation, the thread was empty; any other may hold what others wrote.
  if (known !== null || provider_thread_id !== undefined) return known
  return provider.lastItem(threadId, null, call)
}

/** An operator sent the operation back into its line, and others of its thread were served before it. */
export function othersWereServed(
  { turn }: OperationContext['operation'],
  { progress: { sent_back } }: OperationContext['journal'],
): boolean {
  return sent_back !== undefined && turn > sent_back + 1
}

/** The newest item that is known, without asking. */
export function knownItem(
  operation: OperationContext['operation'],
  { progress }: OperationContext['journal'],
): string | null {
  const { last_item_id, message_id, after } = progress
  return last_item_id ?? message_id ?? after ?? operation.last_item_id
}
