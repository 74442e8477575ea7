import type pg from 'pg'
import type { Logger } from 'pino'
import { releaseLostOperations, settleNoted, sweepLines } from '../store/release.ts'

/** Threads looked at in one statement of a sweep. */
const threadsPerPass = 2000

type SweeperOptions = { pool: pg.Pool; leaseMs: number; sweepMs: number; log: Logger }

/** The safety nets, in the background: lines nobody marked, outcomes left beside, claims of the dead. */
export class Sweeper {
  readonly #options: SweeperOptions
  readonly #id: string
  readonly #found: () => void
  #timer: NodeJS.Timeout | undefined
  #sweeping: Promise<void> = Promise.resolve()
  #stopped = false
  #after = ''

  constructor(options: SweeperOptions, id: string, found: () => void) {
    this.#options = options
    this.#id = id
    this.#found = found
  }

  start(): void {
    this.#schedule(0)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#sweeping
  }

  #schedule(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#sweeping = this.#sweep()
    }, ms)
  }

  async #sweep(): Promise<void> {
    const { pool, leaseMs, sweepMs, log } = this.#options
    const startedAt = performance.now()
    try {
      const released = await releaseLostOperations(pool, this.#id, leaseMs)
      if (released.length > 0) log.warn({ operation_ids: released }, 'released operations of a lost dispatcher')
      const settled = await settleNoted(pool, 100)
      const sweep = await sweepLines(pool, this.#id, this.#after, threadsPerPass)
      this.#after = sweep.lastThread ?? ''
      if (released.length + settled + sweep.marked > 0) this.#found()
    } catch (error) {
      log.warn({ err: error }, 'sweep failed; will try again')
    }
    // A long round over many threads goes on sooner, but never takes more than a tenth of the time.
    const tookMs = performance.now() - startedAt
    if (!this.#stopped) this.#schedule(this.#after === '' ? sweepMs : Math.min(sweepMs, tookMs * 9))
  }
}
