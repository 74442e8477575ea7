import { setTimeout as sleep } from 'node:timers/promises'
import { InturnError } from '../errors.ts'
import { releaseHold, renewHold } from '../store/holds.ts'
import { HoldLostError, RefusedError } from './errors.ts'
import type { HandleContext } from './operation-handle.ts'

/** Longest pause before a renewal that failed is tried again, in milliseconds. */
const retryMs = 500

/** The rest of a lease is for the caller's code to stop in. */
const safePart = 0.9

/**
 * Keeps a hold that has begun: renews it, notices when it is lost, and gives the thread back. How long it
 * is safe is counted from before each renewal was sent, by the monotonic clock of this process.
 */
export class HoldLease {
  readonly #context: HandleContext
  readonly #id: number
  readonly #threadId: string
  readonly #leaseMs: number
  readonly #lost = new AbortController()
  readonly #ended = new AbortController()
  #safeUntil = 0
  #unsafe: NodeJS.Timeout | undefined
  #renewing: Promise<void> = Promise.resolve()
  #leave: (reason: unknown) => void = () => {}

  constructor(context: HandleContext, id: number, threadId: string, leaseMs: number) {
    this.#context = context
    this.#id = id
    this.#threadId = threadId
    this.#leaseMs = leaseMs
  }

  /** Aborted when the hold is lost, with a HoldLostError. */
  get signal(): AbortSignal {
    return this.#lost.signal
  }

  /** Throws HoldLostError where the hold is lost already, and what the database throws. */
  async begin(): Promise<void> {
    await this.#renew()
    const { settled, leave } = this.#context.watch.watch(this.#id)
    this.#leave = leave
    settled.then(
      ({ status, error }) => this.#lose(`it is ${status}${error ? ` (${error.code})` : ''}`),
      (error) => this.#lose(error?.code === 'client_closed' ? 'this client was closed' : null),
    )
    this.#renewing = this.#keep()
  }

  /**
   * Gives the thread back. Throws HoldLostError where it was lost before. A database that is away is
   * asked again for as long as the lease lasts; then the hold ends by itself.
   */
  async end(): Promise<void> {
    this.#ended.abort()
    this.#leave(null)
    await this.#renewing
    clearTimeout(this.#unsafe)
    if (this.#lost.signal.aborted) {
      // Where it was only not renewed, the line need not wait for the end of the lease.
      await releaseHold(this.#context.database, this.#id).catch(() => {})
      throw this.#lost.signal.reason
    }
    for (;;) {
      try {
        return await releaseHold(this.#context.database, this.#id)
      } catch (error) {
        if (error instanceof RefusedError) throw this.#error(error.message)
        if (performance.now() + retryMs > this.#safeUntil) return
        await sleep(retryMs)
      }
    }
  }

  async #keep(): Promise<void> {
    const { signal } = this.#ended
    let pauseMs = this.#leaseMs / 3
    while (!signal.aborted && !this.#lost.signal.aborted) {
      await sleep(pauseMs, undefined, { signal }).catch(() => {})
      if (signal.aborted || this.#lost.signal.aborted) return
      try {
        await this.#renew()
        pauseMs = this.#leaseMs / 3
      } catch (error) {
        if (error instanceof HoldLostError) this.#lost.abort(error)
        // The database is away, or somebody holds the row: there is time left.
        pauseMs = Math.min(retryMs, this.#leaseMs / 10)
      }
    }
  }

  async #renew(): Promise<void> {
    const sentAt = performance.now()
    await renewHold(this.#context.database, this.#id, this.#leaseMs).catch((error) => {
      throw error instanceof RefusedError ? this.#error(error.message) : error
    })
    this.#safeUntil = sentAt + this.#leaseMs * safePart
    clearTimeout(this.#unsafe)
    if (this.#ended.signal.aborted) return
    this.#unsafe = setTimeout(
      () => this.#lose(`it could not be renewed for ${this.#leaseMs} ms`),
      this.#safeUntil - performance.now(),
    )
  }

  #lose(why: string | null): void {
    if (why !== null && !this.#ended.signal.aborted) this.#lost.abort(this.#error(why))
  }

  #error(why: string): InturnError {
    return new HoldLostError(this.#id, this.#threadId, why)
  }
}
