import type { ApiError, ConflictCause, ConflictKind } from './api-error.ts'
import type { Context } from './context.ts'
import type { FaultName } from './faults/knobs.ts'

export type EmulatorStats = {
  /** API requests received. */
  requests: number
  /** Lock errors served, of all kinds. */
  conflicts: number
  conflictsByKind: Record<ConflictKind, number>
  /** `run`: what a queue must never meet. `foreign_run`, `lingering_lock`: what nobody can avoid. */
  conflictsByCause: Record<ConflictCause, number>
  /** Runs and responses started by requests. */
  runsStarted: number
  /** Those started by `foreignRun`. */
  foreignRunsStarted: number
  /** How often each fault struck, under all plans so far. */
  faults: Partial<Record<FaultName, number>>
  /** Time in which at least one run was being worked on, in milliseconds. */
  busyMs: number
}

/** What has passed the server. */
export class Traffic {
  requests = 0
  readonly kinds: Record<ConflictKind, number> = {
    run_conflict: 0,
    message_conflict: 0,
    conversation_locked: 0,
  }
  readonly causes: Record<ConflictCause, number> = { run: 0, foreign_run: 0, lingering_lock: 0 }

  refused({ conflict }: ApiError): void {
    if (!conflict) return
    this.kinds[conflict.kind]++
    this.causes[conflict.cause]++
  }
}

export const statsOf = ({ activity, faults }: Context, traffic: Traffic): EmulatorStats => ({
  requests: traffic.requests,
  conflicts: Object.values(traffic.kinds).reduce((sum, count) => sum + count, 0),
  conflictsByKind: { ...traffic.kinds },
  conflictsByCause: { ...traffic.causes },
  runsStarted: activity.runsStarted,
  foreignRunsStarted: activity.foreignRunsStarted,
  busyMs: activity.busyMs,
  faults: { ...faults.firedByName },
})
