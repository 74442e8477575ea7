import { z } from 'zod'
import { FaultsError, problemsOf, worded } from './faults/check.ts'
import { duration } from './faults/knob.ts'

/** What an outsider does on a thread. */
const foreignRunSchema = z.strictObject({
  ms: duration().default(1000).describe('how long its run takes'),
  message: z
    .string('write what the outsider says')
    .min(1, 'write what the outsider says')
    .optional()
    .describe('what the outsider says first; default: nothing'),
})
export type ForeignRunOptions = z.input<typeof foreignRunSchema>
export type ForeignRun = z.output<typeof foreignRunSchema>

/** The default model then answers the same on every thread, so that a judge can tell it from other answers. */
export const foreignInstructions = 'Reply with exactly: A foreign run was here.'

/** The options with their defaults. Throws one FaultsError with every problem. */
export function checkForeignRun(options: unknown): ForeignRun {
  const result = foreignRunSchema.safeParse(options)
  if (result.success) return result.data
  throw new FaultsError(problemsOf(result.error, foreignRunSchema.shape).map(worded))
}
