import type { MessageInput } from '../model/message.ts'
import { ProviderError } from '../provider/provider-error.ts'
import { type BatchMember, membersOf } from '../store/batches.ts'
import type { Intent, Progress } from '../store/progress.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { OperationContext } from './context.ts'
import type { AddMessage } from './data/add-message.ts'
import { awaitForeignRun, whenFree } from './foreign-run.ts'
import { sendMessageOnce } from './message-once.ts'
import { itemBefore } from './provider-thread.ts'
import { isNotFound } from './read-lag.ts'
import { mayResend } from './unknown-outcome.ts'

/**
 * Adds the operation's message, where the provider takes several in one call together with those of the
 * add_messages right behind it, unless it stands there already; returns its id. Whoever sent along finds
 * its message's id in its progress when its own turn comes.
 */
export async function sendMessagesOnce(
  context: OperationContext<AddMessage>,
  threadId: string,
): Promise<string> {
  const { data, provider, journal } = context
  const lost = journal.unresolved('add_message')
  if (lost?.batch) await findBatch(context, threadId, lost, lost.batch)
  const isNew = journal.progress.message_id === undefined && !journal.unresolved()
  if (isNew && provider.profile.messagesPerCall > 1) await sendBatch(context, threadId)
  return sendMessageOnce(context, threadId, data.message)
}

async function sendBatch(context: OperationContext, threadId: string): Promise<void> {
  const { provider, journal, call } = context
  await awaitForeignRun(context, threadId)
  const after = await itemBefore(context, threadId)
  let size = 1
  try {
    const send = async (members: BatchMember[]) => {
      size = members.length
      return { members, ids: await provider.addMessages(threadId, messagesOf(members), call) }
    }
    const { members, ids } = await whenFree(context, () =>
      journal.sendBatch(after, provider.profile.messagesPerCall, send),
    )
    await noteIds(context, members, ids)
  } catch (error) {
    // One bad message has all refused. Alone, it fails nobody but itself.
    const isRefused = error instanceof ProviderError && error.failure.decision === 'fail'
    if (size === 1 || !isRefused || isNotFound(error)) throw error
  }
}

/**
 * What an earlier attempt, or the operation that sent the message along, has not heard of: all of it is
 * there or nothing. Throws where that cannot be told yet.
 */
async function findBatch(
  context: OperationContext,
  threadId: string,
  lost: Intent,
  batch: readonly number[],
): Promise<void> {
  const { pool, provider, journal, call } = context
  const members = await whileLocked(call.signal, () => membersOf(pool, batch))
  const ids = await provider.findMessages(threadId, messagesOf(members), lost.after, call)
  if (ids) return noteIds(context, members, ids)
  await mayResend(context, lost)
  await journal.note({})
}

async function noteIds(
  { operation, journal }: OperationContext,
  members: readonly BatchMember[],
  ids: readonly string[],
): Promise<void> {
  const known = Object.fromEntries(
    members.map(({ id }, i): [number, Progress] => [id, { message_id: ids[i] as string }]),
  )
  const { [operation.id]: own = {}, ...others } = known
  await journal.note(own, others)
}

// Checked when it was inserted; what is wrong with it all the same, the provider says.
const messagesOf = (members: readonly BatchMember[]): MessageInput[] =>
  members.map(({ data }) => data.message as MessageInput)
