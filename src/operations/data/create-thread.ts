import { z } from 'zod'
import { providerNames } from '../../model/thread.ts'
import { metadata } from './metadata.ts'
import { withRule } from './rules.ts'

/** Creates the provider thread now, or adopts one that the provider has already. */
export const createThread = withRule(
  z
    .strictObject({
      provider: z
        .enum(providerNames)
        .optional()
        .describe("Who holds the conversation. Default: the dispatcher's provider."),
      provider_thread_id: z
        .string()
        .min(1)
        .optional()
        .describe('An existing provider thread to adopt, in place of a new one.'),
      metadata: metadata.optional().describe('Up to 15 pairs of text kept with the thread.'),
    })
    .meta({ examples: [{ provider: 'responses' }] }),
  {
    when: 'provider_thread_id',
    oneOf: ['provider'],
    message: 'a provider_thread_id needs a provider, "responses" or "assistants"',
  },
)

export type CreateThread = z.input<typeof createThread>
