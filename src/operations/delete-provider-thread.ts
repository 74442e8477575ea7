import type { DeletionProof } from '../model/outcome.ts'
import type { ItemPage } from '../model/stored-item.ts'
import { type Emptying, noteDeletion, readDeletionFacts } from '../store/deletions.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { OperationContext } from './context.ts'
import { deleteItems } from './delete-items.ts'
import { whenFree } from './foreign-run.ts'
import { isoTime } from './journal.ts'
import { isNotFound } from './read-lag.ts'
import { Refusal } from './refusal.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** A provider thread of the operation's thread. */
export type ProviderThread = { generation: number; provider_thread_id: string }

/**
 * Deletes a provider thread for good: first its items, where the provider would keep them, then the thread
 * itself; and looks whether it is gone. Gives what was seen, which is also written down in
 * thread_generations. Harmless to repeat, in the same or another operation. Nothing may be running on it;
 * throws NotYet where something is, or where a read may lag, ProviderError, and Refusal `still_there`.
 */
export async function deleteProviderThread(
  context: OperationContext,
  { generation, provider_thread_id: threadId }: ProviderThread,
): Promise<DeletionProof> {
  const { operation, provider, journal, pool, call } = context
  const facts = await whileLocked(call.signal, () =>
    readDeletionFacts(pool, operation.id, generation),
  )
  if (facts?.proof) return facts.proof
  let emptying = journal.progress.emptying
  if (emptying?.generation !== generation) {
    emptying = { generation, since: isoTime(journal.now()), items: 0, done: false }
    await journal.noteBeside({ emptying })
  }
  if (!emptying.done) {
    const { itemsOutliveThread } = provider.profile
    if (itemsOutliveThread)
      emptying = await empty(context, threadId, emptying, facts?.quiet_since ?? null)
    emptying = { ...emptying, done: true }
    await journal.noteBeside({ emptying })
  }
  journal.reach('before_send')
  await whenFree(context, () => provider.deleteThread(threadId, call))
  journal.reach('after_send')
  await requireGone(context, threadId, emptying)
  const { items } = emptying
  return journal.writeAsHolder((claim) => noteDeletion(pool, claim, generation, items))
}

/** Deletes all items, and looks again until there are none and none may still come to light. */
async function empty(
  context: OperationContext,
  threadId: string,
  emptying: Emptying,
  quietSince: string | null,
): Promise<Emptying> {
  const { journal, provider } = context
  const onDeleted = (items: number) => {
    emptying = { ...emptying, items: emptying.items + items }
    return journal.noteBeside({ emptying })
  }
  await whenFree(context, () => deleteItems(context, threadId, onDeleted))
  // A run of somebody else that was waited for has written just now.
  const hasMetRun = journal.progress.foreign_run !== undefined
  const quiet = Date.parse(hasMetRun ? emptying.since : (quietSince ?? emptying.since))
  const restMs = provider.profile.settleMs - (journal.now() - quiet)
  if (restMs <= 0) return emptying
  const message = 'Items that were written a moment ago may not be listed yet.'
  throw new NotYet({ code: 'settling', message }, Math.min(restMs, pauseAfter(restMs)))
}

/** The provider knows neither the thread nor items of it. A read that lags may still show them for a time. */
async function requireGone(
  { provider, journal, call }: OperationContext,
  threadId: string,
  { since }: Emptying,
): Promise<void> {
  const isGone = await isUnknown(() => provider.retrieveThread(threadId, call))
  const hasNoItems = await isUnknown(() => provider.listItems(threadId, null, call))
  if (isGone && hasNoItems) return
  const waitedMs = journal.now() - Date.parse(since)
  const message = `The provider was told to delete ${threadId} and still shows ${isGone ? 'items of it' : 'it'}.`
  if (waitedMs > 2 * provider.profile.settleMs + call.timeoutMs)
    throw new Refusal('still_there', message)
  throw new NotYet({ code: 'still_there', message }, pauseAfter(waitedMs))
}

/** Whether the provider says that it knows no such thing, or lists nothing of it. */
async function isUnknown(look: () => Promise<{ id: string } | ItemPage>): Promise<boolean> {
  try {
    const seen = await look()
    return 'items' in seen && seen.items.length === 0
  } catch (error) {
    if (isNotFound(error)) return true
    throw error
  }
}
