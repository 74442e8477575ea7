import type pg from 'pg'
import type { Logger } from 'pino'
import { expireHolds } from '../store/holds.ts'
import {
  giveBackOperations,
  releaseLostOperations,
  settleNoted,
  sweepLines,
  unheardClaims,
} from '../store/release.ts'
import type { HeldClaims } from './held-claims.ts'

/** Threads looked at in one statement of a sweep. */
const threadsPerPass = 2000

type SweeperOptions = { pool: pg.Pool; sweepMs: number; log: Logger }

/** Who sweeps: its id, what it holds, and what to do when there is something to claim. */
type Sweeping = { dispatcherId(): string; claims: HeldClaims; onFound(): void }

/** The safety nets, in the background: lines nobody marked, outcomes left beside, claims of nobody, holds whose lease is over. */
export class Sweeper {
  readonly #options: SweeperOptions
  readonly #dispatcher: Sweeping
  #timer: NodeJS.Timeout | undefined
  #sweeping: Promise<void> = Promise.resolve()
  #stopped = false
  #after = ''

  constructor(options: SweeperOptions, dispatcher: Sweeping) {
    this.#options = options
    this.#dispatcher = dispatcher
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
    const { pool, sweepMs, log } = this.#options
    const { dispatcherId, onFound } = this.#dispatcher
    const startedAt = performance.now()
    try {
      const released = [
        ...(await releaseLostOperations(pool, dispatcherId())),
        ...(await this.#giveBackUnheard()),
      ]
      if (released.length > 0) log.warn({ operation_ids: released }, 'released lost operations')
      const settled = await settleNoted(pool, 100)
      const expired = await expireHolds(pool, dispatcherId())
      const sweep = await sweepLines(pool, dispatcherId(), this.#after, threadsPerPass)
      this.#after = sweep.lastThread ?? ''
      if (released.length + settled + sweep.marked > 0 || expired) onFound()
    } catch (error) {
      log.warn({ err: error }, 'sweep failed; will try again')
    }
    // A long round over many threads goes on sooner, but never takes more than a tenth of the time; nor
    // does one take long often that passes the dead entries of an old snapshot.
    const tookMs = performance.now() - startedAt
    const pauseMs =
      this.#after === '' ? Math.max(sweepMs, tookMs * 3) : Math.min(sweepMs, tookMs * 9)
    if (!this.#stopped) this.#schedule(pauseMs)
  }

  /** What this dispatcher holds without knowing, because the answer that said so was lost. */
  async #giveBackUnheard(): Promise<number[]> {
    const { pool } = this.#options
    const { dispatcherId, claims } = this.#dispatcher
    const id = dispatcherId()
    const lost = claims.unheard.lost(claims.ids())
    const given = lost.length > 0 ? await giveBackOperations(pool, id, lost) : []
    claims.unheard.saw(await unheardClaims(pool, id, claims.ids()))
    return given
  }
}
