import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import { type Erasure, type ErasureReport, readErasure } from '../store/erasures.ts'
import type { WaitOptions } from './until-settled.ts'

export type ErasureOptions = WaitOptions & {
  /** Told how far it is, whenever that has changed. */
  onProgress?: (erasure: Erasure) => void
}

/** Between two looks, in milliseconds. */
const pauseMs = 250

/** A person's request to be forgotten. Made by `inturn.eraseUser(id)`. */
export class ErasureHandle {
  readonly id: number
  readonly #database: Database

  constructor(database: Database, id: number) {
    this.#database = database
    this.id = id
  }

  /** How far it is now. Throws `erasure_not_found`. */
  async state(): Promise<Erasure> {
    const erasure = await readErasure(this.#database, this.id)
    if (erasure) return erasure
    throw new InturnError('erasure_not_found', `There is no erasure ${this.id}`, {
      hint: 'Its row in the table erasures was deleted.',
    })
  }

  /**
   * Waits until all was done that could be, and gives what was proved and what was not. Throws
   * `erasure_timeout`, the signal's reason, and `erasure_not_found`.
   */
  async report({ timeoutMs, signal, onProgress }: ErasureOptions = {}): Promise<ErasureReport> {
    const until = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs
    for (let told = ''; ; await sleep(pauseMs, undefined, { signal })) {
      const erasure = await this.state()
      if (erasure.report) return erasure.report
      const { over, of } = erasure.deletions
      const far = `${over} of ${of} threads deleted, ${erasure.unfinished} operations to wait for`
      if (told !== far) onProgress?.(erasure)
      told = far
      if (performance.now() > until)
        throw new InturnError(
          'erasure_timeout',
          `Erasure ${this.id} was not over after ${timeoutMs} ms: ${far}`,
          {
            hint: 'It goes on as long as a dispatcher runs: ask for the same user again to wait on.',
          },
        )
    }
  }
}
