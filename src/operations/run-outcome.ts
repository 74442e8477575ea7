import type { OperationResult, Outcome } from '../model/outcome.ts'
import type { NamelessRun, Run } from '../model/run.ts'
import { ProviderError } from '../provider/provider-error.ts'
import { abandonRun } from './abandon-run.ts'
import { cancellationOf, cancelled } from './cancelling.ts'
import type { OperationContext } from './context.ts'
import { knownItem } from './provider-thread.ts'

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
  const { operation, journal } = context
  const cancellation = cancellationOf(context, journal)
  context.stream.ended(run)
  if (run.status === 'requires_action') await abandonRun(context, threadId, run)
  const { message_id, abandoned } = journal.progress
  const isAbandoned = abandoned?.run_id === run.id
  const { id, model, incomplete_reason, usage } = run
  const status = isAbandoned ? 'requires_action' : run.status
  // Of a cancelled response the provider keeps nothing.
  const text = run.text ?? (run.status === 'cancelled' ? context.stream.text : null)
  const result: OperationResult = {
    provider_thread_id: threadId,
    ...(message_id !== undefined && { message_id }),
    ...(operation.merges && { merged: operation.merges }),
    run: { id, status, model, incomplete_reason },
    text,
    usage,
  }
  if (run.id !== null && !isAbandoned) await forgetPassing(context, run, result)
  const last_item_id = await newestItem(context, threadId, run)
  const answers = run.last_item_id !== null
  await journal.noteThread({ last_item_id, ...(answers && { last_message_at: null }) })
  if (cancellation && (status === 'cancelled' || status === 'requires_action'))
    return cancelled(context, cancellation, result)
  switch (status) {
    case 'completed':
    case 'incomplete':
      return { status: 'completed', result }
    case 'cancelled':
      return {
        status: 'cancelled',
        error: { code: 'run_cancelled', message: 'The run was cancelled by somebody else.' },
        result,
      }
    case 'requires_action':
      return { status: 'failed', error: callsLeft(abandoned?.functions ?? []), result }
    default:
      return { status: 'failed', error: run.error ?? unexplained, result }
  }
}

/** Codes of failed runs, on either provider, that say nothing against the request itself. */
const passingCodes = ['server_error', 'rate_limit_exceeded', 'vector_store_timeout']

/** Throws `RunFailed` where another run may succeed. */
async function forgetPassing(
  context: OperationContext,
  run: Run,
  result: OperationResult,
): Promise<void> {
  const { journal } = context
  const failure = passingFailure(context, run)
  if (failure === null) return
  await journal.note({ failed_run_ids: [...(journal.progress.failed_run_ids ?? []), run.id] })
  throw new RunFailed(failure, result)
}

/** Why the run failed, where that says nothing against another one. */
function passingFailure(
  context: OperationContext,
  { id, status, error }: Run,
): { code: string; message: string } | null {
  const { journal, runTimeoutMs } = context
  if (status === 'failed') return passingCodes.includes(error?.code ?? '') ? error : null
  if (status === 'expired')
    return { code: 'run_expired', message: 'The run took longer than the provider allows.' }
  const isOurs = status === 'cancelled' && journal.progress.stopping?.run_id === id
  if (!isOurs || cancellationOf(context, journal)) return null
  return {
    code: 'run_timeout',
    message: `The run ${id} took more than ${runTimeoutMs} ms and was cancelled.`,
  }
}

/** A run that went well tells its last item; what others leave behind, only the thread knows. */
async function newestItem(
  { operation, provider, journal, call }: OperationContext,
  threadId: string,
  { status, last_item_id }: Run | NamelessRun,
): Promise<string | null> {
  if (status === 'completed' && last_item_id !== null) return last_item_id
  return provider.lastItem(threadId, knownItem(operation, journal), call)
}

function callsLeft(functions: readonly string[]): { code: string; message: string } {
  const names = [...new Set(functions)].join(', ') || 'a tool'
  return {
    code: 'requires_action',
    message: `The model called ${names}, and functions of yours cannot be answered here: leave them out of "tools", or set "tool_choice" to "none".`,
  }
}

const unexplained = {
  code: 'run_failed',
  message: 'The run failed, and the provider gave no reason.',
}
