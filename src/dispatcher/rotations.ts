import type pg from 'pg'
import type { Logger } from 'pino'
import { requestRotations } from '../store/rotation.ts'
import { WakeUp } from './wake-up.ts'

/** Most threads asked about in one statement. */
const threadsPerLook = 1_000

/** Pause between two looks, in milliseconds, so that a busy dispatcher does not ask all the time. */
const pauseMs = 20

type RotationsOptions = { pool: pg.Pool; heartbeatMs: number; log: Logger }
type Host = { dispatcherId: () => string; onFound: () => void }

/**
 * Asks of the threads whose operations this dispatcher has settled whether their policy has them rotated.
 * Where no policy does so, it asks once in a heartbeat. One that is missed is asked about when its next
 * operation is settled.
 */
export class Rotations {
  readonly #options: RotationsOptions
  readonly #host: Host
  readonly #wakeUp = new WakeUp()
  readonly #threads = new Set<string>()
  /** Sleeps until some operation is settled. */
  #isIdle = false
  #working: Promise<void> | undefined
  #stopped = false

  constructor(options: RotationsOptions, host: Host) {
    this.#options = options
    this.#host = host
  }

  settled(threads: readonly string[]): void {
    for (const thread of threads) this.#threads.add(thread)
    if (this.#isIdle) this.#wakeUp.wake()
  }

  start(): void {
    this.#working = this.#work()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#wakeUp.wake()
    await this.#working
  }

  async #work(): Promise<void> {
    const { heartbeatMs, log } = this.#options
    while (!this.#stopped) {
      const rotates = await this.#look().catch((error) => {
        log.warn({ err: error }, 'could not ask for rotations; will try again')
        return false
      })
      await this.#wakeUp.sleep(rotates ? pauseMs : heartbeatMs)
      this.#isIdle = this.#threads.size === 0
      if (this.#isIdle && !this.#stopped) await this.#wakeUp.sleep(heartbeatMs)
      this.#isIdle = false
    }
  }

  /** False: no policy has anything rotated. */
  async #look(): Promise<boolean> {
    const threads = [...this.#threads].slice(0, threadsPerLook)
    if (threads.length === 0) return true
    const { pool } = this.#options
    const { rotates, ready } = await requestRotations(pool, this.#host.dispatcherId(), threads)
    for (const thread of rotates ? threads : [...this.#threads]) this.#threads.delete(thread)
    if (ready) this.#host.onFound()
    return rotates
  }
}
