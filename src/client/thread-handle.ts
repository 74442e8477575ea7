import type { MessageInput } from '../model/message.ts'
import type { OperationKind } from '../model/operation.ts'
import type { OperationData } from '../operations/data/index.ts'
import type { RunParameters } from '../operations/data/run-parameters.ts'
import type { ToolOutput } from '../operations/data/submit-tool-outputs.ts'
import type { ToolDeadline } from '../operations/data/tool-deadline.ts'
import { reopenThread } from '../store/reopen-thread.ts'
import { type Resumed, resumeThread } from '../store/resume-thread.ts'
import { saveThreadSettings, type ThreadSettings } from '../store/thread-settings.ts'
import { readThreadStats, type ThreadStats } from '../store/thread-stats.ts'
import {
  type OperationRecord,
  readThreadOperations,
  readThreadState,
  readTimeline,
  type ThreadState,
  type TimelineEntry,
} from '../store/thread-views.ts'
import { readOpenCalls, type ToolCallRecord } from '../store/tool-call-records.ts'
import { type Held, type HoldOptions, hold } from './hold.ts'
import { idle } from './idle.ts'
import type { Inturn } from './inturn.ts'
import type { EnqueueOptions, JoinOptions, NewOperation } from './new-operation.ts'
import type { HandleContext, OperationHandle } from './operation-handle.ts'
import { ThreadLife } from './thread-life.ts'
import type { WaitOptions } from './until-settled.ts'

export type CancelOptions = {
  /** Which operation of the thread. Default: the one that is active. */
  operationId?: number
  /** In your own words. */
  reason?: string
} & Pick<JoinOptions, 'idempotencyKey'>

/** One thread and its line. Made by `inturn.thread(id)`, which asks the database nothing, or by its keys. */
export class ThreadHandle extends ThreadLife {
  readonly id: string
  readonly #inturn: Pick<Inturn, 'enqueue'>
  readonly #context: HandleContext
  readonly #database: HandleContext['database']

  constructor(inturn: Pick<Inturn, 'enqueue'>, context: HandleContext, id: string) {
    super()
    this.#inturn = inturn
    this.#context = context
    this.#database = context.database
    this.id = id
  }

  /** As `inturn.enqueue`, for this thread. */
  override enqueue<Kind extends OperationKind>(
    operation: Kind,
    data: OperationData<Kind>,
    { transaction, ...options }: JoinOptions & EnqueueOptions = {},
  ): Promise<OperationHandle<Kind>> {
    const row = { thread: this.id, operation, data, ...options } as NewOperation<Kind>
    return this.#inturn.enqueue(row, { transaction })
  }

  /** Adds a message, without an answer. */
  addMessage(
    message: MessageInput,
    options?: JoinOptions & EnqueueOptions,
  ): Promise<OperationHandle<'add_message'>> {
    return this.enqueue('add_message', { message }, options)
  }

  /** Runs the assistant or model over the thread as it will stand then. */
  run(
    parameters: RunParameters & ToolDeadline,
    options?: JoinOptions & EnqueueOptions,
  ): Promise<OperationHandle<'create_run'>> {
    return this.enqueue('create_run', parameters, options)
  }

  /** Adds a message and runs the assistant or model: one turn of a conversation. */
  send(
    message: MessageInput,
    parameters: RunParameters & ToolDeadline,
    options?: JoinOptions & EnqueueOptions,
  ): Promise<OperationHandle<'add_message_and_run'>> {
    return this.enqueue('add_message_and_run', { ...parameters, message }, options)
  }

