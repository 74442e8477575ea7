import { pause } from '../clock.ts'
import type { Reply } from '../router.ts'
import type { FaultPlan, Place } from './plan.ts'
import { refusalBy, refusingFaults, serverError } from './refusals.ts'

/** Where a stream stops: before its event `event`, as if complete when `silently`. */
export type Cut = { event: number; silently: boolean }
/** Where an answer falls silent: a stream before its event `event`, any other in the middle of its body. */
export type Stall = { event: number; hold: (signal: AbortSignal) => Promise<void> }
/** What becomes of an answer that has begun. */
export type Breaks = { cut?: Cut | undefined; stall?: Stall | undefined }
/** What a request comes to: `'reset'` cuts its connection. */
export type Outcome = 'reset' | ({ reply: Reply } & Breaks)

const before = [
  'reset_before_commit',
  'timeout_before_commit',
  'late_commit',
  ...refusingFaults,
] as const
const after = ['reset_after_commit', 'timeout_after_commit', 'server_error_after_commit'] as const

/**
 * `commit` as the plan lets it happen: not at all, later, or with its answer lost. What the API itself
 * refuses has no effect that a fault could hide.
 */
export async function underFaults(
  plan: FaultPlan,
  place: Place,
  { method, path }: { method: string; path: string },
  commit: () => Reply | Promise<Reply>,
): Promise<Outcome> {
  const first = plan.strike(before, place)
  if (first?.name === 'reset_before_commit') return 'reset'
  if (first?.name === 'timeout_before_commit') {
    await pause(first.ms)
    return 'reset'
  }
  if (first?.name === 'late_commit') await pause(first.ms)
  else if (first) throw refusalBy(first, method, path)

  const reply = await commit()
  const last = plan.strike(after, place)
  if (last?.name === 'reset_after_commit') return 'reset'
  if (last?.name === 'server_error_after_commit') throw serverError()
  if (last?.name === 'timeout_after_commit') await pause(last.ms)
  const stalls = plan.strike(['answer_stalls'], place)
  return {
    reply,
    cut: 'events' in reply ? plan.strike(['stream_cut'], place) : undefined,
    stall: stalls && {
      event: stalls.event,
      hold: (signal) => plan.hold(stalls.ms, signal),
    },
  }
}
