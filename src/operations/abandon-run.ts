import type { NamelessRun, Run } from '../model/run.ts'
import { answerCalls } from './answer-calls.ts'
import type { OperationContext } from './context.ts'
import { endRun } from './follow-run.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** Leaves a run that waits for outputs, so that neither it nor its calls stand in anybody's way. */
export async function abandonRun(
  context: OperationContext,
  threadId: string,
  { id, tool_calls }: Run | NamelessRun,
): Promise<void> {
  const { provider, journal, call } = context
  // Written down before: a cancelled run no longer says what it had asked for.
  if (journal.progress.abandoned?.run_id !== id) {
    const functions = tool_calls.map(({ name }) => name)
    await journal.note({ abandoned: { run_id: id, functions } })
  }
  if (provider.profile.callsStayOpen || id === null)
    return answerCalls(context, threadId, tool_calls)
  if (await endRun(context, threadId, id)) return
  const message = `The run ${id} asked for outputs and is being cancelled.`
  throw new NotYet({ code: 'requires_action', message }, pauseAfter(call.timeoutMs))
}
