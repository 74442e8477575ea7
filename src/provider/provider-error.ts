import { InturnError } from '../errors.ts'
import type { ProviderFailure } from './classify-error.ts'

/** A provider call that failed; `failure.decision` says what to do about it. */
export class ProviderError extends InturnError {
  readonly failure: ProviderFailure

  constructor(failure: ProviderFailure, options: { cause?: unknown } = {}) {
    super(failure.code, failure.message, options)
    this.failure = failure
  }
}

/** A request that the provider could never take; refused before anything is sent. */
export function unsupported(message: string): ProviderError {
  return new ProviderError({
    code: 'unsupported_parameter',
    message,
    decision: 'fail',
    sent: false,
  })
}
