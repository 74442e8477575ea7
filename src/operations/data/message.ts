import { z } from 'zod'
import { metadata } from './metadata.ts'

const parts = z.array(z.looseObject({})).min(1)

/** What `message` may hold; the parsed value is a `MessageInput`. */
export const message = z
  .union([
    z.string().min(1),
    z.strictObject({
      role: z
        .enum(['user', 'assistant', 'system', 'developer'])
        .optional()
        .describe('Who speaks. Default: user.'),
      content: z
        .union([z.string().min(1), parts])
        .describe("The text, or content parts in the provider's own shape."),
      attachments: z
        .array(z.looseObject({}))
        .optional()
        .describe('Files and the tools that may read them (Assistants).'),
      metadata: metadata
        .optional()
        .describe('Up to 15 pairs of text kept with the message (Assistants).'),
    }),
  ])
  .describe('The message: plain text, or an object with its content.')
