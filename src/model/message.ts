/** A message as callers write it in `data.message`: plain text, or an object in the provider's own shape. */
export type MessageInput =
  | string
  | {
      role?: 'user' | 'assistant' | 'system' | 'developer'
      content: string | ReadonlyArray<Record<string, unknown>>
      attachments?: ReadonlyArray<Record<string, unknown>>
      metadata?: Record<string, string>
    }
