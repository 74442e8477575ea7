import type pg from 'pg'
import { InturnError } from '../errors.ts'
import type { OnPoint, Point } from '../model/point.ts'
import { ProviderError } from '../provider/provider-error.ts'
import { type BatchMember, beginBatch, noteBatch } from '../store/batches.ts'
import type { ClaimedOperation } from '../store/claim.ts'
import type { Intent, Progress } from '../store/progress.ts'
import { noteProgress } from '../store/release.ts'
import { noteThread, type ThreadFacts } from '../store/threads.ts'
import type { ClaimOfCalls } from '../store/tool-calls.ts'
import { whileLocked } from '../store/while-locked.ts'
import { CancelWanted, isInterruption } from './cancelling.ts'

/** The claim went to somebody else, who goes on from what is written down: stop at once. */
export class ClaimLost extends InturnError {
  constructor() {
    super('claim_lost', 'The operation is no longer held by this dispatcher.')
  }
}

/** Who writes, and for which claim. */
export type JournalOptions = {
  pool: pg.Pool
  dispatcherId: string
  signal: AbortSignal
  /** Aborted: nothing more is begun. */
  cancelWanted: AbortSignal
  /** Deadline of a call, in milliseconds. */
  timeoutMs: number
  onPoint?: OnPoint
  /** Called before the first intent is written. */
  onSend: () => void
}

/** Calls that bring to its end what was begun. */
const endings = ['cancel_run', 'answer_calls']
/** Calls that keep what an interrupted operation has to say. */
const keepings = ['create_thread', 'add_message']

/**
 * What an operation is about to do at the provider and what it has done there, written down before
 * and after each call, so that whoever comes next can find out and never sends anything twice.
 */
export class Journal {
  readonly #operation: ClaimedOperation
  readonly #options: JournalOptions
  readonly #startedAt = performance.now()
  #progress: Progress
  #intent: Intent | null
  #newest: { id: string | null; messageAt: string | null }

  constructor(operation: ClaimedOperation, options: JournalOptions) {
    this.#operation = operation
    this.#options = options
    this.#progress = operation.progress ?? {}
    this.#intent = operation.intent
    this.#newest = { id: operation.last_item_id, messageAt: operation.last_message_at }
  }

  /** The newest item of the thread that is written down, and when it came where it is a message (ISO 8601). */
  get newest(): { id: string | null; messageAt: string | null } {
    return this.#newest
  }

  /** What is known to exist at the provider. */
  get progress(): Progress {
    return this.#progress
  }

  /** The run that may still be going on, or whose end was not acted on yet. */
  get openRunId(): string | null {
    const { run_id, asked } = this.#progress
    // One that has asked for outputs does nothing more by itself.
    if (run_id === undefined || (asked?.run_id === run_id && !asked.taken)) return null
    return this.isReplaced(run_id) ? null : run_id
  }

  /** The run failed, and another one is to take its place. */
  isReplaced(runId: string): boolean {
    return this.#progress.failed_run_ids?.includes(runId) ?? false
  }

  /** The call that may have taken effect; of this kind, where one is named. */
  unresolved(call?: string): Intent | null {
    return call === undefined || this.#intent?.call === call ? this.#intent : null
  }

