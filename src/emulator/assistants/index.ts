import type { Context, HistoryEntry } from '../context.ts'
import type { Route } from '../router.ts'
import { assistantRoutes } from './assistants.ts'
import { messageRoutes, messageText } from './messages.ts'
import { runRoutes } from './runs.ts'
import type { AssistantsState } from './state.ts'
import { threadRoutes } from './threads.ts'

/** The Assistants v2 surface: its routes, and what its threads hold. */
export function assistantsSurface(context: Context): {
  routes: Route[]
  history: (threadId: string) => HistoryEntry[] | undefined
} {
  const state: AssistantsState = { assistants: new Map(), threads: new Map() }
  return {
    // Runs before threads: `/threads/runs` is no thread.
    routes: [
      ...assistantRoutes(state),
      ...runRoutes(context, state),
      ...threadRoutes(state),
      ...messageRoutes(state),
    ],
    history: (threadId) =>
      state.threads.get(threadId)?.messages.map((message) => ({
        id: message.id,
        role: message.role,
        text: messageText(message),
        metadata: { ...message.metadata },
        runId: message.run_id,
      })),
  }
}
