import { z } from 'zod'

/** Deletes the conversation for good; what is going on is cancelled, and what waits ends as well. */
export const deleteThread = z
  .strictObject({
    archive: z
      .boolean()
      .optional()
      .describe(
        "Archive it before. Default: the policy's archive_on_delete, else not. Never with erase.",
      ),
    reopen: z
      .boolean()
      .optional()
      .describe(
        "Later operations begin a new conversation. Default: the policy's, else they are refused.",
      ),
    erase: z
      .boolean()
      .optional()
      .describe('Delete also its archives and what its operations hold. Default: they stay.'),
  })
  .meta({ examples: [{}] })

export type DeleteThread = z.input<typeof deleteThread>
