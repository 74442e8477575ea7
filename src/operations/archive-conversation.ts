import type { StoredItem } from '../model/stored-item.ts'
import {
  addArchivePage,
  archiveLacks,
  beginArchive,
  compareArchivePage,
  completeArchive,
} from '../store/archives.ts'
import type { Progress } from '../store/progress.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { OperationContext } from './context.ts'
import { conversationPages, PageLost } from './conversation-pages.ts'
import { awaitAnyRun } from './foreign-run.ts'
import { despiteReadLag } from './read-lag.ts'
import { Refusal } from './refusal.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** An archive that counts. `last_item_id` is null where the provider thread was empty. */
export type ArchivedConversation = {
  archive_id: number
  items: number
  last_item_id: string | null
}

type Archiving = NonNullable<Progress['archiving']>

/**
 * Copies all that stands in a provider thread into an archive, and looks a second time whether it is the
 * same. Goes on where an earlier attempt was; once it is complete it gives the same archive, in this turn
 * of the operation. `reason` is for people. Throws CancelWanted, ProviderError and, where the thread
 * is not quiet, NotYet and Refusal; then nothing of it counts.
 */
export async function archiveConversation(
  context: OperationContext,
  threadId: string,
  reason: string,
): Promise<ArchivedConversation> {
  const { operation, journal, pool, provider, call } = context
  const isOurs = (one: { turn: number; provider_thread_id: string }) =>
    one.turn === operation.turn && one.provider_thread_id === threadId
  const { archiving: begun, archived: earlier } = journal.progress
  if (!earlier || !isOurs(earlier)) {
    await requireNoRun(context, threadId)
    if (!begun || !isOurs(begun)) await begin(context, threadId)
    const last = await copyAndVerify(context, threadId)
    const { metadata } = await despiteReadLag(context, () =>
      provider.retrieveThread(threadId, call),
    )
    const facts = { reason, metadata, lastItemId: last }
    await journal.writeNoting((claim) => completeArchive(pool, claim, facts))
  }
  const { archive_id, items, last_item_id } = journal.progress.archived as ArchivedConversation
  return { archive_id, items, last_item_id }
}

/** A run that is going on has an answer yet to write. */
const requireNoRun = (context: OperationContext, threadId: string): Promise<void> =>
  despiteReadLag(context, () => awaitAnyRun(context, threadId))

const begin = ({ journal, pool }: OperationContext, threadId: string): Promise<void> =>
  journal.writeNoting((claim) => beginArchive(pool, claim, threadId))

const archivingOf = ({ journal }: OperationContext) => journal.progress.archiving as Archiving

async function copyAndVerify(context: OperationContext, threadId: string): Promise<string | null> {
  try {
    await copyPages(context, threadId)
    return await verify(context, threadId)
  } catch (error) {
    throw error instanceof PageLost ? await changed(context, threadId) : error
  }
}

async function copyPages(context: OperationContext, threadId: string): Promise<void> {
  const { journal, pool } = context
  for await (const { items, after } of conversationPages(
    context,
    threadId,
    archivingOf(context).after,
  ))
    await journal.writeNoting((claim) => addArchivePage(pool, claim, items, after))
}

/** Looks at everything once more, and gives the newest item. Begins anew, as NotYet, where something differs. */
async function verify(context: OperationContext, threadId: string): Promise<string | null> {
  const { operation, provider, pool, call, journal } = context
  const archiving = archivingOf(context)
  let position = 0
  let newest: StoredItem[] = []
  for await (const { items } of conversationPages(context, threadId, null)) {
    const same = await whileLocked(call.signal, () =>
      compareArchivePage(pool, archiving.archive_id, position, items),
    )
    if (same === null) throw await changed(context, threadId)
    position = same
    newest = newestOf(items, provider.profile.tiesBySecond)
  }
  const last = await provider.lastItem(threadId, null, call)
  const isWhole = last === null ? newest.length === 0 : newest.some(({ id }) => id === last)
  if (position !== archiving.position || !isWhole) throw await changed(context, threadId)
  const { settleMs } = provider.profile
  const lacks = await whileLocked(call.signal, () =>
    archiveLacks(pool, archiving, operation.thread_id, journal.newest.id, settleMs),
  )
  if (lacks) throw await changed(context, threadId)
  await requireNoRun(context, threadId)
  return last
}

/** Of the last page, what may be named as the newest item. */
const newestOf = (items: StoredItem[], tiesBySecond: boolean): StoredItem[] =>
  tiesBySecond ? items.filter(({ said_at }) => said_at === items.at(-1)?.said_at) : items.slice(-1)

/** Begins anew; returns what is to be thrown. A read has lagged, or somebody else writes to the thread. */
async function changed(context: OperationContext, threadId: string): Promise<NotYet | Refusal> {
  const { foreignRunMs, provider, journal } = context
  const waited = journal.now() - Date.parse(archivingOf(context).since)
  if (waited > foreignRunMs + provider.profile.settleMs)
    return new Refusal(
      'provider_thread_changes',
      `Two looks at the provider thread ${threadId} have differed for ${Math.round(waited)} ms: stop whoever else writes to it, then insert the operation again.`,
    )
  await begin(context, threadId)
  const message = 'Two looks at the provider thread differed: the archive begins anew.'
  return new NotYet({ code: 'provider_thread_changed', message }, pauseAfter(waited))
}
