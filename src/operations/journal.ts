import type pg from 'pg'
import { InturnError } from '../errors.ts'
import type { OnPoint, Point } from '../model/point.ts'
import { ProviderError } from '../provider/provider-error.ts'
import type { ClaimedOperation, Intent, Progress } from '../store/claim.ts'
import { noteProgress } from '../store/release.ts'
import { noteThread, type ThreadFacts } from '../store/threads.ts'
import { whileLocked } from '../store/while-locked.ts'

/** The claim went to somebody else, who goes on from what is written down: stop at once. */
export class ClaimLost extends InturnError {
  constructor() {
    super('claim_lost', 'The operation is no longer held by this dispatcher.')
  }
}

/** It cannot be told yet whether an earlier call took effect: look again after `delayMs`. */
export class OutcomeUnknown extends InturnError {
  readonly delayMs: number

  constructor({ call }: Intent, delayMs: number) {
    super('outcome_unknown', `Whether an earlier call (${call}) took effect cannot be told yet.`)
    this.delayMs = delayMs
  }
}

/** Who writes, and for which claim. */
export type JournalOptions = {
  pool: pg.Pool
  dispatcherId: string
  signal: AbortSignal
  /** Deadline of a call, in milliseconds. */
  timeoutMs: number
  onPoint?: OnPoint
  /** Called before the first intent is written. */
  onSend: () => void
}

/**
 * What an operation is about to do at the provider and what it has done there, written down before
 * and after each call, so that whoever comes next can find out and never sends anything twice.
 */
export class Journal {
  readonly #operation: ClaimedOperation
  readonly #options: JournalOptions
  readonly #startedAt = performance.now()
  #progress: Progress
  #unresolved: Intent | null

  constructor(operation: ClaimedOperation, options: JournalOptions) {
    this.#operation = operation
    this.#options = options
    this.#progress = operation.progress ?? {}
    this.#unresolved = operation.intent
  }

  /** What is known to exist at the provider. */
  get progress(): Progress {
    return this.#progress
  }

  /** The run that may still be going on, or whose end was not acted on yet. */
  get openRunId(): string | null {
    const { run_id, failed_run_ids } = this.#progress
    return run_id !== undefined && !failed_run_ids?.includes(run_id) ? run_id : null
  }

  /** The call of an earlier attempt that may have taken effect; of this kind, where one is named. */
  unresolved(call?: string): Intent | null {
    const isMeant = call === undefined || this.#unresolved?.call === call
    return isMeant ? this.#unresolved : null
  }

  /** Sends something that must not be sent twice; the caller notes what came of it. */
  async send<T>(call: string, after: string | null, work: () => Promise<T>): Promise<T> {
    this.#options.onSend()
    this.reach('before_intent')
    await this.#write({ call, after, timeout_ms: this.#options.timeoutMs }, {})
    this.reach('before_send')
    try {
      const answer = await work()
      this.reach('after_send')
      return answer
    } catch (error) {
      if (error instanceof ProviderError) await this.#afterError(error)
      throw error
    }
  }

  /** Writes down what is known now; nothing is of unknown outcome any more. */
  async note(progress: Progress): Promise<void> {
    this.#unresolved = null
    await this.#write(null, progress)
    this.reach('after_note')
  }

  async noteThread(facts: ThreadFacts): Promise<void> {
    const { pool, dispatcherId, signal } = this.#options
    const { id, attempts, thread_id } = this.#operation
    await noteThread(pool, { dispatcherId, id, attempts, thread_id }, facts, signal)
    this.reach('after_thread_note')
  }

  reach(point: Point): void {
    this.#options.onPoint?.(point, this.#operation)
  }

  /** Somebody adds to the provider thread what we do not know: the next operation looks itself. */
  async forgetLastItem(): Promise<void> {
    await this.noteThread({ last_item_id: null })
  }

  /**
   * Nothing was found of an unresolved call. That proves something only once reads no longer lag
   * behind: throws `OutcomeUnknown` before.
   */
  giveTimeToSettle(intent: Intent, settleMs: number): void {
    const { intent_age_ms } = this.#operation
    const ageMs = (intent_age_ms ?? 0) + performance.now() - this.#startedAt
    const restMs = intent.timeout_ms + settleMs - ageMs
    if (restMs > 0) throw new OutcomeUnknown(intent, Math.min(restMs, Math.max(250, ageMs / 2)))
  }

  async #afterError({ failure: { decision } }: ProviderError): Promise<void> {
    // Certainly refused, so it was never sent; an earlier call of unknown outcome stays one.
    if (decision !== 'reconcile') await this.#write(this.#unresolved, {})
    // This call or a foreign run may be adding items.
    if (decision === 'reconcile' || decision === 'wait_for_run') await this.forgetLastItem()
  }

  async #write(intent: Intent | null, progress: Progress): Promise<void> {
    const { pool, dispatcherId, signal } = this.#options
    const isMine = await whileLocked(signal, () =>
      noteProgress(pool, dispatcherId, this.#operation, intent, progress),
    )
    if (!isMine) throw new ClaimLost()
    this.#progress = { ...this.#progress, ...progress }
  }
}
