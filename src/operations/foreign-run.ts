import type { Failure } from '../model/outcome.ts'
import type { RunParameters } from '../provider/provider.ts'
import { ProviderError } from '../provider/provider-error.ts'
import { latestModel } from '../store/threads.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { OperationContext } from './context.ts'
import { endRun } from './follow-run.ts'
import { isoTime } from './journal.ts'
import { isNotFound } from './read-lag.ts'
import { Refusal } from './refusal.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** Sends something through the journal, which a run of somebody else may have to be awaited for. */
export function sendWhenFree<T>(
  context: OperationContext,
  call: string,
  after: string | null,
  work: () => Promise<T>,
): Promise<T> {
  return whenFree(context, () => context.journal.send(call, after, work))
}

/** Does what a run of somebody else may have to be awaited for. */
export async function whenFree<T>(context: OperationContext, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (isHeldByRun(error)) throw await metForeignRun(context, error)
    throw error
  }
}

export const isHeldByRun = (error: unknown): error is ProviderError =>
  error instanceof ProviderError && error.failure.decision === 'wait_for_run'

/** Writes down which run holds the thread; returns what is to be thrown. */
export async function metForeignRun(
  context: OperationContext,
  { code, message, failure }: ProviderError,
  more: Partial<Failure> = {},
): Promise<NotYet> {
  const id = failure.blockingRunId ?? null
  await noteForeignRun(context, id)
  return waitLonger(context, {
    code,
    message,
    provider_status: failure.status,
    request_id: failure.requestId,
    foreign_run_id: id,
    ...more,
  })
}

async function noteForeignRun({ journal }: OperationContext, id: string | null): Promise<void> {
  const { foreign_run } = journal.progress
  if (!foreign_run || foreign_run.id !== id)
    await journal.noteBeside({ foreign_run: { id, since: isoTime(journal.now()) } })
}

/** The run that is on the thread, also one that nobody has met yet. */
async function activeRun({ operation, provider, pool, call }: OperationContext, threadId: string) {
  const model = await whileLocked(call.signal, () => latestModel(pool, operation.thread_id))
  return provider.activeRun(threadId, model, call)
}

/** Goes on where no run is on the thread, whoever may have started it. */
export async function awaitAnyRun(context: OperationContext, threadId: string): Promise<void> {
  const run = await activeRun(context, threadId)
  if (run === null) return
  await noteForeignRun(context, run.id)
  throw stillHeld(context, run.id)
}

/** As `awaitAnyRun`, but a run that the provider names is cancelled. A thread that the provider does not know has none. */
export async function endAnyRun(context: OperationContext, threadId: string): Promise<void> {
  const { journal } = context
  const run = await activeRun(context, threadId).catch((error) => {
    if (isNotFound(error)) return null
    throw error
  })
  if (run === null) {
    if (journal.unresolved('cancel_run')) await journal.note({})
    return
  }
  await noteForeignRun(context, run.id)
  if (run.id !== null && (await endRun(context, threadId, run.id))) return
  throw stillHeld(context, run.id)
}

/**
 * Before anything is sent again to a thread that a foreign run held: looks whether that is over.
 * Where the provider does not name it, `parameters` of a run let it be asked for; without, what is
 * sent next will tell.
 */
export async function awaitForeignRun(
  context: OperationContext,
  threadId: string,
  parameters?: RunParameters,
): Promise<void> {
  const { provider, journal, call } = context
  const { foreign_run } = journal.progress
  if (!foreign_run) return
  const { id } = foreign_run
  if (id !== null && (await isOver(context, threadId, id))) return
  if (id === null && !(parameters && (await provider.isBusy(threadId, parameters, call)))) return
  throw stillHeld(context, id)
}

function stillHeld(context: OperationContext, id: string | null): NotYet {
  const code = id === null ? 'conversation_locked' : 'thread_busy'
  const message = `${nameOf(id)} still holds the thread.`
  return waitLonger(context, { code, message, foreign_run_id: id })
}

/** The wait for the foreign run. Throws Refusal `foreign_run_timeout` where it has lasted too long. */
function waitLonger({ journal, foreignRunMs }: OperationContext, failure: Failure): NotYet {
  const { id, since } = journal.progress.foreign_run as { id: string | null; since: string }
  const waitedMs = journal.now() - Date.parse(since)
  if (waitedMs < foreignRunMs) return new NotYet(failure, pauseAfter(waitedMs))
  const message = `${nameOf(id)} has held the thread for more than ${foreignRunMs} ms: cancel it at the provider, then insert the operation again.`
  throw new Refusal('foreign_run_timeout', message, { foreign_run_id: id })
}

const nameOf = (id: string | null) =>
  id === null ? 'A run that did not come from inturn' : `The run ${id}, which is not ours,`

async function isOver(
  { provider, call }: OperationContext,
  threadId: string,
  runId: string,
): Promise<boolean> {
  try {
    return (await provider.lookAtRun(threadId, runId, call)).isOver
  } catch (error) {
    // Whether it holds the thread, what is sent next will tell.
    if (isNotFound(error)) return true
    throw error
  }
}
