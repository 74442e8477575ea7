import type { Context, Surface } from '../context.ts'
import { conversationRoutes } from './conversations.ts'
import { startForeignResponse } from './foreign-response.ts'
import { itemText } from './input.ts'
import { itemRoutes } from './items.ts'
import { responseRoutes } from './responses.ts'
import type { ResponsesState } from './state.ts'

/** The Conversations and Responses surface: its routes, and what its conversations hold. */
export function responsesSurface(context: Context): Surface {
  const state: ResponsesState = { conversations: new Map(), responses: new Map() }
  return {
    routes: [
      ...conversationRoutes(context, state),
      ...itemRoutes(context, state),
      ...responseRoutes(context, state),
    ],
    threadOf: ({ conversation_id, response_id = '' }, body) => {
      const { conversation } = body as { conversation?: string | { id?: string } | null }
      const named = typeof conversation === 'string' ? conversation : conversation?.id
      const own = state.responses.get(response_id)?.conversation?.conversation.id
      return conversation_id ?? named ?? own
    },
    foreignRun: (conversationId, run) =>
      state.conversations.has(conversationId)
        ? startForeignResponse(context, state, conversationId, run)
        : undefined,
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
