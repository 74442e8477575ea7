/** The services that can hold a conversation, by the wire format they speak. */
export const providerNames = ['responses', 'assistants'] as const
export type ProviderName = (typeof providerNames)[number]
