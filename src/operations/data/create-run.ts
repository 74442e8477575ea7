import { z } from 'zod'
import { withRule } from './rules.ts'
import { aRunNeedsAModel, type RunParameters, runParameters } from './run-parameters.ts'
import { type ToolDeadline, toolDeadline } from './tool-deadline.ts'

/** Runs the assistant or model over the thread as it stands. */
export const createRun = withRule(
  z
    .strictObject({ ...runParameters, ...toolDeadline })
    .meta({ examples: [{ assistant_id: 'asst_1' }] }),
  aRunNeedsAModel,
)

export type CreateRun = RunParameters & ToolDeadline
