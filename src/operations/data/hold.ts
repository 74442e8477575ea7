import { z } from 'zod'

/** Stands in the line and gives the thread to the caller's own code, at its turn, until it is released. */
export const hold = z
  .strictObject({
    lease_ms: z
      .int()
      .min(100)
      .max(86_400_000)
      .optional()
      .describe(
        'How long the thread is held unless the hold is renewed, in milliseconds. Default 60000.',
      ),
  })
  .meta({ examples: [{}] })

export type Hold = z.input<typeof hold>
