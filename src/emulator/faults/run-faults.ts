import type { Context } from '../context.ts'
import type { RunFailure } from '../options.ts'
import type { RouteKind } from '../route-kinds.ts'
import type { CheckedFaultOf, FaultName } from './knobs.ts'

export type RunFaults = {
  strike: <N extends FaultName>(name: N) => CheckedFaultOf<N> | undefined
  /** Stays for as long as the fault says, if it strikes; rejects when `signal` aborts. */
  hold: (
    name: 'stuck_queued' | 'stuck_in_progress' | 'stuck_cancelling',
    signal?: AbortSignal,
  ) => Promise<void>
}

/** The faults of a run that a request of this kind set going; with null, an outsider's, there are none. */
export function runFaults(
  { faults }: Context,
  kind: RouteKind | null,
  threadId: string | null,
): RunFaults {
  const strike: RunFaults['strike'] = (name) =>
    kind === null ? undefined : faults.strike([name], { kind, threadId })
  return {
    strike,
    async hold(name, signal = new AbortController().signal) {
      const fault = strike(name)
      if (fault) await faults.hold(fault.ms, signal)
    },
  }
}

const messages: Record<RunFailure['code'], string> = {
  server_error: 'Sorry, something went wrong.',
  rate_limit_exceeded: 'Rate limit reached. Please try again later.',
  invalid_prompt: 'The prompt was refused.',
}

/** What `run_fails` ends a run with, when it strikes. */
export function failureBy(faults: RunFaults): RunFailure | undefined {
  const fault = faults.strike('run_fails')
  return fault && { code: fault.code, message: messages[fault.code] }
}
