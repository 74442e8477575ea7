import type { ConflictCause, ConflictKind } from './api-error.ts'
import type { Context } from './context.ts'
import type { FaultName } from './faults/knobs.ts'

export type EmulatorStats = {
  /** API requests received. */
  requests: number
  /** Lock errors served, of all kinds. */
  conflicts: number
  conflictsByKind: Record<ConflictKind, number>
  /** `own_run`: what a queue must never meet. `foreign_run`, `lingering_lock`: what nobody can avoid. */
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

export const statsOf = ({
  activity,
  conflicts,
  faults,
  requests,
  runs,
}: Context): EmulatorStats => ({
  requests: requests.count,
  conflicts: conflicts.entries.length,
  conflictsByKind: conflicts.byKind,
  conflictsByCause: conflicts.byCause,
  runsStarted: runs.byRequests,
  foreignRunsStarted: runs.byOutsiders,
  busyMs: activity.busyMs,
  faults: { ...faults.firedByName },
})
