import type { StoredItem } from '../model/stored-item.ts'
import { giveProviderThread, readExpectation, readForkTargetProblem } from '../store/rotation.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { Handler, OperationContext } from './context.ts'
import { conversationPages } from './conversation-pages.ts'
import { copyItems } from './copy-items.ts'
import type { CopySource } from './copy-source.ts'
import type { ForkThread } from './data/fork-thread.ts'
import { awaitAnyRun } from './foreign-run.ts'
import { ownMetadata, withOrigin } from './origin.ts'
import { despiteReadLag } from './read-lag.ts'
import { Refusal } from './refusal.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** Copies the conversation, as it stands now, into a provider thread of its own for another thread. */
export const forkThread: Handler<ForkThread> = async (context) => {
  const { data, journal } = context
  const { to, last = null } = data
  if (!journal.progress.assigned) await fork(context, to, last)
  const { assigned } = journal.progress
  const { provider_thread_id, items, left_out } = assigned as NonNullable<typeof assigned>
  return { status: 'completed', result: { thread: to, provider_thread_id, items, left_out } }
}

async function fork(context: OperationContext, to: string, last: number | null): Promise<void> {
  const { operation, provider, journal, pool, call } = context
  const { provider_thread_id: from, thread_id } = operation
  refuseName(to, thread_id)
  const problem = await whileLocked(call.signal, () => readForkTargetProblem(pool, to))
  if (problem !== null) throw inUse(to, problem)
  let own: Record<string, string> = {}
  if (from !== null) {
    await awaitAnyRun(context, from)
    own = ownMetadata(
      (await despiteReadLag(context, () => provider.retrieveThread(from, call))).metadata,
    )
  }
  const copy = await copyItems(
    context,
    from === null ? nothing : conversationSource(context, from),
    {
      last,
      metadata: from === null ? own : withOrigin(own, 'forked_from', from),
    },
  )
  let refused: string | null = null
  await journal.writeNoting(async (claim) => {
    const given = await giveProviderThread(pool, claim, to, { ...copy, metadata: own })
    refused = given.refused
    return given.noted
  })
  if (refused !== null) throw inUse(to, refused)
}

function refuseName(to: string, from: string): void {
  if (to === from)
    throw new Refusal(
      'fork_target_invalid',
      `"to" names the thread itself: write the id of a new one, e.g. ${JSON.stringify(`${from.slice(0, 240)}:copy`)}.`,
    )
  if (to.length > 255 || to.trim() === '')
    throw new Refusal(
      'fork_target_invalid',
      `"to" must have 1 to 255 characters, not ${to.trim() === '' ? 0 : to.length}: write the id of a new thread.`,
    )
}

const inUse = (to: string, problem: string) =>
  new Refusal(
    'fork_target_in_use',
    `Thread ${JSON.stringify(to)} ${problem}: fork to an id on which nothing was ever started.`,
  )

const nothing: CopySource = { name: '', async *read() {} }

/** What stands in a provider thread. Throws NotYet where a read has lagged behind what is known to be there. */
function conversationSource(context: OperationContext, threadId: string): CopySource {
  const { operation, provider, pool, call } = context
  const { settleMs } = provider.profile
  async function* read(): AsyncGenerator<StoredItem> {
    let messages = 0
    let isKnownSeen = operation.last_item_id === null
    for await (const { items } of conversationPages(context, threadId, null)) {
      messages += items.filter(({ type }) => type === 'message').length
      isKnownSeen ||= items.some(({ id }) => id === operation.last_item_id)
      yield* items
    }
    const expected = await whileLocked(call.signal, () =>
      readExpectation(pool, operation.thread_id),
    )
    const isWhole = isKnownSeen && messages >= expected.messages
    // After that, somebody else has deleted what is missing.
    if (isWhole || expected.age_ms >= settleMs) return
    const message = 'The provider does not list yet all that was added to the thread.'
    throw new NotYet({ code: 'source_not_listed', message }, pauseAfter(expected.age_ms))
  }
  return { name: threadId, read }
}
