import { z } from 'zod'

/** Ends the provider thread if the times to live of the thread's policy are over at its turn. */
export const expireThread = z.strictObject({}).meta({ examples: [{}] })

export type ExpireThread = z.input<typeof expireThread>
