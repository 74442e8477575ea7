import type { OperationResult, Outcome } from '../model/outcome.ts'
import { addUsage, type NamelessRun, type Run } from '../model/run.ts'
import { ProviderError } from '../provider/provider-error.ts'
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
  const { operation, journal, provider } = context
  const { callsStayOpen } = provider.profile
  const cancellation = cancellationOf(context, journal)
  context.stream.ended(run)
  const { message_id, asked } = journal.progress
  const { id, status, model, incomplete_reason } = run
  const usage = asked && callsStayOpen ? addUsage(asked.usage, run.usage) : run.usage
  // Of a cancelled response the provider keeps nothing.
  const text = run.text ?? (status === 'cancelled' ? context.stream.text : null)
  const result: OperationResult = {
    provider_thread_id: threadId,
    ...(message_id !== undefined && { message_id }),
    ...(operation.merges && { merged: operation.merges }),
    run: { id, status, model, incomplete_reason },
    text,
    usage,
  }
  const passing = run.id === null ? null : passingFailure(context, run)
  if (passing && asked && !callsStayOpen)
    return { status: 'failed', error: notReplaced(passing), result }
  if (passing) {
    await journal.note({
      failed_run_ids: [...(journal.progress.failed_run_ids ?? []), id as string],
    })
    throw new RunFailed(passing, result)
  }
  const last_item_id = await newestItem(context, threadId, run)
  const answers = run.last_item_id !== null
  await journal.noteThread({ last_item_id, ...(answers && { last_message_at: null }) })
  if (cancellation && status === 'cancelled') return cancelled(context, cancellation, result)
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
    default:
      return { status: 'failed', error: run.error ?? unexplained, result }
  }
}

/** Codes of failed runs, on either provider, that say nothing against the request itself. */
const passingCodes = ['server_error', 'rate_limit_exceeded', 'vector_store_timeout']

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

/** Another run would have the same tools called again, for outputs that they have given already. */
const notReplaced = ({ code, message }: { code: string; message: string }) => ({
  code,
  message: `${message} It had called tools, so no other run was started; retry_operation starts one.`,
})

const unexplained = {
  code: 'run_failed',
  message: 'The run failed, and the provider gave no reason.',
}
