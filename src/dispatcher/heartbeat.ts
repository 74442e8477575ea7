import type pg from 'pg'
import type { Logger } from 'pino'
import { beat } from '../store/dispatchers.ts'

/**
 * Renews the dispatcher's lease. When it could not for half a lease, everything is called off: by the
 * time others take the claims over, this dispatcher sends nothing more.
 */
export class Heartbeat {
  readonly #options: { pool: pg.Pool; heartbeatMs: number; leaseMs: number; log: Logger }
  readonly #id: string
  readonly #lost: () => void
  #timer: NodeJS.Timeout | undefined
  #lastBeat = 0
  #beating: Promise<void> = Promise.resolve()

  constructor(
    options: { pool: pg.Pool; heartbeatMs: number; leaseMs: number; log: Logger },
    id: string,
    lost: () => void,
  ) {
    this.#options = options
    this.#id = id
    this.#lost = lost
  }

  start(): void {
    this.#lastBeat = performance.now()
    this.#timer = setInterval(() => {
      this.#beating = this.#beat()
    }, this.#options.heartbeatMs)
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#beating
  }

  async #beat(): Promise<void> {
    const { pool, leaseMs, log } = this.#options
    const startedAt = performance.now()
    try {
      if (await beat(pool, this.#id)) this.#lastBeat = startedAt
    } catch (error) {
      log.warn({ err: error }, 'heartbeat failed')
    }
    if (performance.now() - this.#lastBeat > leaseMs / 2) this.#lost()
  }
}
