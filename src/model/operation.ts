/**
 * The life of an operation. The same table of transitions stands in the guard trigger of the
 * database; a test compares the two.
 *
 *   scheduled ──▶ pending ──▶ processing ──▶ completed | failed | cancelled
 *                    ▲            │  ▲
 *                    └── retry ───┘  ▼
 *                             requires_action
 *
 * What acts beside the line, and what is refused, superseded or merged, ends without being started.
 * retry_operation alone sends what failed or was cancelled back to pending.
 */

/** What an operation that stands in the line asks for. One file each in `src/operations/`. */
export const kindsInLine = [
  'create_thread',
  'add_message',
  'create_run',
  'add_message_and_run',
  'update_thread',
  'hold',
  'archive_thread',
  'rotate_thread',
  'fork_thread',
  'restore_thread',
  'expire_thread',
  'delete_thread',
] as const
export type KindInLine = (typeof kindsInLine)[number]

/**
 * Those that act on the operation which is being served when they are inserted. They do not stand in
 * the line, have no place and no turn, and no dispatcher claims them.
 */
export const kindsBesideTheLine = ['submit_tool_outputs', 'cancel_run'] as const

export const operationKinds = [...kindsInLine, ...kindsBesideTheLine] as const
export type OperationKind = (typeof operationKinds)[number]

export const operationStatuses = [
  /** Joins the tail of its line when its time has come (`scheduled_at`), and is in nobody's way before. */
  'scheduled',
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
  scheduled: ['pending', 'cancelled'],
  pending: ['processing', 'completed', 'failed', 'cancelled'],
  processing: ['pending', 'requires_action', 'completed', 'failed', 'cancelled'],
  requires_action: ['processing'],
  completed: [],
  failed: ['pending'],
  cancelled: ['pending'],
}

/** What becomes of an operation whose thread is busy when it is inserted. docs/when-busy.md says it case by case. */
export const busyStrategies = [
  /** It waits for its turn. The default. */
  'enqueue',
  /** It fails at once, and says what is in its way. */
  'reject',
  /** The run that is going on is cancelled, what it said is kept, and the line goes on. */
  'interrupt',
  /** Those that still wait before it are superseded by it. */
  'latest',
  /** The messages of those that still wait before it are answered by its run. */
  'merge',
  /** Both. */
  'interrupt+merge',
] as const
export type BusyStrategy = (typeof busyStrategies)[number]

/** The operation stands in no line any more. */
export const isFinal = (status: OperationStatus): boolean =>
  status === 'completed' || status === 'failed' || status === 'cancelled'
