import type { Run } from '../model/run.ts'
import type { CallOptions } from '../provider/provider.ts'
import type { ClaimedOperation } from '../store/claim.ts'
import type { Progress } from '../store/progress.ts'
import { cancellationOf } from './cancelling.ts'
import type { OperationContext } from './context.ts'
import { isoTime } from './journal.ts'
import { knownItem } from './provider-thread.ts'
import { withinTime } from './time-limit.ts'
import { Held, NotYet, pauseAfter } from './waiting.ts'

/** The run that is known, at its end. One that takes too long, or that nobody wants any more, is cancelled. */
export async function followRun(
  context: OperationContext,
  threadId: string,
  runId: string,
): Promise<Run> {
  const { provider, journal, call, runTimeoutMs, cancelWanted } = context
  const { run_since, stopping } = journal.progress
  if (stopping?.run_id === runId || cancelWanted.aborted) return stopRun(context, threadId, runId)
  const ageMs = run_since === undefined ? 0 : journal.now() - Date.parse(run_since)
  const follow = (call: CallOptions, begin: (passedMs: number) => void) => {
    begin(ageMs)
    return provider.followRun(threadId, runId, call)
  }
  const run = await withinTime(call, runTimeoutMs, follow, cancelWanted)
  return run ?? stopRun(context, threadId, runId)
}

/** Cancels a run. How it ends then is for the provider to say. */
export async function stopRun(
  context: OperationContext,
  threadId: string,
  runId: string,
): Promise<Run> {
  const { journal } = context
  let { stopping } = journal.progress
  const cancellation = cancellationOf(context, journal)
  const isKnown = stopping?.run_id === runId
  if (stopping === undefined || !isKnown || (cancellation && !stopping.cancellation)) {
    const since = (isKnown && stopping?.since) || isoTime(journal.now())
    stopping = { run_id: runId, since, ...(cancellation && { cancellation }) }
    await journal.noteBeside({ stopping })
  }
  const run = await endRun(context, threadId, runId)
  if (run === null) throw notStopped(context, stopping)
  return run
}

/** A run that was cancelled and goes on; after as long again as it may take, an operator is to look. */
export function notStopped(
  { operation, journal, runTimeoutMs }: OperationContext,
  { run_id, since, cancellation }: NonNullable<Progress['stopping']>,
): NotYet | Held {
  const waitedMs = journal.now() - Date.parse(since)
  const why = cancellation ? '' : ` took more than ${runTimeoutMs} ms and`
  const message = `The run ${run_id}${why} is being cancelled.`
  const code = cancellation ? 'cancelling' : 'run_overdue'
  if (waitedMs < runTimeoutMs)
    return new NotYet({ code, message, call: 'cancel_run' }, pauseAfter(waitedMs))
  const advice = whenLetGo(operation)
  return new Held({ code: 'run_stuck', message: `${message} ${advice}`, call: 'cancel_run' })
}

/** What an operator can do about a run that does not end. */
export const whenLetGo = ({ id, thread_id }: ClaimedOperation): string =>
  `It does not end: once the provider has let go of it, \`inturn resume ${JSON.stringify(thread_id)}\` goes on; cancelling operation ${id} gives it up.`

/** Cancels a run; null where it has not ended within the deadline of a call. */
export async function endRun(
  { operation, provider, journal, call }: OperationContext,
  threadId: string,
  runId: string,
): Promise<Run | null> {
  const run = await withinTime(call, call.timeoutMs, (call, begin) => {
    begin(0)
    return journal.send('cancel_run', knownItem(operation, journal), () =>
      provider.endRun(threadId, runId, call),
    )
  })
  if (run) await journal.note({})
  return run
}
