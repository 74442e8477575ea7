import type { Emulator } from '../src/emulator/index.ts'
import type { Judged } from './history.ts'
import type { Held } from './holders.ts'
import { type Offender, offender } from './offender.ts'

/** Nobody of ours has met what a caller did while he held the thread. */
export function brokenHolds(
  held: readonly Held[],
  operations: readonly Judged[],
  emulator: Emulator,
): Offender[] {
  const met = new Set(
    emulator.conflicts().flatMap(({ cause, runId }) => (cause === 'foreign_run' ? [runId] : [])),
  )
  return held.flatMap(({ operation, runId }) => {
    const thread = operations.find(({ id }) => id === operation)?.thread_id ?? null
    return met.has(runId) ? [offender('hold', thread, [operation], `${runId} was met`)] : []
  })
}

/** Who was cancelled must have been by somebody, and every cancel_run that nobody withdrew tells what came of it. */
export function unexplainedEnds(operations: readonly Judged[]): Offender[] {
  const byId = new Map(operations.map((operation) => [operation.id, operation]))
  const deleted = new Set(
    operations.flatMap(({ operation, turn, thread_id }) =>
      operation === 'delete_thread' && turn !== null ? [thread_id] : [],
    ),
  )
  return operations.flatMap((operation) => {
    const { id, thread_id, status, error, result, target_id } = operation
    const blamed = byId.get(error?.operation_id ?? 0)
    const target = byId.get(target_id ?? 0)
    const outcome = result?.outcome
    const isWrong =
      operation.operation === 'cancel_run'
        ? status !== 'cancelled' && outcome !== 'nothing_to_do' && outcome !== target?.status
        : status === 'cancelled' &&
          error !== null &&
          !(error.code === 'thread_deleted' && deleted.has(thread_id)) &&
          (blamed?.thread_id !== thread_id || blamed.id === id)
    if (!isWrong) return []
    const text = `${status}, ${JSON.stringify(error ?? result)}, target ${target?.status ?? 'none'}`
    return [offender('end', thread_id, [id], text)]
  })
}
