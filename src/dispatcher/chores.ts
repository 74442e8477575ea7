import type { Logger } from 'pino'
import { WakeUp } from './wake-up.ts'

/** Something that every dispatcher does beside its loop, now and then and when somebody calls for it. */
type Chore = {
  /** For the log. */
  name: string
  /** Says whether it has made an operation ready to be served. Any number of dispatchers do it at once. */
  run: () => Promise<boolean>
}

type ChoresOptions = {
  /** Longest pause between two rounds, in milliseconds. */
  everyMs: number
  /** Called when there is something to claim. */
  onFound: () => void
  log: Logger
}

/** Does all chores, one after the other, again and again. One that fails is tried again in the next round. */
export class Chores {
  readonly #chores: readonly Chore[]
  readonly #options: ChoresOptions
  readonly #wakeUp = new WakeUp()
  #working: Promise<void> | undefined
  #stopped = false

  constructor(chores: readonly Chore[], options: ChoresOptions) {
    this.#chores = chores
    this.#options = options
  }

  start(): void {
    this.#working = this.#work()
  }

  /** Does them now. */
  wake(): void {
    this.#wakeUp.wake()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#wakeUp.wake()
    await this.#working
  }

  async #work(): Promise<void> {
    const { everyMs, onFound, log } = this.#options
    while (!this.#stopped) {
      for (const { name, run } of this.#chores) {
        const found = await run().catch((error) => {
          log.warn({ err: error, chore: name }, 'a chore failed; will try again')
          return false
        })
        if (found) onFound()
      }
      if (!this.#stopped) await this.#wakeUp.sleep(everyMs)
    }
  }
}
