/** The services that can hold a conversation, by the wire format they speak. */
export const providerNames = ['responses', 'assistants'] as const
export type ProviderName = (typeof providerNames)[number]

/** Longest `thread_id` and `idempotency_key` accepted, in characters. */
export const idLengthMax = 255

/**
 * Thread ids that are a provider's own object id and adopt that object. Anything else, also
 * `thread_abc` or `thread_worker_7_12`, is the caller's own name.
 */
const adoptedIds: ReadonlyArray<[ProviderName, RegExp]> = [
  ['assistants', /^thread_[A-Za-z0-9]{24}$/],
  ['responses', /^conv_[0-9a-f]{32,}$/],
]

/** The provider whose object `threadId` names, or null when the id is the caller's own name. */
export function adoptedProvider(threadId: string): ProviderName | null {
  return adoptedIds.find(([, pattern]) => pattern.test(threadId))?.[0] ?? null
}
