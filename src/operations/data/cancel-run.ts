import { z } from 'zod'

/** Ends what is being served on the thread, or the operation that is named; never what comes after it. */
export const cancelRun = z
  .strictObject({
    operation_id: z
      .int()
      .min(1)
      .optional()
      .describe('Which operation of the thread. Default: the one that is active at the INSERT.'),
    interrupted_by: z
      .int()
      .min(1)
      .optional()
      .describe('The operation that interrupts: written for those whose `if_busy` says so.'),
    reason: z.string().min(1).optional().describe('Why, for the error of what is cancelled.'),
  })
  .meta({ examples: [{}] })

export type CancelRun = z.input<typeof cancelRun>
