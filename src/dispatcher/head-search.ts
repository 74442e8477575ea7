import type { Round, RoundResult } from '../store/claim.ts'

/** How long looks at the heads may skip what lies below the floors, in milliseconds. */
const floorsMs = 1000

/** Looking at everything takes at most this part of the time, however many dead entries there are. */
const share = 1 / 10

/** As `Round` has it: priorities, and for each the mark below which there are only dead entries. */
type Look = Pick<Round, 'priorities' | 'floors'>

/** An object of its own each time, by which a look is known. */
export const everything = (): Look => ({ priorities: null, floors: null })

/** Where a claim looks for heads: at which priorities, and from which mark on in each. */
export class HeadSearch {
  #look = everything()
  #startedAt = 0
  #lookedAt = Number.NEGATIVE_INFINITY
  #tookMs = 0

  /** Somebody has come, of whatever priority: the next look is at everything. */
  renew(): void {
    this.#renewAfter(0)
  }

  /** Where to look now. Every second it is at everything: what committed late lies below the floors. */
  next(): Look {
    this.#renewAfter(floorsMs)
    this.#startedAt = performance.now()
    return this.#look
  }

  /** Takes in what a look has found, unless another one is to be next by now. */
  after(look: Look, { priorities, floors }: RoundResult): void {
    const current = this.#look
    const isCurrent =
      look === current || (look.priorities && look.priorities === current.priorities)
    if (!isCurrent || priorities === null) return
    const isNew = look.priorities?.join() !== priorities.join()
    if (isNew) {
      this.#lookedAt = performance.now()
      this.#tookMs = this.#lookedAt - this.#startedAt
    }
    this.#look = { priorities: isNew ? priorities : look.priorities, floors }
  }

  #renewAfter(ms: number): void {
    const pauseMs = Math.max(ms, this.#tookMs / share)
    if (performance.now() - this.#lookedAt <= pauseMs) return
    this.#look = everything()
  }
}
