import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import type { OperationKind, OperationStatus } from '../model/operation.ts'
import type { OperationResult } from '../model/outcome.ts'
import { cancelPending, describeStanding, readStates } from '../store/operations.ts'
import { retryOperation } from '../store/retry-operation.ts'
import {
  OperationCancelledError,
  OperationFailedError,
  operationNotFound,
  ResultTimeoutError,
} from './errors.ts'
import type { SettleWatch } from './settle-watch.ts'

export type ResultOptions = {
  /** Longest wait, in milliseconds. Default: as long as it takes. */
  timeoutMs?: number
  /** Ends the wait, not the operation: `result` then rejects with the signal's reason. */
  signal?: AbortSignal
}

type WithRun = OperationResult & Required<Pick<OperationResult, 'run' | 'text' | 'usage'>>

/** What a completed operation of this kind has to show; those with a run always tell how it ended. */
export type ResultOf<Kind extends OperationKind> = Kind extends 'create_run' | 'add_message_and_run'
  ? WithRun
  : OperationResult

/** What a handle asks: the tables, and whoever waits for operations to settle. */
export type HandleContext = { database: Database; watch: SettleWatch }

/** The longest time that a timer of Node takes. */
const longestTimerMs = 2 ** 31 - 1

/** One operation in its line. Made by `enqueue`, or from an id by `inturn.operation(id)`. */
export class OperationHandle<Kind extends OperationKind = OperationKind> {
  readonly id: number
  readonly threadId: string
  readonly operation: Kind
  readonly #context: HandleContext

  constructor(context: HandleContext, id: number, threadId: string, operation: Kind) {
    this.#context = context
    this.id = id
    this.threadId = threadId
    this.operation = operation
  }

  /**
   * Waits until the operation is final and gives its result. Call it after the transaction that
   * inserted the operation has committed.
   *
   * Throws OperationFailedError, OperationCancelledError, ResultTimeoutError, the signal's reason, and
   * `operation_not_found`, `client_closed`, or the driver's error when the database was away for 30 s.
   *
   * @example
   * const { text } = await handle.result({ timeoutMs: 60_000 })
   */
  async result({ timeoutMs, signal }: ResultOptions = {}): Promise<ResultOf<Kind>> {
    signal?.throwIfAborted()
    const { settled, leave } = this.#context.watch.watch(this.id)
    const onAbort = () => leave(signal?.reason)
    const late = Symbol('late')
    const timer =
      timeoutMs !== undefined && timeoutMs <= longestTimerMs
        ? setTimeout(() => leave(late), timeoutMs)
        : undefined
    signal?.addEventListener('abort', onAbort)
    try {
      const { status, result, error } = await settled
      if (status === 'failed') throw new OperationFailedError(this.id, error, result)
      if (status === 'cancelled') throw new OperationCancelledError(this.id, error, result)
      return (result ?? {}) as ResultOf<Kind>
    } catch (error) {
      if (error !== late) throw error
      throw new ResultTimeoutError(this.id, timeoutMs ?? 0, await this.#standing())
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** How the operation stands now. Throws `operation_not_found`. */
  async status(): Promise<OperationStatus> {
    const [state] = await readStates(this.#context.database, [this.id])
    if (!state) throw operationNotFound(this.id)
    return state.status
  }

  /**
   * Takes the operation out of its line while it is pending; what stands behind it moves on. Throws
   * `operation_not_pending` once a dispatcher has it or it is final, and `operation_not_found`.
   */
  async cancel(): Promise<void> {
    if (await cancelPending(this.#context.database, this.id)) {
      this.#context.watch.lookAt(this.id)
      return
    }
    const status = await this.status()
    throw new InturnError(
      'operation_not_pending',
      `Operation ${this.id} is ${status}: only a pending one can be cancelled`,
    )
  }

  /**
   * Sends the operation back into its line after it failed or was cancelled: before all who wait, or to
   * the end. Its `result` can be waited for anew. Throws RefusedError where it is anything else
   * (`only_failed_and_cancelled_go_back`) or its thread is closed, and `row_locked`.
   */
  async retry({ at }: { at: 'head' | 'tail' }): Promise<void> {
    await retryOperation(this.#context.database, this.id, at)
  }

  /** For a message only, so it may not make anybody wait much longer. */
  async #standing(): Promise<string> {
    const { database } = this.#context
    const unknown = 'not known how far it is, because the database does not answer'
    const patience = new AbortController()
    return Promise.race([
      describeStanding(database, this.id, this.threadId).catch(() => unknown),
      sleep(1_000, unknown, { signal: patience.signal }),
    ]).finally(() => patience.abort())
  }
}
