import type { OpenAI } from 'openai'
import type { ConversationItem } from 'openai/resources/conversations/items'
import type { ResponseInputItem } from 'openai/resources/responses/responses'
import type { ItemPage, StoredItem } from '../model/stored-item.ts'
import { once, repeatable, unlessGone } from './client.ts'
import { copyable } from './copyable.ts'
import type { CallOptions } from './provider.ts'
import { ProviderError } from './provider-error.ts'

type Part = Record<string, unknown>

/** One page of a conversation, 100 items, oldest first. */
export async function listItems(
  { conversations }: OpenAI,
  conversation: string,
  after: string | null,
  options: CallOptions,
): Promise<ItemPage> {
  const query = { order: 'asc', limit: 100, ...(after !== null && { after }) } as const
  const page = await conversations.items.list(conversation, query, repeatable(options))
  return { items: page.data.map(toStored), isMore: page.has_more }
}

/** Adds up to 20 items in one call; gives their ids. */
export async function addItems(
  { conversations }: OpenAI,
  conversation: string,
  items: ResponseInputItem[],
  options: CallOptions,
): Promise<string[]> {
  const { data } = await conversations.items.create(conversation, { items }, once(options))
  if (data.length !== items.length)
    throw new ProviderError({
      code: 'provider_error',
      message: `The provider told ${data.length} ids for ${items.length} items.`,
      decision: 'reconcile',
      sent: true,
    })
  return data.map(({ id }) => id as string)
}

/** As `addItems`, copies of what stands elsewhere. */
export function copyItems(
  client: OpenAI,
  conversation: string,
  items: readonly StoredItem[],
  options: CallOptions,
): Promise<string[]> {
  const copies = items.map((item) => {
    const { kind, body } = copyable(item, 'responses') ?? {}
    return kind === 'message' ? { type: 'message', ...body } : body
  })
  return addItems(client, conversation, copies as unknown as ResponseInputItem[], options)
}

/** Gone is gone: a repetition is told 404. */
export async function deleteConversationItem(
  { conversations }: OpenAI,
  conversation: string,
  item: string,
  options: CallOptions,
): Promise<void> {
  const path = { conversation_id: conversation }
  await conversations.items.delete(item, path, repeatable(options)).catch(unlessGone)
}

export async function deleteConversation(
  { conversations }: OpenAI,
  conversation: string,
  options: CallOptions,
): Promise<void> {
  await conversations.delete(conversation, repeatable(options)).catch(unlessGone)
}

function toStored(item: ConversationItem): StoredItem {
  const whole = item as unknown as Part
  const parts = item.type === 'message' ? (item.content as unknown as Part[]) : null
  const texts = (parts ?? []).flatMap(({ text, refusal }) =>
    [text, refusal].filter((said) => typeof said === 'string'),
  )
  return {
    id: item.id as string,
    type: item.type,
    role: item.type === 'message' ? item.role : null,
    text: texts.length > 0 ? texts.join('\n') : null,
    content: parts,
    attachments: (parts ?? []).flatMap(({ file_id }) =>
      typeof file_id === 'string' ? [file_id] : [],
    ),
    run_id: null,
    metadata: null,
    said_at: null,
    item: whole,
  }
}
