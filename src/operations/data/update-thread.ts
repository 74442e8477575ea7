import { z } from 'zod'
import { metadata } from './metadata.ts'

/** Replaces the metadata of the provider thread. */
export const updateThread = z
  .strictObject({ metadata: metadata.describe('Up to 15 pairs of text kept with the thread.') })
  .meta({ examples: [{ metadata: { plan: 'pro' } }] })

export type UpdateThread = z.input<typeof updateThread>
