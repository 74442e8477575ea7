import type { AnsweredCall, Run } from '../model/run.ts'
import type { CallOptions, RunParameters } from '../provider/provider.ts'
import { ProviderError } from '../provider/provider-error.ts'
import { modelOf } from '../provider/run-parameters.ts'
import type { Progress } from '../store/progress.ts'
import type { OperationContext } from './context.ts'
import { followRun, stopRun } from './follow-run.ts'
import { isoTime } from './journal.ts'
import { knownItem } from './provider-thread.ts'
import { withinTime } from './time-limit.ts'

/** A round of calls that a run waits for itself, which has told its id. */
type Asked = NonNullable<Progress['asked']> & { run_id: string }

/**
 * Gives a run that waits for them the outputs of a round, once, and follows it from there. Whether an
 * earlier attempt was heard, the run tells: it does not wait any more, or for others. A second
 * submission of the same is refused, so where it still waits they are sent again.
 */
export async function submitOutputs(
  context: OperationContext,
  threadId: string,
  {
    asked,
    calls,
    parameters,
  }: { asked: Asked; calls: readonly AnsweredCall[]; parameters: RunParameters },
): Promise<Run> {
  const { operation, provider, journal, call, runTimeoutMs, cancelWanted } = context
  const goesOn = () =>
    journal.note({ asked: { ...asked, taken: true }, run_since: isoTime(journal.now()) })
  if (journal.unresolved('submit_outputs')) {
    const run = await followRun(context, threadId, asked.run_id)
    if (!waitsFor(run, calls)) {
      await goesOn()
      return run
    }
  }
  await context.enterLane(modelOf(parameters))
  try {
    const send = (call: CallOptions, begin: (passedMs: number) => void) =>
      journal.send('submit_outputs', knownItem(operation, journal), () => {
        const onTaken = async () => {
          journal.reach('run_named')
          await goesOn()
          begin(0)
        }
        return provider.submitOutputs(threadId, asked.run_id, calls, onTaken, call)
      })
    const run = await withinTime(call, runTimeoutMs, send, cancelWanted)
    return run ?? (await stopRun(context, threadId, asked.run_id))
  } catch (error) {
    if (!(error instanceof ProviderError && error.code === 'outputs_not_accepted')) throw error
    // Taken before, or the run is over.
    await goesOn()
    return followRun(context, threadId, asked.run_id)
  }
}

const waitsFor = ({ status, tool_calls }: Run, calls: readonly AnsweredCall[]): boolean =>
  status === 'requires_action' &&
  tool_calls.every(({ call_id }) => calls.some((call) => call.call_id === call_id))
