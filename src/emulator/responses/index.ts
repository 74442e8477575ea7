import type { Context, HistoryEntry } from '../context.ts'
import type { Route } from '../router.ts'
import { conversationRoutes } from './conversations.ts'
import { itemText } from './input.ts'
import { itemRoutes } from './items.ts'
import { responseRoutes } from './responses.ts'
import type { ResponsesState } from './state.ts'

/** The Conversations and Responses surface: its routes, and what its conversations hold. */
export function responsesSurface(context: Context): {
  routes: Route[]
  history: (conversationId: string) => HistoryEntry[] | undefined
} {
  const state: ResponsesState = { conversations: new Map(), responses: new Map() }
  return {
    routes: [...conversationRoutes(state), ...itemRoutes(state), ...responseRoutes(context, state)],
    history: (conversationId) => {
      const conversation = state.conversations.get(conversationId)
      return conversation?.items.flatMap((item) => {
        if (item.type !== 'message') return []
        const runId = conversation.origins.get(item.id) ?? null
        const text = itemText(item.content)
        return [{ id: item.id, role: item.role, text, metadata: {}, runId }]
      })
    },
  }
}
