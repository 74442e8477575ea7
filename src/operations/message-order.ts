import type { OperationContext } from './context.ts'
import { isoTime } from './journal.ts'
import { NotYet } from './waiting.ts'

const secondMs = 1_000

/** Between neighbours that are further apart than this, nothing is to be checked; in milliseconds. */
const neighbourMs = 2 * secondMs

/**
 * Where messages of one second have no order, a message waits until the second is over in which the one
 * before it came. A second of ours after its answer is a later one of the provider's, whatever its clock says.
 */
export async function awaitNextSecond(context: OperationContext): Promise<void> {
  const ageMs = await ageOfNeighbour(context)
  if (ageMs === null || ageMs >= secondMs) return
  const message =
    'The message before it came in the same second, where the provider keeps no order.'
  throw new NotYet({ code: 'same_second', message }, secondMs - ageMs)
}

/**
 * Looks whether the provider lists the message behind the one that came shortly before it. Takes it back
 * where it does not: then it is added again in a later second.
 */
export async function checkOrder(
  context: OperationContext,
  threadId: string,
  messageId: string,
): Promise<void> {
  const { provider, journal, call } = context
  const ageMs = await ageOfNeighbour(context)
  const { id: before } = journal.newest
  if (ageMs === null || ageMs >= neighbourMs || before === null) return
  const isBehind = await provider.isListedBehind(threadId, messageId, before, call)
  if (isBehind !== false) return
  await journal.noteBeside({ misplaced: messageId })
  await removeMisplaced(context, threadId)
  const message = 'The provider listed the message before an earlier one: it was taken back.'
  throw new NotYet({ code: 'same_second', message }, secondMs)
}

/** Takes back the message that stood in the wrong place; nothing of it is looked for any more. */
export async function removeMisplaced(context: OperationContext, threadId: string): Promise<void> {
  const { provider, journal, call } = context
  const { misplaced } = journal.progress
  if (!misplaced) return
  await provider.deleteItem(threadId, misplaced, call)
  await journal.note({ misplaced: null })
}

/** How long ago the message came that is the newest item of the thread, in milliseconds; null: it is none, or order is kept. */
async function ageOfNeighbour({ provider, journal }: OperationContext): Promise<number | null> {
  const { messageAt } = journal.newest
  if (!provider.profile.tiesBySecond || messageAt === null) return null
  const ageMs = journal.now() - Date.parse(messageAt)
  if (ageMs >= 0) return ageMs
  // The clock was set back behind it. It would take as long again to come to it.
  await journal.noteThread({ last_message_at: isoTime(journal.now()) })
  return 0
}
