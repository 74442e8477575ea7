/** The services that can hold a conversation, by the wire format they speak. */
export const providerNames = ['responses', 'assistants'] as const
export type ProviderName = (typeof providerNames)[number]

const shapes: Record<ProviderName, RegExp> = {
  responses: /^conv_[0-9a-f]{32,}$/,
  assistants: /^thread_[A-Za-z0-9]{24}$/,
}

/** Whose provider thread has an id of this shape; undefined: nobody's that is known. As provider_of in SQL. */
export const providerOfId = (id: string): ProviderName | undefined =>
  providerNames.find((name) => shapes[name].test(id))

export const isProviderThreadId = (id: string): boolean => providerOfId(id) !== undefined
