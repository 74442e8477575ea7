import type { Context, Surface } from '../context.ts'
import { assistantRoutes } from './assistants.ts'
import { startForeignRun } from './foreign-run.ts'
import { messageRoutes, messageText } from './messages.ts'
import { runRoutes } from './runs.ts'
import type { AssistantsState } from './state.ts'
import { threadRoutes } from './threads.ts'

/** The Assistants v2 surface: its routes, and what its threads hold. */
export function assistantsSurface(context: Context): Surface {
  const state: AssistantsState = { assistants: new Map(), threads: new Map() }
  return {
    // Runs before threads: `/threads/runs` is no thread.
    routes: [
      ...assistantRoutes(state),
      ...runRoutes(context, state),
      ...threadRoutes(context, state),
      ...messageRoutes(context, state),
    ],
    threadOf: ({ thread_id }) => thread_id,
    foreignRun: (threadId, run) => {
      const thread = state.threads.get(threadId)
      return thread && startForeignRun(context, thread, run)
    },
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
