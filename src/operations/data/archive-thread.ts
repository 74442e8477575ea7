import { z } from 'zod'

/** Copies all that stands in the provider thread into the archive. */
export const archiveThread = z
  .strictObject({
    reason: z.string().min(1).optional().describe('Why, in your own words. Default: on request.'),
  })
  .meta({ examples: [{}] })

export type ArchiveThread = z.input<typeof archiveThread>