  /**
   * Says how the thread treats its operations, what it is found by and which policy counts for it, before
   * the first operation or at any time; what is left out stays as it is. Throws RefusedError, whose code says what may be written.
   *
   * @example
   * await inturn.thread('user:42').configure({ ifBusy: 'interrupt+merge', debounceMs: 800 })
   */
  configure(settings: ThreadSettings): Promise<void> {
    return saveThreadSettings(this.#database, this.id, settings)
  }

  /**
   * Cancels the run of the operation that is active now, before all who wait and never that of the next;
   * or ends the operation that is named. The handle's `result` tells what came of it (`outcome`) once that
   * operation is over. `reason` goes into its error. Throws RefusedError (`target_is_of_the_thread`).
   *
   * @example
   * const stop = await thread.cancel({ reason: 'the user pressed stop' })
   * const { outcome } = await stop.result()
   */
  cancel({
    operationId: operation_id,
    reason,
    ...options
  }: CancelOptions & EnqueueOptions = {}): Promise<OperationHandle<'cancel_run'>> {
    return this.enqueue('cancel_run', { operation_id, reason }, options)
  }

  /**
   * Has the thread to itself while `work` runs: it stands in the line as everybody else, and at its turn
   * nothing of the line is served, and no run is on the provider thread, until `work` returns or throws.
   * Gives what `work` returns. The lease is renewed meanwhile; `held.signal` is aborted when the hold is
   * lost all the same: stop then, others have the thread.
   *
   * Throws what `work` throws; HoldLostError where the hold was lost before `work` had returned;
   * OperationCancelledError where it was cancelled before it began, also because of a run of somebody
   * else that does not end (`foreign_run_timeout`); `hold_timeout` and the signal's reason, after which it
   * is withdrawn; and as `enqueue`.
   *
   * @example
   * await thread.hold(async ({ providerThreadId, signal }) => {
   *   await openai.conversations.items.create(providerThreadId, { items }, { signal })
   * })
   */
  hold<T>(work: (held: Held) => Promise<T> | T, options: HoldOptions = {}): Promise<T> {
    return hold(this, this.#context, work, options)
  }

  /**
   * Resolves when nothing of the thread is served or waits in its line, and no run of anybody's is on the
   * provider thread. What is scheduled does not count. It takes the thread for a moment to see that, and
   * somebody else may come right after. Throws `idle_timeout` and the signal's reason.
   */
  idle(options: WaitOptions = {}): Promise<void> {
    return idle(this, this.#context, options)
  }

  /**
   * Answers tool calls that the thread's run waits for: all of a round at once, or one by one. It goes on
   * when all have an output. Throws RefusedError where nothing requires action (`thread_requires_action`),
   * a call was not asked (`call_was_asked`) or has an output (`call_is_answered_once`), and
   * `tool_outputs_are_well_formed`.
   *
   * @example
   * const [call] = await thread.toolCalls()
   * await thread.submitToolOutputs([{ call_id: call.call_id, output: '21 degrees' }])
   */
  submitToolOutputs(
    outputs: readonly ToolOutput[],
    options?: EnqueueOptions,
  ): Promise<OperationHandle<'submit_tool_outputs'>> {
    return this.enqueue('submit_tool_outputs', { outputs }, options)
  }

  /** The tool calls of the thread that wait for an output, in the order in which they were asked. */
  toolCalls(): Promise<ToolCallRecord[]> {
    return readOpenCalls(this.#database, this.id)
  }

  /**
   * Lets the thread go on that waits for an operator: an operation that is held is served again, a line
   * that is halted goes on behind the operation that failed. Throws RefusedError where it waits for
   * nobody (`thread_waits_for_an_operator`), and `row_locked`.
   */
  resume(): Promise<Resumed> {
    return resumeThread(this.#database, this.id)
  }

  /**
   * Opens a thread again that was closed, by a deletion or by hand; its next operation begins a new
   * conversation. Throws RefusedError where it is open (`thread_is_closed`) or is being deleted
   * (`deletion_is_over`), and `row_locked`.
   */
  reopen(): Promise<void> {
    return reopenThread(this.#database, this.id)
  }

  /** What the thread does now; null for one that has nothing in line and never had anything started. */
  state(): Promise<ThreadState | null> {
    return readThreadState(this.#database, this.id)
  }

  /**
   * All there is to know of the thread: state, messages, runs, tokens, its policy and when it expires.
   * Null for one without a row: nothing of it was ever started, and nobody has asked for it by its keys.
   */
  stats(): Promise<ThreadStats | null> {
    return readThreadStats(this.#database, this.id)
  }

  /** The last `limit` operations (default 20), the one at the end of the line first. */
  operations({ limit = 20 }: { limit?: number } = {}): Promise<OperationRecord[]> {
    return readThreadOperations(this.#database, this.id, limit)
  }

  /** All that has happened on the thread, oldest first. It holds no content. */
  timeline(): Promise<TimelineEntry[]> {
    return readTimeline(this.#database, this.id)
  }
}
