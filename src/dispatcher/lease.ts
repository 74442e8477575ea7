import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type pg from 'pg'
import type { Logger } from 'pino'
import { beat, signOff, signOn } from '../store/dispatchers.ts'

export type LeaseOptions = {
  pool: pg.Pool
  concurrency: number
  providers: readonly string[]
  heartbeatMs: number
  leaseMs: number
  log: Logger
}

const newId = () => `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`

/**
 * A dispatcher's place on the list of dispatchers, kept by its heartbeat. When no sign of life arrived
 * for half a lease it is lost: by the time others take the claims over, this dispatcher sends nothing.
 * It goes on under a new id, because what the old one held is no longer its own.
 */
export class Lease {
  readonly #options: LeaseOptions
  readonly #onLost: () => void
  #id = newId()
  #lost = false
  #ended = false
  #timer: NodeJS.Timeout | undefined
  #watchdog: NodeJS.Timeout | undefined

  constructor(options: LeaseOptions, onLost: () => void) {
    this.#options = options
    this.#onLost = onLost
  }

  get id(): string {
    return this.#id
  }

  get isLost(): boolean {
    return this.#lost
  }

  async begin(): Promise<void> {
    await this.#signOnAs(this.#id)
  }

  /** Signs off as whom we lost the lease, and on as somebody new. */
  async renew(): Promise<void> {
    const before = this.#id
    await this.#signOnAs(newId(), before)
    this.#options.log.info({ dispatcher: this.#id, before }, 'dispatcher goes on under a new id')
  }

  async end(): Promise<void> {
    this.#ended = true
    this.#silence()
    const { pool, log } = this.#options
    await signOff(pool, this.#id).catch((error) => log.warn({ err: error }, 'could not sign off'))
  }

  async #signOnAs(id: string, before: string | null = null): Promise<void> {
    const { pool, concurrency, providers } = this.#options
    const startedAt = performance.now()
    await signOn(pool, { id, host: hostname(), pid: process.pid, concurrency, providers }, before)
    this.#id = id
    this.#lost = false
    this.#arrived(startedAt)
  }

  async #beat(): Promise<void> {
    const { pool, heartbeatMs, leaseMs, log } = this.#options
    const startedAt = performance.now()
    const id = this.#id
    try {
      const inTime = await beat(pool, id, leaseMs)
      if (id !== this.#id) return
      if (inTime) this.#arrived(startedAt)
      else this.#lose()
    } catch (error) {
      log.warn({ err: error }, 'heartbeat failed')
      if (id === this.#id) this.#schedule(heartbeatMs / 4)
    }
  }

  #arrived(sentAt: number): void {
    const { heartbeatMs, leaseMs } = this.#options
    this.#silence()
    if (this.#ended || this.#lost) return
    // Not part of the beat, which may hang in a connection that nobody answers on.
    const restMs = leaseMs / 2 - (performance.now() - sentAt)
    this.#watchdog = setTimeout(() => this.#lose(), restMs)
    this.#schedule(heartbeatMs)
  }

  #schedule(ms: number): void {
    if (!this.#ended && !this.#lost) this.#timer = setTimeout(() => void this.#beat(), ms)
  }

  #lose(): void {
    if (this.#ended || this.#lost) return
    this.#silence()
    this.#lost = true
    const { log } = this.#options
    log.error(
      { dispatcher: this.#id },
      'no sign of life for half a lease: everything is called off',
    )
    this.#onLost()
  }

  #silence(): void {
    clearTimeout(this.#timer)
    clearTimeout(this.#watchdog)
  }
}
