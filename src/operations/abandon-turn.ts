import type { OperationResult, Outcome } from '../model/outcome.ts'
import { answerOpenCalls, readRound } from '../store/tool-calls.ts'
import { answerCalls } from './answer-calls.ts'
import type { OperationContext } from './context.ts'
import { endRun } from './follow-run.ts'
import type { Journal } from './journal.ts'
import { knownItem } from './provider-thread.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** How the operation ends whose turn is given up. */
export type Abandonment = NonNullable<Journal['progress']['abandoned']>

type GivenUp = Extract<Outcome, { status: 'failed' | 'cancelled' }>

const noOutput = JSON.stringify({ error: 'The run was abandoned before this call was answered.' })

/**
 * Gives up a turn that has asked for outputs, so that neither its run nor its calls stand in anybody's
 * way, and returns how the operation ends. Harmless to repeat, and goes on where an earlier attempt was.
 */
export async function abandonTurn(
  context: OperationContext,
  threadId: string,
  { status, error }: Abandonment,
): Promise<GivenUp> {
  const { operation, provider, journal, call } = context
  // Written down before: whoever comes next is not to go on with the turn.
  if (journal.progress.abandoned === undefined)
    await journal.noteBeside({ abandoned: { status, error } })
  await journal.writeCalls((claim) => answerOpenCalls(context.pool, claim, noOutput))
  await leaveCalls(context, threadId)
  const newest = await provider.lastItem(threadId, knownItem(operation, journal), call)
  await journal.noteThread({ last_item_id: newest })
  return { status, error, result: resultSoFar(context, threadId) }
}

/** What there is to show of a turn that waits for outputs. */
export function resultSoFar({ journal }: OperationContext, threadId: string): OperationResult {
  const { asked, message_id } = journal.progress
  const { run_id: id = null, model = null } = asked ?? {}
  return {
    provider_thread_id: threadId,
    ...(message_id !== undefined && { message_id }),
    run: { id, status: 'requires_action', model, incomplete_reason: null },
  }
}

/** Outputs that were given are kept where the provider keeps them. */
async function leaveCalls(context: OperationContext, threadId: string): Promise<void> {
  const { operation, provider, journal, pool, call } = context
  const { asked } = journal.progress
  if (asked === undefined) return
  if (provider.profile.callsStayOpen) {
    const calls = await readRound(pool, operation.id, asked.round)
    return answerCalls(
      context,
      threadId,
      calls.map(({ output, ...rest }) => ({ ...rest, output: output ?? noOutput })),
    )
  }
  if (asked.run_id === null || (await endRun(context, threadId, asked.run_id))) return
  const message = `The run ${asked.run_id} waits for outputs and is being cancelled.`
  throw new NotYet({ code: 'requires_action', message }, pauseAfter(call.timeoutMs))
}

/**
 * Before an operation is recorded as failed or cancelled: where calls of its turn may stand open, the turn
 * is abandoned first. What fails on the way is thrown.
 */
export async function leaveNothingOpen(
  context: OperationContext,
  outcome: Outcome | null,
): Promise<Outcome | null> {
  const { operation, journal, provider } = context
  const { asked, abandoned, provider_thread_id } = journal.progress
  const threadId = operation.provider_thread_id ?? provider_thread_id
  const isGivenUp = outcome?.status === 'failed' || outcome?.status === 'cancelled'
  if (!isGivenUp || !asked || abandoned || !threadId) return outcome
  // A run that is over holds no calls of its own.
  if (!provider.profile.callsStayOpen && outcome.result?.run) return outcome
  const { status, error, result } = outcome
  const end = await abandonTurn(context, threadId, { status, error })
  return { ...end, result: result ?? end.result }
}
