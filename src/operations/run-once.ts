import type { MessageInput } from '../model/message.ts'
import type { NamelessRun, Run } from '../model/run.ts'
import type { RunParameters } from '../provider/provider.ts'
import { type OperationContext, tagOf } from './context.ts'
import { itemBefore } from './provider-thread.ts'

export type RunWish = {
  /** Travels with the run, where the provider takes it along. */
  message?: MessageInput
  parameters: RunParameters
}

/**
 * The operation's run, followed to its end: the one that is known, the one that an earlier attempt
 * has started without hearing of it, or a new one.
 */
export async function runOnce(
  context: OperationContext,
  threadId: string,
  { message, parameters }: RunWish,
): Promise<Run | NamelessRun> {
  const { provider, journal, call } = context
  if (journal.openRunId !== null) return provider.followRun(threadId, journal.openRunId, call)

  const after = await itemBefore(context, threadId)
  const placedId = message && (await findPlaced(context, threadId, after, message))
  const lost = await findLostRun(context, threadId, placedId ?? after)
  if (lost) return lost
  const request = message && !placedId ? { message, parameters } : { parameters }
  const onStarted = (run_id: string) => {
    journal.reach('run_named')
    return journal.note({ run_id, after })
  }
  return journal.send('start_run', after, () =>
    provider.startRun(threadId, request, tagOf(context), onStarted, call),
  )
}

/** Id of the message, where a run of an earlier attempt has brought it into the thread already. */
async function findPlaced(
  context: OperationContext,
  threadId: string,
  after: string | null,
  message: MessageInput,
): Promise<string | null> {
  const { provider, journal, call } = context
  const hasFailed = (journal.progress.failed_run_ids ?? []).length > 0
  if (!hasFailed && !journal.unresolved('start_run')) return null
  const found = await provider.findMessage(threadId, message, tagOf(context), after, call)
  return found?.id ?? null
}

/** The run that an earlier attempt may have started, by whatever the provider shows of it. */
async function findLostRun(
  context: OperationContext,
  threadId: string,
  after: string | null,
): Promise<Run | NamelessRun | null> {
  const { provider, journal, call } = context
  const intent = journal.unresolved('start_run')
  if (intent === null) return null
  const found = await provider.findRun(threadId, tagOf(context), call)
  if (found && !journal.progress.failed_run_ids?.includes(found.id)) {
    await journal.note({ run_id: found.id })
    return provider.followRun(threadId, found.id, call)
  }
  const answered = await provider.findAnswer(threadId, after, call)
  if (answered === null) journal.giveTimeToSettle(intent, provider.profile.settleMs)
  return answered
}
