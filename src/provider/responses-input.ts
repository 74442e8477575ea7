import type { ConversationItem } from 'openai/resources/conversations/items'
import type { ResponseInputItem } from 'openai/resources/responses/responses'
import type { MessageInput } from '../model/message.ts'
import { unsupported } from './provider-error.ts'

type Part = Record<string, unknown>
type Role = 'user' | 'assistant' | 'system' | 'developer'

/** A message as an item of a conversation. */
export function toItem(message: MessageInput): ResponseInputItem {
  const { role, content } = read(message)
  return { type: 'message', role, content } as ResponseInputItem
}

/** All input of a run: its messages first, then what the caller gives as `input`. */
export function toInput(messages: readonly MessageInput[], input: unknown): ResponseInputItem[] {
  const items = typeof input === 'string' ? [toItem(input)] : ((input ?? []) as ResponseInputItem[])
  return [...messages.map(toItem), ...items]
}

/** Whether an item is this message. Items carry no mark of ours. */
export const isSameMessage = (item: ConversationItem, message: MessageInput): boolean =>
  isSameItem(item, toItem(message))

/**
 * Whether an item is what this input has become. Of a message, role and text decide; of parts that are
 * not text, which the provider may rewrite, only the type. Of anything else, type and `call_id`.
 */
export function isSameItem(item: ConversationItem, input: ResponseInputItem): boolean {
  if (!('role' in input)) {
    const { type, call_id } = input as { type?: string; call_id?: string }
    return item.type === type && (item as { call_id?: string }).call_id === call_id
  }
  if (item.type !== 'message') return false
  const { role, content } = input as { role: Role; content: string | Part[] }
  const parts = typeof content === 'string' ? [{ text: content }] : content
  if (item.role !== role || item.content.length !== parts.length) return false
  return parts.every((part: Part, index) => {
    const given = item.content[index] as unknown as Part
    return 'text' in part ? part.text === given.text : part.type === given.type
  })
}

function read(message: MessageInput): { role: Role; content: string | Part[] } {
  if (typeof message === 'string') return { role: 'user', content: message }
  const { role = 'user', content, attachments, metadata } = message
  if (attachments?.length)
    throw unsupported(
      'The provider "responses" has no "attachments": put each file into "content", as {"type": "input_file", "file_id": "…"}.',
    )
  if (metadata && Object.keys(metadata).length > 0)
    throw unsupported(
      'Messages of the provider "responses" carry no "metadata": put it on the run or on the thread.',
    )
  return { role, content: typeof content === 'string' ? content : content.map(toPart(role)) }
}

/** Text in the Assistants' spelling becomes text in this one; other parts go as they are. */
const toPart =
  (role: Role) =>
  (part: Part): Part =>
    part.type === 'text'
      ? { ...part, type: role === 'assistant' ? 'output_text' : 'input_text' }
      : part
