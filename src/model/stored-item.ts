/** Something that stands in a provider thread, in one shape for both providers. */
export type StoredItem = {
  id: string
  /** `message`, `function_call`, `function_call_output`, `reasoning` …; on Assistants always `message`. */
  type: string
  /** Who speaks; null for what is no message. */
  role: string | null
  /** All text of a message, its parts joined by a line break; null where there is none. */
  text: string | null
  /** The content parts, in the provider's own shape; null for what is no message. */
  content: ReadonlyArray<Record<string, unknown>> | null
  /** Ids of the files that it brings along. */
  attachments: readonly string[]
  /** The run that wrote it, where the provider tells (Assistants). */
  run_id: string | null
  /** Key-value pairs of the item, where the provider keeps any (Assistants). */
  metadata: Record<string, string> | null
  /** When it was said, where the provider tells (ISO 8601, Assistants). */
  said_at: string | null
  /** All of it, as the provider gave it. */
  item: Record<string, unknown>
}

/** One page of a provider thread, oldest first. */
export type ItemPage = { items: StoredItem[]; isMore: boolean }
