import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../db/query.ts'
import { isFinal } from '../model/operation.ts'
import { type Reading, readStreams, type StreamView } from '../store/streams.ts'
import { clientClosed, operationNotFound } from './errors.ts'

/** A reader that has read all there was. */
type Waiting = Reading &
  PromiseWithResolvers<StreamView> & {
    /** When to look, by `performance.now()`. */
    lookAt: number
  }

/** Looks of those who wait for more are on this grid, in milliseconds, so that they share statements. */
const gridMs = 100

/** How long the database may be away before everybody who waits is told, in milliseconds. */
const patienceMs = 30_000

/**
 * Reads streams, any number at once, with one statement for all that wait for more. Who is busy with
 * what it has read is not among them: each reader goes at its own pace.
 */
export class StreamWatch {
  readonly #database: Database
  readonly #waiting = new Set<Waiting>()
  #following: Promise<void> | undefined
  #nudge = new AbortController()
  #failingSince: number | undefined
  #isClosed = false

  constructor(database: Database) {
    this.#database = database
  }

  /**
   * What a stream holds from `next` on, as soon as there is something or the operation is final. The
   * first look is at once where `isUrgent`. Throws `operation_not_found`, `client_closed`, the signal's
   * reason, and the driver's error when the database was away for 30 s.
   */
  async read(reading: Reading, isUrgent: boolean, signal?: AbortSignal): Promise<StreamView> {
    signal?.throwIfAborted()
    if (this.#isClosed) throw clientClosed()
    const lookAt = isUrgent ? 0 : Math.ceil(performance.now() / gridMs) * gridMs
    const waiting: Waiting = { ...reading, ...Promise.withResolvers<StreamView>(), lookAt }
    const leave = () => waiting.reject(signal?.reason)
    signal?.addEventListener('abort', leave)
    this.#waiting.add(waiting)
    this.#nudge.abort()
    this.#following ??= this.#follow()
    try {
      return await waiting.promise
    } finally {
      this.#waiting.delete(waiting)
      signal?.removeEventListener('abort', leave)
    }
  }

  /** Whoever reads is told `client_closed`. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#rejectAll(clientClosed())
    await this.#following
  }

  async #follow(): Promise<void> {
    // Lets everybody who comes in the same breath join the first statement.
    await Promise.resolve()
    while (this.#waiting.size > 0) {
      try {
        await this.#look()
        this.#failingSince = undefined
      } catch (error) {
        this.#failingSince ??= performance.now()
        const isOver = performance.now() - this.#failingSince >= patienceMs
        if (isOver || this.#isClosed) this.#rejectAll(error)
      }
      await this.#rest()
    }
    this.#following = undefined
  }

  async #look(): Promise<void> {
    const now = performance.now()
    const due = [...this.#waiting].filter(({ lookAt }) => lookAt <= now)
    if (due.length === 0) return
    for (const waiting of due) waiting.lookAt = (Math.floor(now / gridMs) + 1) * gridMs
    const views = await readStreams(this.#database, due)
    for (const [index, waiting] of due.entries()) {
      const view = views[index] ?? null
      if (view === null) waiting.reject(operationNotFound(waiting.operationId))
      else if (view.events.length > 0 || isFinal(view.status)) waiting.resolve(view)
      else continue
      this.#waiting.delete(waiting)
    }
  }

  #rejectAll(reason: unknown): void {
    for (const { reject } of this.#waiting) reject(reason)
    this.#waiting.clear()
    this.#failingSince = undefined
    this.#nudge.abort()
  }

  async #rest(): Promise<void> {
    let next = Infinity
    for (const { lookAt } of this.#waiting) next = Math.min(next, lookAt)
    if (this.#failingSince !== undefined) next = Math.max(next, performance.now() + 10 * gridMs)
    const ms = next - performance.now()
    if (this.#nudge.signal.aborted) this.#nudge = new AbortController()
    if (ms > 0 && Number.isFinite(ms)) {
      await sleep(ms, undefined, { signal: this.#nudge.signal }).catch(() => {})
    }
  }
}
