import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Database } from '../db/query.ts'
import { isFinal } from '../model/operation.ts'
import { type OperationState, readStates } from '../store/operations.ts'
import { addWaiters, removeWaiters } from '../store/waiters.ts'
import { clientClosed, operationNotFound } from './errors.ts'
import { SettledChannel } from './settled-channel.ts'

type Waiting = PromiseWithResolvers<OperationState> & {
  isOver: (state: OperationState) => boolean
}

/** An operation that somebody waits for. */
type Watched = {
  waiting: Set<Waiting>
  /** Our waiter row, which has settling it notify us. */
  row: 'none' | 'unsure' | 'there'
  pauseMs: number
  /** When to look next, by `performance.now()`. */
  lookAt: number
}

/** Pauses between two looks at one operation, in milliseconds: each twice the last. */
const pause = { first: 50, longest: 1_000 }

/** How long the database may be away before everybody who waits is told, in milliseconds. */
const patienceMs = 30_000

/**
 * Waits for operations to settle, any number at once, with one statement for all that are due. A
 * notification only brings the next look forward: what counts is what the table says.
 */
export class SettleWatch {
  readonly #database: Database
  readonly #channel: SettledChannel
  readonly #waiter = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`
  readonly #watched = new Map<number, Watched>()
  /** Operations that still have a waiter row of ours, and nobody waits for them any more. */
  #left: number[] = []
  #following: Promise<void> | undefined
  #nudge = new AbortController()
  #failingSince: number | undefined
  #closed = false

  constructor(database: Database, source: { databaseUrl: string } | { pool: pg.Pool }) {
    this.#database = database
    this.#channel = new SettledChannel({
      source,
      onSettled: (id) => this.lookAt(id),
      onConnected: () => {
        for (const id of this.#watched.keys()) this.lookAt(id)
      },
    })
  }

  /**
   * `settled` resolves with the state for which the wait is over (default: any final one), or rejects with
   * the reason with which one has left.
   */
  watch(
    id: number,
    isOver: Waiting['isOver'] = ({ status }) => isFinal(status),
  ): { settled: Promise<OperationState>; leave(reason: unknown): void } {
    if (this.#closed) throw clientClosed()
    const waiting: Waiting = { ...Promise.withResolvers<OperationState>(), isOver }
    const watched = this.#watched.get(id) ?? {
      waiting: new Set(),
      row: 'none',
      pauseMs: pause.first,
      lookAt: 0,
    }
    watched.waiting.add(waiting)
    this.#watched.set(id, watched)
    this.lookAt(id)
    this.#channel.open()
    this.#following ??= this.#follow()
    return {
      settled: waiting.promise,
      leave: (reason) => {
        waiting.reject(reason)
        watched.waiting.delete(waiting)
        if (watched.waiting.size === 0 && this.#watched.get(id) === watched) this.#drop(id, watched)
      },
    }
  }

  /** Looks at the operation now, if anybody waits for it. */
  lookAt(id: number): void {
    const watched = this.#watched.get(id)
    if (!watched) return
    watched.lookAt = 0
    this.#nudge.abort()
  }

  /** Whoever waits is told `client_closed`; nothing stays behind in the database. */
  async close(): Promise<void> {
    this.#closed = true
    this.#rejectAll(clientClosed())
    await this.#following
    await this.#channel.close()
  }

  async #follow(): Promise<void> {
    // Lets everybody who comes in the same breath join the first statement.
    await Promise.resolve()
    while (this.#watched.size > 0 || this.#left.length > 0) {
      const left = this.#left.splice(0)
      const due = this.#due()
      try {
        if (left.length > 0) await removeWaiters(this.#database, this.#waiter, left)
        if (due.length > 0) await this.#look(due)
        this.#failingSince = undefined
      } catch (error) {
        this.#left.push(...left)
        this.#failed(error)
      }
      await this.#rest()
    }
    this.#following = undefined
    this.#channel.idle()
  }

  /** The operations to look at now, with the time of the next look set. */
  #due(): number[] {
    const now = performance.now()
    const due: number[] = []
    for (const [id, watched] of this.#watched) {
      if (watched.lookAt > now) continue
      due.push(id)
      // On a grid, so that those who wait for long meet in few statements.
      watched.lookAt = Math.ceil((now + watched.pauseMs) / pause.first) * pause.first
      watched.pauseMs = Math.min(watched.pauseMs * 2, pause.longest)
    }
    return due
  }

  async #look(due: number[]): Promise<void> {
    const fresh = due.filter((id) => this.#watched.get(id)?.row !== 'there')
    if (fresh.length > 0) {
      this.#mark(fresh, 'unsure')
      await addWaiters(this.#database, this.#waiter, fresh)
      this.#mark(fresh, 'there')
    }
    const states = new Map((await readStates(this.#database, due)).map((s) => [s.id, s]))
    for (const id of due) {
      const state = states.get(id)
      const watched = this.#watched.get(id)
      if (!watched) continue
      for (const waiting of watched.waiting) {
        if (state && !waiting.isOver(state)) continue
        state ? waiting.resolve(state) : waiting.reject(operationNotFound(id))
        watched.waiting.delete(waiting)
      }
      if (watched.waiting.size === 0) this.#drop(id, watched)
    }
  }

  #mark(ids: number[], row: Watched['row']): void {
    for (const id of ids) {
      const watched = this.#watched.get(id)
      if (watched) watched.row = row
    }
  }

  #drop(id: number, { row }: Watched): void {
    this.#watched.delete(id)
    if (row !== 'none') this.#left.push(id)
    this.#nudge.abort()
  }

  /** A database that is away for a moment is no reason to tell anybody. */
  #failed(error: unknown): void {
    this.#failingSince ??= performance.now()
    if (!this.#closed && performance.now() - this.#failingSince < patienceMs) return
    this.#rejectAll(error)
    this.#left = []
    this.#failingSince = undefined
  }

  #rejectAll(reason: unknown): void {
    for (const [id, watched] of this.#watched) {
      for (const { reject } of watched.waiting) reject(reason)
      this.#drop(id, watched)
    }
  }

  async #rest(): Promise<void> {
    let next = this.#failingSince === undefined ? Infinity : performance.now() + pause.longest
    for (const { lookAt } of this.#watched.values()) next = Math.min(next, lookAt)
    const ms = next - performance.now()
    if (ms > 0 && Number.isFinite(ms)) {
      await sleep(ms, undefined, { signal: this.#nudge.signal }).catch(() => {})
    }
    if (this.#nudge.signal.aborted) this.#nudge = new AbortController()
  }
}
