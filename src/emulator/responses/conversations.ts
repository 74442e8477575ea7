import type { ConversationDeletedResource } from 'openai/resources/conversations/conversations'
import { z } from 'zod'
import { seconds } from '../clock.ts'
import type { Context } from '../context.ts'
import { withIdNotFound } from '../errors.ts'
import { longId } from '../ids.ts'
import { type Route, route } from '../router.ts'
import { metadataSchema, parse } from '../validate.ts'
import { itemsSchema, itemText, servedItems } from './input.ts'
import { append, type ConversationState, conversationOf, type ResponsesState } from './state.ts'

const createBody = z.strictObject({
  metadata: metadataSchema,
  items: itemsSchema.max(20).nullish(),
})
const updateBody = z.strictObject({ metadata: metadataSchema })

export function conversationRoutes(context: Context, state: ResponsesState): Route[] {
  return [
    route('POST', '/conversations', ({ body }) => {
      const { metadata, items } = parse(createBody, body)
      const conversation = {
        id: longId('conv'),
        object: 'conversation' as const,
        created_at: seconds(),
        metadata: metadata ?? {},
      }
      const created: ConversationState = {
        conversation,
        items: [],
        origins: new Map(),
        active: null,
        lockedUntil: 0,
      }
      append(context, created, servedItems(items ?? [], []), null)
      state.conversations.set(conversation.id, created)
      context.visibility.written('conversations', [conversation], conversation.id)
      return { body: conversation }
    }),
    route('GET', '/conversations/:conversation_id', ({ params, sees }) => {
      const { conversation } = conversationOf(state, params.conversation_id)
      if (!sees(conversation)) throw withIdNotFound('Conversation', conversation.id)
      return { body: conversation }
    }),
    route('POST', '/conversations/:conversation_id', ({ params, body }) => {
      const { metadata } = parse(updateBody, body)
      const { conversation } = conversationOf(state, params.conversation_id)
      conversation.metadata = metadata ?? conversation.metadata
      return { body: conversation }
    }),
    // Goes even while a response is active: no refusal of it was ever reported. Its items stay.
    route('DELETE', '/conversations/:conversation_id', ({ params }) => {
      const { conversation, items } = conversationOf(state, params.conversation_id)
      const { id } = conversation
      for (const item of items) {
        const text = item.type === 'message' ? itemText(item.content) : null
        context.keptItems.push({ conversation: id, id: item.id, type: item.type, text })
      }
      state.conversations.delete(id)
      return {
        body: {
          id,
          object: 'conversation.deleted',
          deleted: true,
        } satisfies ConversationDeletedResource,
      }
    }),
  ]
}
