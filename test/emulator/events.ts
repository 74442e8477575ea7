export type NumberedEvent = { type: string; sequence_number: number }

/** All events of a Responses stream. */
export async function collect<E extends NumberedEvent>(stream: AsyncIterable<E>): Promise<E[]> {
  const events: E[] = []
  for await (const event of stream) events.push(event)
  return events
}

/** Their names in order, repeated ones once. */
export const namesOf = (events: readonly NumberedEvent[]): string[] =>
  events.map(({ type }) => type).filter((type, i, all) => type !== all[i - 1])
