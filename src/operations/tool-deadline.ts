import type { DeadlinePolicy } from '../model/tool-deadline.ts'
import type { OperationContext } from './context.ts'
import type { ToolDeadline } from './data/tool-deadline.ts'

/** What becomes of calls that nobody has answered in time. */
export function deadlinePolicy({ data, tools }: OperationContext<ToolDeadline>): DeadlinePolicy {
  return data.on_tool_deadline ?? tools.onDeadline
}

/**
 * How long the calls of a run that began at `since` may wait, in milliseconds. Where the provider lets a
 * run wait only so long from its start, its later rounds share what is left of it; 0 or less: it is over.
 */
export function deadlineMs(
  { data, tools, provider, journal }: OperationContext<ToolDeadline>,
  since: string,
  isFirstRound: boolean,
): number {
  const wanted = data.tool_deadline_ms ?? tools.deadlineMs
  const { outputsWithinMs } = provider.profile
  if (outputsWithinMs === null) return wanted
  const ageMs = journal.now() - Date.parse(since)
  // However long the model has thought before it asked, the tools get their time.
  return isFirstRound
    ? Math.min(wanted, outputsWithinMs - ageMs)
    : Math.min(wanted, outputsWithinMs) - ageMs
}
