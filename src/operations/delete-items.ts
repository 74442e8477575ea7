import type { OperationContext } from './context.ts'
import { confirmAbsence, isNotFound } from './read-lag.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** How many items are listed before they are deleted, and how many are deleted at once. */
const most = { listed: 1_000, atOnce: 8 }

/**
 * Deletes all items of a provider thread, and lists them again until none is left. `onDeleted` is told how
 * many, some at a time. A thread that is gone has none that could be deleted. Throws NotYet where the list
 * still shows what was deleted.
 */
export async function deleteItems(
  context: OperationContext,
  threadId: string,
  onDeleted: (items: number) => Promise<void>,
): Promise<void> {
  const { provider, call } = context
  const deleted = new Set<string>()
  for (;;) {
    const { ids, isEmpty } = await listLeft(context, threadId, deleted)
    if (isEmpty) return
    if (ids.length === 0) {
      const message = 'The provider still lists items that were deleted.'
      throw new NotYet({ code: 'still_listed', message }, pauseAfter(call.timeoutMs))
    }
    const left = ids[Symbol.iterator]()
    const work = async () => {
      for (const id of left) {
        await provider.deleteItem(threadId, id, call)
        deleted.add(id)
      }
    }
    const before = deleted.size
    const works = await Promise.allSettled(Array.from({ length: most.atOnce }, work))
    if (deleted.size > before) await onDeleted(deleted.size - before)
    for (const done of works) if (done.status === 'rejected') throw done.reason
  }
}

/** Items that are listed, without those deleted before. */
async function listLeft(
  context: OperationContext,
  threadId: string,
  deleted: ReadonlySet<string>,
): Promise<{ ids: string[]; isEmpty: boolean }> {
  const { provider, call } = context
  const ids: string[] = []
  let after: string | null = null
  let isEmpty = true
  try {
    for (;;) {
      const { items, isMore } = await provider.listItems(threadId, after, call)
      isEmpty &&= items.length === 0
      ids.push(...items.map(({ id }) => id).filter((id) => !deleted.has(id)))
      after = items.at(-1)?.id ?? null
      if (!isMore || after === null || ids.length >= most.listed) return { ids, isEmpty }
    }
  } catch (error) {
    if (!isNotFound(error)) throw error
    // The cursor is gone: what is left is listed from the start.
    if (after !== null) return { ids, isEmpty: false }
    await confirmAbsence(context, error)
    return { ids, isEmpty: true }
  }
}
