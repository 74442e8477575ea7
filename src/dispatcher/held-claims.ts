import type { Cancellation } from '../model/outcome.ts'
import type { ClaimedOperation, Settlement } from '../store/claim.ts'
import type { Execute } from './executor.ts'
import { UnheardClaims } from './unheard-claims.ts'

/** A claim in the hands of its executor. */
export type Claim = {
  readonly operation: ClaimedOperation
  /** Who holds it. */
  readonly dispatcherId: string
  /** Aborted when the claim may no longer be acted on: shutdown is over, or the lease is running out. */
  readonly signal: AbortSignal
  /** Aborted when somebody wants the operation cancelled: its run is to be ended, and its end awaited. */
  readonly cancelWanted: AbortSignal
  /** Set before the first word goes to the provider; from then on the claim is never given back unseen. */
  sent: boolean
}

/** What ends a claim's execution: at once, or its run. */
type Controls = { callOff: AbortController; cancel: AbortController }

/** An outcome, and who held the claim: nobody else can settle it. */
export type Finished = Settlement & { readonly dispatcherId: string }

/** All that a dispatcher holds: claims being executed, and outcomes on their way into the database. */
export class HeldClaims {
  readonly unheard = new UnheardClaims()
  readonly #execute: Execute
  readonly #onFinished: () => void
  readonly #running = new Map<Claim, Controls>()
  readonly #finished: Finished[] = []
  readonly #settling = new Set<Finished>()
  readonly #others: Array<() => void> = []
  #onSettled: (threads: readonly string[]) => void = () => {}

  constructor(execute: Execute, onFinished: () => void) {
    this.#execute = execute
    this.#onFinished = onFinished
  }

  get running(): number {
    return this.#running.size
  }

  get finished(): number {
    return this.#finished.length
  }

  /** The operations that this dispatcher knows it holds. */
  ids(): number[] {
    const claims = [...this.#running.keys(), ...this.#finished, ...this.#settling]
    return claims.map(({ operation }) => operation.id)
  }

  begin(operation: ClaimedOperation, dispatcherId: string): void {
    const callOff = new AbortController()
    const cancel = new AbortController()
    const claim: Claim = {
      operation,
      dispatcherId,
      signal: callOff.signal,
      cancelWanted: cancel.signal,
      sent: false,
    }
    if (operation.cancellation) cancel.abort(operation.cancellation)
    this.#running.set(claim, { callOff, cancel })
    void this.#execute(claim).then((outcome) => {
      if (!this.#running.delete(claim)) return
      // Without an outcome the claim stays as it is: somebody else goes on with what was sent.
      if (outcome !== null) this.#finished.push({ operation, outcome, dispatcherId })
      this.#onFinished()
    })
  }

  /** Up to `limit` outcomes of one dispatcher, the oldest first; each goes to `settled` or `notSettled`. */
  take(limit: number): Finished[] {
    const other = this.#finished.findIndex(
      (f) => f.dispatcherId !== this.#finished[0]?.dispatcherId,
    )
    const batch = this.#finished.splice(0, other < 0 ? limit : Math.min(other, limit))
    for (const finished of batch) this.#settling.add(finished)
    return batch
  }

  settled(batch: readonly Finished[]): void {
    for (const finished of batch) this.#settling.delete(finished)
    this.#onSettled(batch.map(({ operation }) => operation.thread_id))
  }

  notSettled(batch: readonly Finished[]): void {
    for (const finished of batch) this.#settling.delete(finished)
    this.#finished.unshift(...batch)
  }

  /** Who is told the threads whose operations were settled. */
  onSettled(tell: (threads: readonly string[]) => void): void {
    this.#onSettled = tell
  }

  /** Tells those that somebody wants cancelled; once is enough. */
  cancel(wanted: ReadonlyMap<number, Cancellation>): void {
    for (const [{ operation }, { cancel }] of this.#running) {
      const cancellation = wanted.get(operation.id)
      if (cancellation) cancel.abort(cancellation)
    }
  }

  /** Aborts everything that runs. */
  callOff(): void {
    for (const { callOff } of this.#running.values()) callOff.abort()
    for (const callOffOther of this.#others) callOffOther()
  }

  /** What else is called off whenever the claims are. */
  alsoCallOff(callOff: () => void): void {
    this.#others.push(callOff)
  }

  /** Takes the claims out of their executors' hands for which nothing was sent; nothing will be. */
  withdrawUnsent(): ClaimedOperation[] {
    const unsent = [...this.#running].filter(([claim]) => !claim.sent)
    for (const [claim, { callOff }] of unsent) {
      this.#running.delete(claim)
      callOff.abort()
    }
    return unsent.map(([claim]) => claim.operation)
  }
}
