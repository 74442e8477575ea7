import type { OperationResult, Outcome } from '../model/outcome.ts'
import type { NamelessRun, Run } from '../model/run.ts'
import { ProviderError } from '../provider/provider-error.ts'
import type { OperationContext } from './context.ts'

/** A run that failed for a reason that passes: another run may succeed. The message is not added again. */
export class RunFailed extends ProviderError {
  readonly result: OperationResult

  constructor(error: { code: string; message: string }, result: OperationResult) {
    super({ ...error, decision: 'retry', sent: true })
    this.result = result
  }
}

/** What a finished run means for its operation. Throws RunFailed where another run is to be tried. */
export async function runOutcome(
  context: OperationContext,
  threadId: string,
  run: Run | NamelessRun,
): Promise<Outcome> {
  const { journal } = context
  const { message_id } = journal.progress
  const { id, status, model, incomplete_reason, text, usage } = run
  const result: OperationResult = {
    provider_thread_id: threadId,
    ...(message_id !== undefined && { message_id }),
    run: { id, status, model, incomplete_reason },
    text,
    usage,
  }
  if (run.status === 'failed' && isPassing(run)) {
    await forgetRun(context, run)
    throw new RunFailed(run.error, result)
  }
  if (run.status === 'requires_action')
    await context.provider.abandonRun(threadId, run, context.call)
  await journal.noteThread({ last_item_id: await newestItem(context, threadId, run) })
  switch (run.status) {
    case 'completed':
    case 'incomplete':
      return { status: 'completed', result }
    case 'cancelled':
      return {
        status: 'cancelled',
        error: { code: 'run_cancelled', message: 'The run was cancelled by somebody else.' },
        result,
      }
    default:
      return { status: 'failed', error: failureOf(run), result }
  }
}

/** Codes of failed runs, on either provider, that say nothing against the request itself. */
const passingCodes = ['server_error', 'rate_limit_exceeded', 'vector_store_timeout']

function isPassing(run: Run | NamelessRun): run is Run & { error: NonNullable<Run['error']> } {
  return passingCodes.includes(run.error?.code ?? '')
}

async function forgetRun({ journal }: OperationContext, { id }: Run): Promise<void> {
  await journal.note({ failed_run_ids: [...(journal.progress.failed_run_ids ?? []), id] })
  await journal.forgetLastItem()
}

/** A run that went well tells its last item; what others leave behind, only the thread knows. */
async function newestItem(
  { provider, call }: OperationContext,
  threadId: string,
  { status, last_item_id }: Run | NamelessRun,
): Promise<string | null> {
  if (status === 'completed' && last_item_id !== null) return last_item_id
  return provider.lastItem(threadId, call)
}

function failureOf({ status, error, tool_calls }: Run | NamelessRun): {
  code: string
  message: string
} {
  if (status === 'requires_action') {
    const names = [...new Set(tool_calls.map(({ name }) => name))].join(', ')
    return {
      code: 'requires_action',
      message: `The model called ${names || 'a tool'}, and functions of yours cannot be answered here: leave them out of "tools", or set "tool_choice" to "none".`,
    }
  }
  if (status === 'expired')
    return { code: 'run_expired', message: 'The run took longer than the provider allows.' }
  return (
    error ?? { code: 'run_failed', message: 'The run failed, and the provider gave no reason.' }
  )
}
