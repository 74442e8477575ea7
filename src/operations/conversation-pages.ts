import { InturnError } from '../errors.ts'
import type { ItemPage, StoredItem } from '../model/stored-item.ts'
import { CancelWanted } from './cancelling.ts'
import type { OperationContext } from './context.ts'
import { orderedWithinSeconds } from './order-within-second.ts'
import { despiteReadLag, isNotFound } from './read-lag.ts'

/** The item is gone behind which a page was to begin. */
export class PageLost extends InturnError {
  constructor(after: string) {
    super('page_lost', `The item ${after} is not in the provider thread any more.`)
  }
}

/** Some of what stands in a provider thread, and the item behind which the next page begins. */
export type ConversationPage = { items: StoredItem[]; after: string }

/**
 * All that stands in a provider thread behind `after` (null: from the start), oldest first, page by page,
 * messages of one second in the order of their turns.
 * Throws CancelWanted between two pages, and PageLost.
 */
export async function* conversationPages(
  context: OperationContext,
  threadId: string,
  after: string | null,
): AsyncGenerator<ConversationPage> {
  const { provider, cancelWanted } = context
  let isMore = true
  while (isMore) {
    if (cancelWanted.aborted) throw new CancelWanted()
    const page = await despiteReadLag(context, () => listItems(context, threadId, after))
    const isCut = page.isMore && provider.profile.tiesBySecond
    const items = isCut ? wholeSeconds(page.items) : page.items
    const last = items.at(-1)
    if (last === undefined) return
    after = last.id
    isMore = page.isMore
    yield {
      items: provider.profile.tiesBySecond ? await orderedWithinSeconds(context, items) : items,
      after,
    }
  }
}

async function listItems(
  { provider, call }: OperationContext,
  threadId: string,
  after: string | null,
): Promise<ItemPage> {
  try {
    return await provider.listItems(threadId, after, call)
  } catch (error) {
    const isLost = after !== null && isNotFound(error) && error.code === 'item_not_found'
    throw isLost ? new PageLost(after) : error
  }
}

/** Without those of the last second: another of them, in any order, may be on the next page. */
function wholeSeconds(items: StoredItem[]): StoredItem[] {
  const last = items.at(-1)?.said_at
  const whole = items.filter(({ said_at }) => said_at !== last)
  return whole.length > 0 ? whole : items
}
