import { z } from 'zod'

/** Goes on in a new provider thread that holds what an archive holds. */
export const restoreThread = z
  .strictObject({
    archive_id: z
      .int()
      .min(1)
      .describe('A row of thread_archives, of this thread or of another one.'),
  })
  .meta({ examples: [{ archive_id: 1 }] })

export type RestoreThread = z.input<typeof restoreThread>
