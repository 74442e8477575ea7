import { z } from 'zod'
import type { MessageInput } from '../../model/message.ts'
import { message } from './message.ts'
import { withRule } from './rules.ts'
import { aRunNeedsAModel, type RunParameters, runParameters } from './run-parameters.ts'
import { type ToolDeadline, toolDeadline } from './tool-deadline.ts'

/** Adds a message and runs the assistant or model: one turn of a conversation. */
export const addMessageAndRun = withRule(
  z
    .strictObject({ message, ...runParameters, ...toolDeadline })
    .meta({ examples: [{ message: 'Hi', assistant_id: 'asst_1' }] }),
  aRunNeedsAModel,
)

export type AddMessageAndRun = { message: MessageInput } & RunParameters & ToolDeadline
