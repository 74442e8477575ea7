import { z } from 'zod'

/** Key-value pairs kept with a provider's object. Limits as both providers state them: 16 pairs, keys of 64, values of 512 characters. */
export const metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, 'metadata holds at most 16 pairs')
