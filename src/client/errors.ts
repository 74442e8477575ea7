import { InturnError } from '../errors.ts'
import type { Failure, OperationResult } from '../model/outcome.ts'
import type { OperationState } from '../store/operations.ts'

/**
 * The database refused what was asked, and nothing was written. `code` is the constraint's name, such
 * as `operation_data_is_valid` or `thread_is_open`; `hint` says what to write instead. Inside a Prisma
 * transaction, which does not tell constraints, `code` is `refused`.
 */
export class RefusedError extends InturnError {}

/** The thread has another operation under this idempotency key. Code `idempotency_conflict`. */
export class IdempotencyConflictError extends InturnError {
  /** The operation that has the key. */
  readonly operationId: number

  constructor(threadId: string, key: string, operationId: number) {
    super(
      'idempotency_conflict',
      `Thread "${threadId}" has the idempotency key "${key}" already, for operation ${operationId} of another kind or with other data`,
      { hint: 'Use a new key for a new request; send the same operation and data to repeat one.' },
    )
    this.operationId = operationId
  }
}

/** The operation was given up. `code` is that of its `error`, such as `provider_thread_not_found`. */
export class OperationFailedError extends InturnError {
  readonly operationId: number
  /** HTTP status of the provider's answer, where there was one. */
  readonly providerStatus: number | undefined
  /** The provider's request id, to quote to its support. */
  readonly requestId: string | undefined
  /** What is known of a run that failed; null when there was none. */
  readonly result: OperationResult | null
  /** Code `thread_busy`: the operation that was in its way. */
  readonly busyWith: number | undefined

  constructor(operationId: number, failure: Failure | null, result: OperationResult | null) {
    super(
      failure?.code ?? 'operation_failed',
      `Operation ${operationId} failed: ${failure?.message ?? 'no reason was given'}`,
    )
    this.operationId = operationId
    this.providerStatus = failure?.provider_status
    this.requestId = failure?.request_id
    this.result = result
    this.busyWith = failure?.code === 'thread_busy' ? failure.operation_id : undefined
  }
}

/**
 * The operation was withdrawn (`operation_cancelled`), or cancelled by a `cancel_run` (`cancelled`), by an
 * operation that interrupts (`interrupted`) or by somebody else at the provider (`run_cancelled`).
 */
export class OperationCancelledError extends InturnError {
  readonly operationId: number
  /** What is known of a run that was cancelled; null when there was none. */
  readonly result: OperationResult | null

  constructor(operationId: number, failure: Failure | null, result: OperationResult | null) {
    super(
      failure?.code ?? 'operation_cancelled',
      `Operation ${operationId} was cancelled${failure ? `: ${failure.message}` : ''}`,
    )
    this.operationId = operationId
    this.result = result
  }
}

/** Another operation came after it, and supersedes those who wait (`latest`). Code `superseded`. */
export class OperationSupersededError extends OperationCancelledError {
  /** The operation that came after it. */
  readonly supersededBy: number

  constructor(operationId: number, failure: Failure, supersededBy: number) {
    super(operationId, failure, null)
    this.supersededBy = supersededBy
  }
}

/** What an operation that is final has brought. Throws where it failed or was cancelled. */
export function resultOf({ id, status, result, error }: OperationState): OperationResult {
  if (status === 'completed') return result ?? {}
  if (status === 'failed') throw new OperationFailedError(id, error, result)
  throw error?.code === 'superseded' && error.operation_id !== undefined
    ? new OperationSupersededError(id, error, error.operation_id)
    : new OperationCancelledError(id, error, result)
}

/** The operation was not final in time; it goes on all the same. Code `result_timeout`. */
export class ResultTimeoutError extends InturnError {
  readonly operationId: number

  constructor(operationId: number, timeoutMs: number, standing: string) {
    super(
      'result_timeout',
      `Operation ${operationId} was not final after ${timeoutMs} ms: it is ${standing}`,
      {
        hint: 'It keeps its place: call result() again to wait on, or cancel() to end it.',
      },
    )
    this.operationId = operationId
  }
}

/** The caller's own code has no longer the thread that it held. Code `hold_lost`. */
export class HoldLostError extends InturnError {
  /** The hold. */
  readonly operationId: number

  constructor(operationId: number, threadId: string, why: string) {
    super('hold_lost', `Hold ${operationId} of thread "${threadId}" is lost: ${why}`, {
      hint: 'Others may have the thread by now: stop what you do there, and hold it anew.',
    })
    this.operationId = operationId
  }
}

export const operationNotFound = (id: number): InturnError =>
  new InturnError('operation_not_found', `There is no operation ${id}`, {
    hint: 'It was deleted, or the transaction that inserted it was rolled back or has not committed yet.',
  })

export const clientClosed = (): InturnError =>
  new InturnError('client_closed', 'This Inturn client was closed', {
    hint: 'Make a new one with new Inturn(…), or close it later.',
  })
