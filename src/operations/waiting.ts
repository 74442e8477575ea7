import { InturnError } from '../errors.ts'
import type { Failure } from '../model/outcome.ts'

/** Nothing can be done for the operation now, and nobody is to blame: it looks again after `delayMs`. */
export class NotYet extends InturnError {
  readonly failure: Failure
  readonly delayMs: number

  constructor(failure: Failure, delayMs: number) {
    super(failure.code, failure.message)
    this.failure = failure
    this.delayMs = delayMs
  }
}

/** Only an operator can say how it goes on: the operation waits at the head of its line. */
export class Held extends InturnError {
  readonly failure: Failure

  constructor(failure: Failure) {
    super(failure.code, failure.message)
    this.failure = failure
  }
}

/** Longest pause between two looks, in milliseconds. */
const pauseMaxMs = 5_000

/** The pause before the next look at something that has been waited for this long: it grows with it. */
export const pauseAfter = (waitedMs: number): number =>
  Math.min(pauseMaxMs, Math.max(100, waitedMs / 2))
