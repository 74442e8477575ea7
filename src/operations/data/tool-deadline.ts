import { z } from 'zod'
import {
  type DeadlinePolicy,
  deadlinePolicies,
  toolDeadlineMaxMs,
} from '../../model/tool-deadline.ts'

/** What an operation with a run may say about the time that its tool calls have. */
export const toolDeadline = {
  tool_deadline_ms: z
    .int()
    .min(1)
    .max(toolDeadlineMaxMs)
    .optional()
    .describe(
      'Time that the tool calls of a round have, in milliseconds. Default: as the dispatcher is set.',
    ),
  on_tool_deadline: z
    .enum(deadlinePolicies)
    .optional()
    .describe(
      'What then becomes of those without an output: `answer` them with an error, or `cancel` the run. Default: as the dispatcher is set.',
    ),
}

export type ToolDeadline = { tool_deadline_ms?: number; on_tool_deadline?: DeadlinePolicy }
