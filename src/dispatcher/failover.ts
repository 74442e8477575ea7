import type pg from 'pg'
import type { Logger } from 'pino'
import { type Sighting, signOffSilent } from '../store/dispatchers.ts'
import { releaseLostOperations } from '../store/release.ts'
import { Watch } from '../store/watch.ts'

type FailoverOptions = { pool: pg.Pool; graceMs: number; log: Logger }

/** Who watches: its id, and what to do when there is something to claim. */
type Watching = { dispatcherId(): string; onFound(): void }

/** Watches the other dispatchers, signs off those that are dead and gives back what they held. */
export class Failover {
  readonly #options: FailoverOptions
  readonly #dispatcher: Watching
  readonly #watch: Watch
  #timer: NodeJS.Timeout | undefined
  #acting: Promise<void> | undefined
  #stopped = false

  constructor(options: FailoverOptions, dispatcher: Watching) {
    this.#options = options
    this.#dispatcher = dispatcher
    this.#watch = new Watch(options.graceMs)
  }

  saw(sighting: Sighting): void {
    this.#watch.saw(sighting, performance.now())
    this.#act()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#acting
  }

  #act(): void {
    if (this.#stopped) return
    clearTimeout(this.#timer)
    const now = performance.now()
    const restMs = this.#watch.untilNext(now)
    // Acts at the moment somebody's time is over, not only when the next beat looks.
    if (restMs !== null) this.#timer = setTimeout(() => this.#act(), Math.ceil(restMs))
    const me = this.#dispatcher.dispatcherId()
    const silent = this.#watch.silent(now).filter(({ dispatcher }) => dispatcher.id !== me)
    if (silent.length === 0) return
    this.#acting ??= this.#signOff(silent).finally(() => {
      this.#acting = undefined
    })
  }

  async #signOff(silent: ReturnType<Watch['silent']>): Promise<void> {
    const { pool, log } = this.#options
    const { dispatcherId, onFound } = this.#dispatcher
    try {
      const gone: string[] = []
      for (const { dispatcher, leaseIsOver } of silent) {
        if (await signOffSilent(pool, dispatcher, leaseIsOver)) gone.push(dispatcher.id)
      }
      if (gone.length === 0) return
      const released = await releaseLostOperations(pool, dispatcherId())
      log.warn({ dispatchers: gone, operation_ids: released }, 'released what the dead held')
      if (released.length > 0) onFound()
    } catch (error) {
      log.warn({ err: error }, 'failover failed; will try again')
    }
  }
}
