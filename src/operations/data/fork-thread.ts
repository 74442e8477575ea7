import { z } from 'zod'

/** Copies the conversation, as it stands at its turn, into a new thread. */
export const forkThread = z
  .strictObject({
    to: z.string().min(1).describe('Id of the new thread, on which nothing was started yet.'),
    last: z
      .int()
      .min(1)
      .max(100_000)
      .optional()
      .describe('Only so many of the last messages. Default: all of them.'),
  })
  .meta({ examples: [{ to: 'user:42:draft' }] })

export type ForkThread = z.input<typeof forkThread>
