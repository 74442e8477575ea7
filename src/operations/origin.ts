/** By which pair the metadata of a provider thread says what it was copied from. */
const origins = ['previous_thread', 'forked_from', 'restored_from'] as const
export type Origin = (typeof origins)[number]

/** Most pairs that a provider thread can have. */
const mostPairs = 16

/** A thread's own metadata, without what inturn has added at the provider. */
export const ownMetadata = (metadata: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(metadata).filter(([name]) => !(origins as readonly string[]).includes(name)),
  )

/** With the pair of ours; a sixteenth of an adopted thread's own makes room for it. */
export const withOrigin = (
  own: Record<string, string>,
  origin: Origin,
  id: string,
): Record<string, string> => ({
  ...Object.fromEntries(Object.entries(own).slice(0, mostPairs - 1)),
  [origin]: id,
})
