import { setTimeout as sleep } from 'node:timers/promises'
import type { StoredItem } from '../model/stored-item.ts'
import { ProviderError } from '../provider/provider-error.ts'
import type { Progress } from '../store/progress.ts'
import type { FilledCopy } from '../store/rotation.ts'
import { CancelWanted } from './cancelling.ts'
import { type OperationContext, tagOf } from './context.ts'
import { conversationPages } from './conversation-pages.ts'
import { type CopyRange, type CopySource, itemsInRange, rangeOf } from './copy-source.ts'
import { discardCopy } from './discard-copy.ts'
import { isoTime } from './journal.ts'
import { othersWereServed } from './provider-thread.ts'
import { mayResend } from './unknown-outcome.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** A provider thread that holds what it is to hold, and is nobody's yet. */
export type Copy = Omit<FilledCopy, 'metadata'>

type Copying = NonNullable<Progress['copying']>

const secondMs = 1_000

/**
 * Creates a provider thread with this metadata, fills it with the last `last` messages of the source
 * (null: all) and what stands between them, and looks whether they stand there, in their order. Goes on
 * where an earlier attempt was. Throws CancelWanted, ProviderError and NotYet.
 */
export async function copyItems(
  context: OperationContext,
  source: CopySource,
  { last, metadata }: { last: number | null; metadata: Record<string, string> },
): Promise<Copy> {
  const { operation, provider, journal, cancelWanted } = context
  if (cancelWanted.aborted) throw new CancelWanted()
  // How much of a call took effect that was lost, only tags tell; and others may have written to the source.
  const isDoubtful = journal.unresolved('copy_items') !== null && !provider.profile.tags
  if (isDoubtful || othersWereServed(operation, journal)) await discardCopy(context)
  const copying = journal.progress.copying ?? (await begin(context, last, metadata))
  const range = await rangeOf(source, copying.last, provider.name)
  const { messages, left_out } = await fill(context, source, range)
  await verify(context, source, range)
  const { provider_thread_id, copied, last_item_id, at } = copyingOf(context)
  return {
    provider_thread_id,
    items: copied,
    messages,
    left_out,
    last_item_id,
    last_message_at: provider.profile.tiesBySecond ? at : null,
    copied_from: copied === 0 ? null : source.name,
  }
}

const copyingOf = ({ journal }: OperationContext) => journal.progress.copying as Copying

/** One that was lost in an earlier attempt cannot be found; empty, it harms nobody. */
async function begin(
  context: OperationContext,
  last: number | null,
  metadata: Record<string, string>,
): Promise<Copying> {
  const { provider, journal, call, holdsUnknown } = context
  const lost = journal.unresolved('create_thread')
  if (lost && holdsUnknown) await mayResend(context, lost)
  const { id } = await journal.send('create_thread', null, () =>
    provider.createThread(metadata, call),
  )
  const copying = { provider_thread_id: id, last, copied: 0, last_item_id: null, at: null }
  await journal.note({ copying })
  return copying
}

/** Adds what is not there yet; counts what is to be there, and what could not be taken along. */
async function fill(
  context: OperationContext,
  source: CopySource,
  range: CopyRange,
): Promise<Pick<Copy, 'messages' | 'left_out'>> {
  const { provider } = context
  const { copied: before } = copyingOf(context)
  let [items, messages, left_out] = [0, 0, 0]
  let next: StoredItem[] = []
  for await (const { item, copied } of itemsInRange(source, range, provider.name)) {
    if (!copied?.isWhole) left_out += 1
    if (copied === null) continue
    if (copied.kind === 'message') messages += 1
    items += 1
    if (items > before) next.push(item)
    if (next.length < provider.profile.messagesPerCall) continue
    await add(context, next)
    next = []
  }
  if (next.length > 0) await add(context, next)
  return { messages, left_out }
}

async function add(context: OperationContext, items: readonly StoredItem[]): Promise<void> {
  const { provider, journal, call } = context
  const { provider_thread_id: threadId, copied, last_item_id, at, last } = copyingOf(context)
  const tag = `${tagOf(context)}:${copied + 1}`
  const lost = journal.unresolved('copy_items')
  const found = lost && (await provider.findMessage(threadId, '', tag, last_item_id, call))
  if (lost && !found) await mayResend(context, lost)
  await awaitNextSecond(context, at)
  const ids = found
    ? [found.id]
    : await journal.send('copy_items', last_item_id, () =>
        provider.copyItems(threadId, items, tag, call),
      )
  const copying = {
    provider_thread_id: threadId,
    last,
    copied: copied + ids.length,
    last_item_id: ids.at(-1) ?? last_item_id,
    at: isoTime(journal.now()),
  }
  await journal.note({ copying })
}

/** Messages of one second have no order on some providers; a copy keeps its slot while it waits, as a run does. */
async function awaitNextSecond(context: OperationContext, at: string | null): Promise<void> {
  const { provider, journal, call, cancelWanted } = context
  if (!provider.profile.tiesBySecond || at === null) return
  const restMs = Math.min(secondMs, secondMs - (journal.now() - Date.parse(at)))
  const signal = AbortSignal.any([call.signal, cancelWanted])
  // What is sent next says what the abort was about.
  if (restMs > 0) await sleep(restMs, undefined, { signal }).catch(() => {})
}

/** Looks whether the copy is what it is to be: begins it anew where it is not, once that cannot be a read that lags. */
async function verify(
  context: OperationContext,
  source: CopySource,
  range: CopyRange,
): Promise<void> {
  const { provider, journal } = context
  const { at } = copyingOf(context)
  if (await isSame(context, source, range)) return
  const ageMs = at === null ? Infinity : journal.now() - Date.parse(at)
  const message = 'The copy does not show at the provider as it was made.'
  if (ageMs >= 0 && ageMs < provider.profile.settleMs)
    throw new NotYet({ code: 'copy_not_listed', message }, pauseAfter(ageMs))
  await discardCopy(context)
  const advice = 'It was deleted again.'
  const failure = { code: 'copy_differs', message: `${message} ${advice}`, sent: true }
  throw new ProviderError({ ...failure, decision: 'retry' })
}

/** The same items, roles and text in the same order, and nothing else. */
async function isSame(
  context: OperationContext,
  source: CopySource,
  range: CopyRange,
): Promise<boolean> {
  const { provider } = context
  const { provider_thread_id: threadId, copied: made } = copyingOf(context)
  if (made === 0) return true
  const found = itemsOf(context, threadId)
  for await (const { copied } of itemsInRange(source, range, provider.name)) {
    if (copied === null) continue
    const { value: item } = await found.next()
    if (!item || item.role !== copied.role || item.text !== copied.text) return false
    if (copied.callId !== null && item.item.call_id !== copied.callId) return false
  }
  return (await found.next()).done === true
}

/** All that stands in a provider thread, oldest first. */
export async function* itemsOf(
  context: OperationContext,
  threadId: string,
): AsyncGenerator<StoredItem> {
  for await (const { items } of conversationPages(context, threadId, null)) yield* items
}
