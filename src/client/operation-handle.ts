import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../db/query.ts'
import type { InturnError } from '../errors.ts'
import { isFinal, type OperationKind, type OperationStatus } from '../model/operation.ts'
import type { OperationResult } from '../model/outcome.ts'
import type { StreamEvent } from '../model/stream-event.ts'
import { enqueueRows } from '../store/enqueue-rows.ts'
import { describeStanding, type OperationState, readStates, withdraw } from '../store/operations.ts'
import { retryOperation } from '../store/retry-operation.ts'
import { readCallsOfOperation, type ToolCallRecord } from '../store/tool-call-records.ts'
import { operationNotFound, ResultTimeoutError, resultOf } from './errors.ts'
import { type StreamOptions, streamOf } from './operation-stream.ts'
import type { SettleWatch } from './settle-watch.ts'
import type { StreamWatch } from './stream-watch.ts'
import { untilSettled, type WaitOptions } from './until-settled.ts'

export type ResultOptions = WaitOptions

type Shown = {
  create_run: 'run' | 'text' | 'usage'
  add_message_and_run: 'run' | 'text' | 'usage'
  cancel_run: 'outcome'
  archive_thread: 'items'
  submit_tool_outputs: 'operation_id' | 'call_ids' | 'missing'
}

/** What a completed operation of this kind has to show: those with a run always tell how it ended. */
export type ResultOf<Kind extends OperationKind> = Kind extends keyof Shown
  ? OperationResult & Required<Pick<OperationResult, Shown[Kind]>>
  : OperationResult

/** What a handle asks: the tables, whoever waits for operations to settle, and whoever reads what they say. */
export type HandleContext = { database: Database; watch: SettleWatch; streams: StreamWatch }

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
   * inserted the operation has committed. One that was merged gives the result of the operation that
   * took its message along: it was answered there.
   *
   * Throws OperationFailedError, OperationCancelledError (OperationSupersededError where a later one
   * has superseded it), ResultTimeoutError, the signal's reason, and
   * `operation_not_found`, `client_closed`, or the driver's error when the database was away for 30 s.
   *
   * @example
   * const { text } = await handle.result({ timeoutMs: 60_000 })
   */
  async result({ timeoutMs, signal }: ResultOptions = {}): Promise<ResultOf<Kind>> {
    const until = timeoutMs === undefined ? undefined : performance.now() + timeoutMs
    for (let { id } = this; ; ) {
      const restMs = until === undefined ? undefined : until - performance.now()
      const end = await untilSettled(this.#context.watch, id, { timeoutMs: restMs, signal })
      if (end === null) throw new ResultTimeoutError(id, timeoutMs ?? 0, await this.#standing(id))
      const into = mergedInto(end)
      if (into === null) return resultOf(end) as ResultOf<Kind>
      id = into
    }
  }

  /**
   * What the operation says, while it says it and afterwards: all events from the number `from` on, each
   * once and in order, and last one of type `ended`. Any number may read it, in any process; who reads
   * slowly holds nobody up. Some time after the end (`streamRetentionMs` of the dispatcher, an hour) only
   * `ended` is left: `result` has the whole answer. Throws `from_invalid`; the iteration throws the
   * signal's reason, `operation_not_found`, `client_closed`, and what `result` throws of the driver.
   *
   * @example
   * for await (const event of handle.stream()) {
   *   if (event.type === 'text') process.stdout.write(event.delta)
   * }
   */
  stream(options: StreamOptions = {}): AsyncIterable<StreamEvent> {
    return streamOf(this.#context.streams, this.id, options)
  }

  /** How the operation stands now. Throws `operation_not_found`. */
  async status(): Promise<OperationStatus> {
    const [state] = await readStates(this.#context.database, [this.id])
    if (!state) throw operationNotFound(this.id)
    return state.status
  }

  /**
   * The tool calls that its run has asked for, of all rounds; `output` is null where one is open. Those of
   * an operation that was deleted are gone with it.
   */
  toolCalls(): Promise<ToolCallRecord[]> {
    return readCallsOfOperation(this.#context.database, this.id)
  }

  /**
   * Takes the operation out of its line, or has its run cancelled by a `cancel_run`; what stands behind it
   * moves on. Resolves when that is certain to be done, which takes until the run is over: `result` then
   * throws OperationCancelledError, or gives the answer of a run that was faster. What is final stays as
   * it is. Throws `operation_not_found`.
   */
  async cancel(): Promise<void> {
    const { database, watch } = this.#context
    if (await withdraw(database, this.id)) return watch.lookAt(this.id)
    if (isFinal(await this.status())) return
    const data = { operation_id: this.id }
    await enqueueRows(database, [{ thread: this.threadId, operation: 'cancel_run', data }])
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
  async #standing(id: number): Promise<string> {
    const { database } = this.#context
    const unknown = 'not known how far it is, because the database does not answer'
    const patience = new AbortController()
    return Promise.race([
      describeStanding(database, id, this.threadId).catch(() => unknown),
      sleep(1_000, unknown, { signal: patience.signal }),
    ]).finally(() => patience.abort())
  }
}

/** The operation that took the message of this one along. */
const mergedInto = ({ error }: OperationState): number | null =>
  error?.code === 'merged' ? (error.operation_id ?? null) : null