  /** Something may be going on at the provider that the next operation of the thread would meet. */
  get isUnderWay(): boolean {
    if (this.#progress.abandoned || this.openRunId !== null) return true
    // A provider thread that nobody knows of disturbs nobody.
    return this.#intent !== null && !/^(create_thread|copy_items)$/.test(this.#intent.call)
  }

  /** The time by the database's clock, in milliseconds since 1970. */
  now(): number {
    return Date.parse(this.#operation.claimed_at) + performance.now() - this.#startedAt
  }

  /**
   * Sends something that must not be sent twice; the caller notes what came of it. Throws CancelWanted
   * where it would begin something for an operation that is to be cancelled.
   */
  send<T>(call: string, after: string | null, work: () => Promise<T>): Promise<T> {
    return this.#send(call, after, (intent) => this.#write(intent, {}), work)
  }

  /**
   * As `send`, for the message of an add_message and those of up to `most` - 1 that wait right behind it;
   * `work` gets all of them, its own first.
   */
  sendBatch<T>(
    after: string | null,
    most: number,
    work: (members: BatchMember[]) => Promise<T>,
  ): Promise<T> {
    return this.#send('add_message', after, (intent) => this.#beginBatch(intent, most), work)
  }

  /**
   * Writes down what is known now; nothing is of unknown outcome any more, and nothing in the way.
   * `others`: what is known of the other members of a batch.
   */
  async note(progress: Progress, others: Record<number, Progress> = {}): Promise<void> {
    const { foreign_run, missing } = this.#progress
    const known = {
      ...(foreign_run && { foreign_run: null }),
      ...(missing && { missing: null }),
      ...progress,
    }
    await this.#write(null, known, others)
    this.reach('after_note')
  }

  /** Writes down what is known now, and leaves open what is of unknown outcome. */
  async noteBeside(progress: Progress): Promise<void> {
    this.#options.onSend()
    await this.#write(this.#intent, progress)
  }

  /** What is known of a call of unknown outcome: it counts from now. */
  async restartIntent(facts: Pick<Intent, 'timeout_ms' | 'free'>): Promise<Intent> {
    const intent = { ...(this.#intent as Intent), ...facts, at: isoTime(this.now()) }
    await this.#write(intent, {})
    return intent
  }

  async noteThread(facts: ThreadFacts): Promise<void> {
    const { pool, dispatcherId, signal } = this.#options
    const { id, attempts, thread_id } = this.#operation
    await noteThread(pool, { dispatcherId, id, attempts, thread_id }, facts, signal)
    const { last_item_id: newest = this.#newest.id, last_message_at = this.#newest.messageAt } =
      facts
    this.#newest = { id: newest, messageAt: last_message_at }
    this.reach('after_thread_note')
  }

  /** As `writeAsHolder`, to the tool calls of the operation. */
  async writeCalls<T>(write: (claim: ClaimOfCalls) => Promise<T>): Promise<NonNullable<T>> {
    const written = await this.writeAsHolder(write)
    this.reach('after_calls')
    return written
  }

  /** Has something written by a statement that gives what it has noted of it as progress; null: the claim is lost. */
  async writeNoting(write: (claim: ClaimOfCalls) => Promise<Progress | null>): Promise<void> {
    this.#progress = { ...this.#progress, ...(await this.writeAsHolder(write)) }
    this.reach('after_note')
  }

  /** Has something written by a statement that gives null or false where the claim is lost. */
  async writeAsHolder<T>(write: (claim: ClaimOfCalls) => Promise<T>): Promise<NonNullable<T>> {
    const { dispatcherId, signal } = this.#options
    const { id, attempts } = this.#operation
    this.#options.onSend()
    const written = await whileLocked(signal, () => write({ dispatcherId, id, attempts }))
    if (written === null || written === undefined || written === false) throw new ClaimLost()
    return written
  }

  reach(point: Point): void {
    this.#options.onPoint?.(point, this.#operation)
  }

  async #send<Written, T>(
    call: string,
    after: string | null,
    write: (intent: Intent) => Promise<Written>,
    work: (written: Written) => Promise<T>,
  ): Promise<T> {
    if (this.#options.cancelWanted.aborted && !this.#isStillSent(call)) throw new CancelWanted()
    this.#options.onSend()
    this.reach('before_intent')
    const earlier = this.#intent
    const written = await write({ call, after, timeout_ms: this.#options.timeoutMs })
    const intent = this.#intent
    this.reach('before_send')
    try {
      const answer = await work(written)
      this.reach('after_send')
      return answer
    } catch (error) {
      // Certainly refused, so it was never sent; an earlier call of unknown outcome stays one.
      if (isRefused(error) && this.#intent === intent) await this.#write(earlier, {})
      throw error
    }
  }

  /** Although somebody wants the operation cancelled. */
  #isStillSent(call: string): boolean {
    const { reason } = this.#options.cancelWanted
    if (isInterruption(reason) && keepings.includes(call)) return true
    return endings.includes(call) || (call === 'update_thread' && this.unresolved(call) !== null)
  }

  async #beginBatch(intent: Intent, most: number): Promise<BatchMember[]> {
    const { pool, dispatcherId, signal } = this.#options
    const members = await whileLocked(signal, () =>
      beginBatch(pool, dispatcherId, this.#operation, intent, most),
    )
    if (members.length === 0) throw new ClaimLost()
    const batch = members.length > 1 ? { batch: members.map(({ id }) => id) } : {}
    this.#intent = { ...intent, ...batch }
    return members
  }

  async #write(
    intent: Intent | null,
    progress: Progress,
    others: Record<number, Progress> = {},
  ): Promise<void> {
    const { pool, dispatcherId, signal } = this.#options
    // Whoever leaves a batch lets the others go with it.
    const left = intent?.batch === undefined ? this.#intent?.batch : undefined
    const isMine = await whileLocked(signal, () =>
      left === undefined
        ? noteProgress(pool, dispatcherId, this.#operation, intent, progress)
        : noteBatch(pool, dispatcherId, this.#operation, intent, progress, left, others),
    )
    if (!isMine) throw new ClaimLost()
    this.#intent = intent
    this.#progress = { ...this.#progress, ...progress }
  }
}

const isRefused = (error: unknown) =>
  error instanceof ProviderError && error.failure.decision !== 'reconcile'

export const isoTime = (ms: number): string => new Date(ms).toISOString()
