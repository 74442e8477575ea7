/**
 * The life of an operation. The same table of transitions stands in the guard trigger of the
 * database; a test compares the two.
 *
 *   pending ──▶ processing ──▶ completed | failed | cancelled
 *      ▲            │  ▲
 *      └── retry ───┘  ▼
 *               requires_action
 *
 * retry_operation alone sends what failed or was cancelled back to pending.
 */

/** What an operation asks for. One file each in `src/operations/`. */
export const operationKinds = [
  'create_thread',
  'add_message',
  'create_run',
  'add_message_and_run',
  'update_thread',
] as const
export type OperationKind = (typeof operationKinds)[number]

export const operationStatuses = [
  /** Waits in its line, or for the due time of its next attempt. */
  'pending',
  /** A dispatcher has claimed it and is executing it. */
  'processing',
  /** Its run waits for tool outputs; it keeps the thread but no dispatcher's slot. */
  'requires_action',
  /** Done; `result` says what came of it. Final. */
  'completed',
  /** Given up; `error` says why. Final, unless an operator sends it back into its line. */
  'failed',
  /** Withdrawn before it started, or its run was cancelled. Final, like `failed`. */
  'cancelled',
] as const
export type OperationStatus = (typeof operationStatuses)[number]

/** Every legal change of status. What is not here is refused by the guard trigger, whoever asks. */
export const transitions: Record<OperationStatus, readonly OperationStatus[]> = {
  pending: ['processing', 'cancelled'],
  processing: ['pending', 'requires_action', 'completed', 'failed', 'cancelled'],
  requires_action: ['processing', 'completed', 'failed', 'cancelled'],
  completed: [],
  failed: ['pending'],
  cancelled: ['pending'],
}

/** The operation stands in no line any more. */
export const isFinal = (status: OperationStatus): boolean =>
  status === 'completed' || status === 'failed' || status === 'cancelled'
