import { z } from 'zod'

/**
 * Key-value pairs kept with a provider's object. Both providers take 16 pairs with keys of 64 and values
 * of 512 characters; one pair of runs and messages is ours (`inturn_operation`), so 15 are left.
 */
export const metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 15, 'metadata holds at most 15 pairs')
