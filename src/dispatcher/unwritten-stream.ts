import type { LoggedEvent } from '../model/stream-event.ts'
import type { Piece } from '../store/streams.ts'
import type { Claim } from './held-claims.ts'

/** What a claim has said and what is not written down yet. */
export class UnwrittenStream {
  readonly #claim: Claim
  #events: LoggedEvent[] = []
  #taken: LoggedEvent[] = []
  #isClosed = false

  constructor(claim: Claim) {
    this.#claim = claim
  }

  get isPending(): boolean {
    return this.#events.length + this.#taken.length > 0
  }

  /** Number of characters that were gathered. */
  get size(): number {
    return this.#events.reduce((sum, e) => sum + ('delta' in e ? e.delta.length : 0), 0)
  }

  add(event: LoggedEvent): void {
    if (this.#isClosed) return
    const last = this.#events.at(-1)
    // Word by word they would take many times the room.
    if (last && 'delta' in last && 'delta' in event && last.type === event.type)
      this.#events[this.#events.length - 1] = { ...last, delta: last.delta + event.delta }
    else this.#events.push(event)
  }

  /** All that was gathered; it is to be written, and comes to `written` or `notWritten`. */
  take(): Piece {
    this.#taken = this.#events
    this.#events = []
    const { operation, dispatcherId } = this.#claim
    const { id: operationId, attempts } = operation
    return { dispatcherId, operationId, attempts, events: this.#taken }
  }

  written(): void {
    this.#taken = []
  }

  notWritten(): void {
    this.#events = [...this.#taken, ...this.#events]
    this.#taken = []
  }

  /** Forgets what is not written, and takes in nothing more. */
  close(): void {
    this.#isClosed = true
    this.#events = []
    this.#taken = []
  }
}
