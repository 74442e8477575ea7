import { InturnError } from '../errors.ts'
import type { OperationKind } from '../model/operation.ts'
import type { Cancellation, Failure, OperationResult, Outcome } from '../model/outcome.ts'
import type { ClaimedOperation } from '../store/claim.ts'
import type { Progress } from '../store/progress.ts'
import type { Journal } from './journal.ts'

/** Somebody wants the operation cancelled, and nothing more is begun for it. */
export class CancelWanted extends InturnError {
  constructor() {
    super('cancel_wanted', 'The operation is to be cancelled.')
  }
}

/** What is asked here of a claim: also an operation's context will do. */
type Wanted = { cancelWanted: AbortSignal; operation: ClaimedOperation }

/**
 * Who wants the operation cancelled; null: nobody. That its run was cancelled for somebody counts also
 * where the wish was withdrawn since.
 */
export function cancellationOf(
  { cancelWanted }: Wanted,
  { progress }: Pick<Journal, 'progress'>,
): Cancellation | null {
  if (cancelWanted.aborted) return cancelWanted.reason as Cancellation
  return progress.stopping?.cancellation ?? null
}

/** The error of what was cancelled; `cancelled_by` of the database says the same. */
export function cancelledBy({ operation_id, interrupted_by, reason }: Cancellation): Failure {
  const why = reason === null ? '.' : `: ${reason}`
  if (interrupted_by === null)
    return {
      code: 'cancelled',
      message: `Cancelled by operation ${operation_id}${why}`,
      operation_id,
    }
  const message = `Interrupted by operation ${interrupted_by}${why}`
  return { code: 'interrupted', message, operation_id: interrupted_by }
}

/** Cancelled with what there is to show; without a run, a message that was added stays. */
export function cancelled(
  { operation, journal }: { operation: ClaimedOperation; journal: Pick<Journal, 'progress'> },
  cancellation: Cancellation,
  result?: OperationResult,
): Outcome {
  const { message_id, provider_thread_id } = journal.progress
  const threadId = provider_thread_id ?? operation.provider_thread_id ?? undefined
  const left = message_id === undefined ? undefined : { provider_thread_id: threadId, message_id }
  return { status: 'cancelled', error: cancelledBy(cancellation), result: result ?? left }
}

/** What tells that an operation without a run has done all that it was to do. */
const doneBy: Partial<Record<OperationKind, keyof Progress>> = {
  add_message: 'message_id',
  create_thread: 'provider_thread_id',
  update_thread: 'overwritten',
  archive_thread: 'archived',
  delete_thread: 'deleting',
  expire_thread: 'deleting',
  rotate_thread: 'assigned',
  fork_thread: 'assigned',
  restore_thread: 'assigned',
}

/**
 * The operation is interrupted, and messages of it are not known to be in the thread, where they are to
 * stay; `owes_messages` of the database says the same.
 */
export function owesMessages(claim: Wanted, journal: Pick<Journal, 'progress'>): boolean {
  const { operation, merges } = claim.operation
  const { message_id, merged_message_ids: added = [] } = journal.progress
  if (!isInterruption(cancellationOf(claim, journal)) || message_id !== undefined) return false
  return operation === 'add_message_and_run' || (merges ?? []).length > added.length
}

/** Another operation wants it to make way, and nobody that it be undone. */
export const isInterruption = (cancellation: Cancellation | null): boolean =>
  cancellation !== null && cancellation.interrupted_by !== null

/** The operation has something at the provider that is to be brought to its end; `is_under_way` of the database says the same. */
export function isBegun({ operation }: ClaimedOperation, journal: Journal): boolean {
  const done = doneBy[operation]
  const { progress, isUnderWay } = journal
  const hasAsked = progress.asked !== undefined
  return (
    isUnderWay ||
    hasAsked ||
    (progress.answered ?? null) !== null ||
    (progress.copying ?? null) !== null ||
    (done !== undefined && done in progress)
  )
}

/**
 * What becomes of an attempt's outcome when somebody wants the operation cancelled. Where nothing is
 * under way there is nothing to wait for; else the error names him, so that he is known to be heard.
 */
export function underCancellation(outcome: Outcome, claim: Wanted, journal: Journal): Outcome {
  const cancellation = cancellationOf(claim, journal)
  const waits = outcome.status === 'retry' || outcome.status === 'held'
  if (cancellation === null || !(waits || outcome.status === 'holding')) return outcome
  const { operation } = claim
  const isHold = outcome.status === 'holding'
  if (isHold || (!isBegun(operation, journal) && !owesMessages(claim, journal)))
    return cancelled({ operation, journal }, cancellation)
  const { operation_id } = cancelledBy(cancellation)
  return { ...outcome, error: { ...outcome.error, operation_id } }
}
