import type { ProviderName } from '../model/thread.ts'
import type { Profile } from './provider.ts'

/** What the two kinds of server can do; `settleMs` are defaults that settings override. */
export const profiles: Record<ProviderName, Profile> = {
  responses: {
    locks: true,
    // Input and output join the conversation together, once the response is complete.
    runCarriesMessage: true,
    // Items have no metadata, and responses that have it cannot be listed.
    tags: false,
    callsStayOpen: true,
    outputsWithinMs: null,
    messagesPerCall: 20,
    tiesBySecond: false,
    // "Items in the conversation will not be deleted", says the API's description of the deletion.
    itemsOutliveThread: true,
    messagesPerThread: null,
    // Responses were seen to stay unreadable for up to 33 s after they were complete.
    settleMs: 60_000,
  },
  assistants: {
    locks: true,
    // `additional_messages` would do it, but nobody says what becomes of them when the run is refused.
    runCarriesMessage: false,
    tags: true,
    callsStayOpen: false,
    // Ten minutes after its start the run expires.
    outputsWithinMs: 540_000,
    messagesPerCall: 1,
    tiesBySecond: true,
    itemsOutliveThread: false,
    messagesPerThread: 100_000,
    settleMs: 60_000,
  },
}
