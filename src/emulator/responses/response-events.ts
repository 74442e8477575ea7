import type { ServedEvent } from './objects.ts'
import type { ResponseState } from './state.ts'

/** Adds an event to the stream, if there is one, under the next sequence number (from 0). */
export function emit({ log }: ResponseState, event: ServedEvent): void {
  log?.push(event.type, { ...event, sequence_number: log.length })
}
