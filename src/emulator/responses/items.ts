import { z } from 'zod'
import type { Context } from '../context.ts'
import { withIdNotFound } from '../errors.ts'
import { paginate, wholeList } from '../paging.ts'
import { type Route, route } from '../router.ts'
import { parse } from '../validate.ts'
import { itemsSchema, servedItems } from './input.ts'
import type { Item } from './objects.ts'
import { append, checkUnlocked, conversationOf, type ResponsesState } from './state.ts'

const createBody = z.strictObject({ items: itemsSchema.max(20) })
const unknownItem = (id: string) => withIdNotFound('Item', id)

export function itemRoutes(context: Context, state: ResponsesState): Route[] {
  const itemOf = (params: Record<string, string>): Item => {
    const { conversation_id, item_id = '' } = params
    const found = conversationOf(state, conversation_id).items.find(({ id }) => id === item_id)
    if (!found) throw unknownItem(item_id)
    return found
  }
  const path = '/conversations/:conversation_id/items'
  return [
    route('POST', path, ({ params, body }) => {
      const { items } = parse(createBody, body)
      const conversation = conversationOf(state, params.conversation_id)
      checkUnlocked(conversation)
      const added = servedItems(items, conversation.items)
      append(context, conversation, added, null)
      return { body: wholeList(added) }
    }),
    route('GET', path, (request) => {
      const { items } = conversationOf(state, request.params.conversation_id)
      return { body: paginate(items, request, unknownItem) }
    }),
    route('GET', `${path}/:item_id`, ({ params, sees }) => {
      const item = itemOf(params)
      if (!sees(item)) throw unknownItem(item.id)
      return { body: item }
    }),
    // Answers with the conversation, not with the item.
    route('DELETE', `${path}/:item_id`, ({ params }) => {
      const conversation = conversationOf(state, params.conversation_id)
      checkUnlocked(conversation)
      const { id } = itemOf(params)
      conversation.items = conversation.items.filter((item) => item.id !== id)
      return { body: conversation.conversation }
    }),
  ]
}
