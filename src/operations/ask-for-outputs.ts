import type { Outcome } from '../model/outcome.ts'
import { addUsage, type NamelessRun, type Run } from '../model/run.ts'
import { writeToolCalls } from '../store/tool-calls.ts'
import { type Abandonment, abandonTurn, resultSoFar } from './abandon-turn.ts'
import { cancellationOf, cancelledBy } from './cancelling.ts'
import type { OperationContext } from './context.ts'
import type { ToolDeadline } from './data/tool-deadline.ts'
import { isoTime } from './journal.ts'
import { deadlineMs } from './tool-deadline.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** Writes down what a run asks for. The operation then keeps its thread and frees its slot. */
export async function askForOutputs(
  context: OperationContext<ToolDeadline>,
  threadId: string,
  run: Run | NamelessRun,
): Promise<Outcome> {
  const { journal, pool, stream } = context
  stream.ended(run)
  const { asked: before, run_id = null, run_since } = journal.progress
  // One that went on with outputs began with its first round.
  const goesOn = before?.taken === true
  const since = goesOn ? before.since : (run_since ?? isoTime(journal.now()))
  const leftMs = deadlineMs(context, since, !goesOn)
  const written = await journal.writeCalls((claim) =>
    writeToolCalls(pool, claim, run.tool_calls, Math.max(0, leftMs)),
  )
  if (goesOn && written.round === before.round) throw stillAsks(run.id)
  const usage = before && !goesOn ? addUsage(before.usage, run.usage) : run.usage
  const asked = { round: written.round, run_id, since, model: run.model, usage }
  await journal.note({
    asked,
    answered: null,
    ...(run.last_item_id !== null && { last_item_id: run.last_item_id }),
  })
  const cancellation = cancellationOf(context, journal)
  if (cancellation) {
    const error = cancelledBy(cancellation)
    return abandonTurn(context, threadId, { status: 'cancelled', error })
  }
  // A model that asks again behind the deadline would go on for ever.
  if (leftMs <= 0) return abandonTurn(context, threadId, deadlinePassed)
  return waitForOutputs(context, threadId, written.msLeft)
}

/** The operation waits for outputs, at most so long, in milliseconds. */
export const waitForOutputs = (
  context: OperationContext,
  threadId: string,
  delayMs: number,
): Outcome => ({ status: 'requires_action', result: resultSoFar(context, threadId), delayMs })

export const deadlinePassed: Abandonment = {
  status: 'failed',
  error: {
    code: 'tool_deadline',
    message:
      'The calls of its run were not all answered in time, so the run was ended: answer them sooner, or give them longer ("tool_deadline_ms").',
  },
}

/** A read that lags: the outputs of these calls were taken. */
function stillAsks(runId: string | null): NotYet {
  const message = `The run ${runId} has got its outputs, and still shows as waiting for them.`
  return new NotYet({ code: 'requires_action', message }, pauseAfter(0))
}
