import type { NamelessRun, Run } from '../model/run.ts'
import type { RunRequest } from '../provider/provider.ts'
import type { Intent, Progress } from '../store/progress.ts'
import { type OperationContext, tagOf } from './context.ts'
import { followRun, whenLetGo } from './follow-run.ts'
import { othersWereServed } from './provider-thread.ts'
import { bringsMessages, type RunWish, requestOf } from './run-request.ts'
import { ageOf, mayResend } from './unknown-outcome.ts'
import { Held, NotYet, pauseAfter } from './waiting.ts'

/**
 * The run that an earlier attempt may have started without hearing of it, by whatever the provider
 * shows. Null: there is none, and another may be started.
 */
export async function findLostRun(
  context: OperationContext,
  threadId: string,
  wish: RunWish,
): Promise<Run | NamelessRun | null> {
  const { answered } = context.journal.progress
  if (answered) return findAgain(context, threadId, wish, answered)
  const intent = context.journal.unresolved('start_run')
  if (intent === null) return null
  return context.provider.profile.tags
    ? findByTag(context, threadId, intent)
    : findByAnswer(context, threadId, requestOf(context, wish), intent)
}

async function findByTag(
  context: OperationContext,
  threadId: string,
  intent: Intent,
): Promise<Run | null> {
  const { provider, journal, call } = context
  const found = await provider.findRun(threadId, tagOf(context), call)
  if (found === null || journal.progress.failed_run_ids?.includes(found.id)) {
    await mayResend(context, intent)
    return null
  }
  await journal.note({ run_id: found.id, run_since: intent.at })
  return followRun(context, threadId, found.id)
}

/**
 * What a response writes shows only when it is over. So first the thread must be free: then it is
 * over, if ever it began, and reads need no longer than the settle time to show it.
 */
async function findByAnswer(
  context: OperationContext,
  threadId: string,
  request: RunRequest,
  lost: Intent,
): Promise<NamelessRun | null> {
  const { provider, journal, call } = context
  // An answer that follows no message of ours may be that of others, who were served since.
  const isOurs = bringsMessages(request) || !othersWereServed(context.operation, journal)
  if (lost.sent_back && !isOurs) {
    await journal.note({})
    return null
  }
  let intent = lost
  const ageMs = await ageOf(context, intent)
  const isPastDeadline = ageMs >= intent.timeout_ms || intent.resend === true
  const look = () => provider.findAnswer(threadId, intent.after, request, call)
  let trace = await look()
  if (trace.found !== 'run' && isPastDeadline && !intent.free) {
    if (await provider.isBusy(threadId, request.parameters, call))
      throw stillGoesOn(context, ageMs - intent.timeout_ms)
    intent = await journal.restartIntent({ timeout_ms: 0, free: true })
    trace = await look() // it may have ended between the two
  }
  if (trace.found === 'run') {
    const { after } = intent
    const answered = { after, message: bringsMessages(request) }
    // Outputs of calls are no message.
    const message_id = request.outputs ? null : trace.messageId
    await journal.note({ answered, ...(message_id !== null && { message_id }) })
    return trace.run
  }
  await mayResend(context, intent)
  if (trace.found === 'message' && !request.outputs)
    await journal.note({ message_id: trace.messageId })
  return null
}

/** The answer that an earlier attempt has found. */
async function findAgain(
  { provider, call }: OperationContext,
  threadId: string,
  wish: RunWish,
  answered: NonNullable<Progress['answered']>,
): Promise<NamelessRun | null> {
  const { outputs, parameters } = wish
  const request = answered.message ? wish : { outputs, parameters }
  const trace = await provider.findAnswer(threadId, answered.after, request, call)
  return trace.found === 'run' ? trace.run : null
}

/** Nobody else writes to the thread: it can only be our own run. */
function stillGoesOn(
  { operation, runTimeoutMs }: OperationContext,
  waitedMs: number,
): NotYet | Held {
  const message =
    'The thread is held by a run, most likely the one whose id was lost: its answer is awaited.'
  if (waitedMs < runTimeoutMs)
    return new NotYet(
      { code: 'conversation_locked', message, call: 'start_run' },
      pauseAfter(waitedMs),
    )
  return new Held({
    code: 'run_stuck',
    message: `${message} ${whenLetGo(operation)}`,
    call: 'start_run',
  })
}
