import type { NamelessRun, Run } from '../model/run.ts'
import type { CallOptions } from '../provider/provider.ts'
import { ProviderError } from '../provider/provider-error.ts'
import { modelOf } from '../provider/run-parameters.ts'
import { cancellationOf } from './cancelling.ts'
import { type OperationContext, tagOf } from './context.ts'
import { followRun, notStopped, stopRun } from './follow-run.ts'
import { awaitForeignRun, isHeldByRun, metForeignRun } from './foreign-run.ts'
import { isoTime } from './journal.ts'
import { findLostRun } from './lost-run.ts'
import { itemBefore } from './provider-thread.ts'
import { bringsMessages, type RunWish, requestOf, requestToSend } from './run-request.ts'
import { withinTime } from './time-limit.ts'
import { isWedged, repair } from './wedged-conversation.ts'

/**
 * The operation's run, followed to its end: the one that is known, the one that an earlier attempt
 * has started without hearing of it, or a new one.
 */
export async function runOnce(
  context: OperationContext,
  threadId: string,
  wish: RunWish,
): Promise<Run | NamelessRun> {
  const run = await findOrStart(context, threadId, wish)
  if (run.status !== 'cancelled' || cancellationOf(context, context.journal) === null) return run
  return (await findLateEnd(context, threadId, wish)) ?? run
}

async function findOrStart(
  context: OperationContext,
  threadId: string,
  wish: RunWish,
): Promise<Run | NamelessRun> {
  const { journal } = context
  if (journal.openRunId !== null) return followRun(context, threadId, journal.openRunId)
  const lost = await findLostRun(context, threadId, wish)
  if (lost) return lost
  const late = await findLateEnd(context, threadId, wish)
  if (late) return late
  await findPlaced(context, threadId, wish)
  if (journal.unresolved('answer_calls')) await repair(context, threadId)
  await awaitForeignRun(context, threadId, wish.parameters)
  return startRun(context, threadId, wish)
}

async function startRun(
  context: OperationContext,
  threadId: string,
  wish: RunWish,
): Promise<Run | NamelessRun> {
  const { operation, provider, journal, call, runTimeoutMs, cancelWanted } = context
  const request = await requestToSend(context, threadId, wish)
  const known = await itemBefore(context, threadId)
  // What a run without input writes is known by its place alone, and others may have written since.
  const isKnownByPlace = !provider.profile.tags && !bringsMessages(request) && !request.outputs
  const after =
    isKnownByPlace && operation.attempts > 1
      ? await provider.lastItem(threadId, known, call)
      : known
  await context.enterLane(modelOf(wish.parameters))
  try {
    const start = (call: CallOptions, begin: (passedMs: number) => void) =>
      journal.send('start_run', after, () => {
        const onStarted = async (run_id: string) => {
          journal.reach('run_named')
          const first = journal.progress.after === undefined ? { after } : {}
          await journal.note({ run_id, run_since: isoTime(journal.now()), ...first })
          begin(0)
        }
        return provider.startRun(threadId, request, tagOf(context), onStarted, call)
      })
    const run = await withinTime(call, runTimeoutMs, start, cancelWanted)
    return run ?? (await stopRun(context, threadId, journal.openRunId as string))
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error
    if (isWedged(error)) {
      await repair(context, threadId, error)
      return startRun(context, threadId, wish)
    }
    if (isHeldByRun(error)) return heldBy(context, threadId, error)
    throw error
  }
}

/** The thread is held by a run: ours, where it says so, else that of somebody else. */
async function heldBy(
  context: OperationContext,
  threadId: string,
  error: ProviderError,
): Promise<Run> {
  const { journal } = context
  const { blockingRunId } = error.failure
  if (blockingRunId !== undefined && (await isOurs(context, threadId, blockingRunId))) {
    await journal.note({ run_id: blockingRunId, run_since: isoTime(journal.now()) })
    return followRun(context, threadId, blockingRunId)
  }
  if (!journal.unresolved('start_run')) throw await metForeignRun(context, error)
  // Where no name is told, this is most likely the run whose id was lost. It counts from now.
  await journal.restartIntent({ timeout_ms: 0, free: false })
  throw await metForeignRun(context, error, { call: 'start_run' })
}

/** Where the look fails, the conflict is what is to be told; the next attempt looks for a lost run first. */
async function isOurs(context: OperationContext, threadId: string, runId: string) {
  try {
    const { tag } = await context.provider.lookAtRun(threadId, runId, context.call)
    return tag === tagOf(context)
  } catch (error) {
    if (error instanceof ProviderError) return false
    throw error
  }
}

/** A run that was cancelled and has ended all the same: providers were seen to say the one and do the other. */
async function findLateEnd(
  context: OperationContext,
  threadId: string,
  { parameters }: RunWish,
): Promise<Run | null> {
  const { provider, journal, call } = context
  const { stopping, asked } = journal.progress
  // One that asked for outputs had ended by that, and was acted on.
  if (stopping === undefined || stopping.run_id === asked?.run_id) return null
  const { run_id } = stopping
  if (await provider.isBusy(threadId, parameters, call)) throw notStopped(context, stopping)
  const run = await provider.followRun(threadId, run_id, call)
  if (run.status === 'cancelled' || run.status === 'failed') return null
  await journal.note({
    failed_run_ids: journal.progress.failed_run_ids?.filter((id) => id !== run_id),
    run_id,
  })
  return run
}

/** Notes the messages by the last of them, where a run of an earlier attempt has brought them into the thread already. */
async function findPlaced(
  context: OperationContext,
  threadId: string,
  wish: RunWish,
): Promise<void> {
  const { provider, journal, call } = context
  const message = requestOf(context, wish).messages?.at(-1)
  const { failed_run_ids = [], after = null } = journal.progress
  if (message === undefined || failed_run_ids.length === 0) return
  const found = await provider.findMessage(threadId, message, tagOf(context), after, call)
  if (found) await journal.noteBeside({ message_id: found.id })
}
