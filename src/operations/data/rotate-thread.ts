import { z } from 'zod'

/** Archives the provider thread and goes on in a new one, under the same id. */
export const rotateThread = z
  .strictObject({
    carry_over: z
      .int()
      .min(0)
      .max(100)
      .optional()
      .describe(
        "How many of the last messages the new one begins with. Default: the policy's, else 0.",
      ),
    delete_old: z
      .boolean()
      .optional()
      .describe("Delete the old one at the provider. Default: the policy's, else it stays."),
  })
  .meta({ examples: [{ carry_over: 10 }] })

export type RotateThread = z.input<typeof rotateThread>
