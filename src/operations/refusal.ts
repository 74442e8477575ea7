import { InturnError } from '../errors.ts'
import type { Failure } from '../model/outcome.ts'

/** The operation asks for something that cannot be; it fails with this code and message. */
export class Refusal extends InturnError {
  readonly failure: Failure

  constructor(code: string, message: string, more: Partial<Failure> = {}) {
    super(code, message)
    this.failure = { code, message, ...more }
  }
}
