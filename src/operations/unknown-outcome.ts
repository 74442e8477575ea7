import type { Intent } from '../store/progress.ts'
import type { OperationContext } from './context.ts'
import { isoTime } from './journal.ts'
import { Refusal } from './refusal.ts'
import { Held, NotYet, pauseAfter } from './waiting.ts'

/** Age of the call in milliseconds, by the database's clock. */
export async function ageOf({ journal }: OperationContext, intent: Intent): Promise<number> {
  const ageMs = journal.now() - Date.parse(intent.at as string)
  if (ageMs >= 0) return ageMs
  // The clock was set back behind the call. It would take as long again to come to it.
  const { timeout_ms, free } = intent
  await journal.restartIntent({ timeout_ms, free })
  return 0
}

/**
 * Nothing was found of a call. That proves something only once its deadline is over and reads no longer
 * lag behind: throws `NotYet` before.
 */
async function awaitSettling(context: OperationContext, intent: Intent): Promise<void> {
  if (intent.resend) return
  const ageMs = await ageOf(context, intent)
  const { call, timeout_ms } = intent
  const restMs = timeout_ms + context.provider.profile.settleMs - ageMs
  if (restMs <= 0) return
  const settles_at = isoTime(context.journal.now() + restMs)
  const message = `Whether an earlier call (${call}) took effect can be told at ${settles_at}.`
  throw new NotYet(
    { code: 'outcome_unknown', message, call, settles_at },
    Math.min(restMs, pauseAfter(ageMs)),
  )
}

/**
 * Nothing was found of a call: returns where it may be sent again, after the time that it takes to be
 * sure. Throws `Held` where the operations of this kind are for an operator to judge, and `Refusal`
 * where the attempts are used up.
 */
export async function mayResend(context: OperationContext, intent: Intent): Promise<void> {
  await awaitSettling(context, intent)
  const { operation, holdsUnknown, hasAttemptsLeft, cancelWanted } = context
  const { call, resend } = intent
  // What is to be cancelled is not sent again, and the journal sees to that.
  if (resend || cancelWanted.aborted) return
  if (!hasAttemptsLeft) {
    const message = `No call of ${call} was answered, and nothing of the last one is to be found: the attempts are used up.`
    throw new Refusal('outcome_unknown', message, { call })
  }
  if (!holdsUnknown) return
  const message = `Whether ${call} took effect cannot be told: nothing of it is to be found. \`inturn resume ${JSON.stringify(operation.thread_id)}\` sends it again; cancelling operation ${operation.id} gives it up.`
  throw new Held({ code: 'outcome_unknown', message, call })
}
