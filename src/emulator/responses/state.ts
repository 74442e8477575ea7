import type { Conversation } from 'openai/resources/conversations/conversations'
import { conversationLocked, withIdNotFound } from '../errors.ts'
import type { EventLog } from '../sse.ts'
import type { Item, ServedResponse } from './objects.ts'

export type ConversationState = {
  conversation: Conversation
  /** Oldest first. Items are only ever appended to an array; a deletion makes a new one. */
  items: Item[]
  /** Which response brought or wrote an item; items that a caller added are not in it. */
  origins: Map<string, string>
  /** The response being worked on; it locks the conversation. */
  active: ResponseState | null
}

export type ResponseState = {
  response: ServedResponse
  conversation: ConversationState | null
  /** What stood before the input: the conversation, or the chain of previous responses. */
  before: () => readonly Item[]
  input: readonly Item[]
  /** The stream, kept for replay when it is a background one; null when nobody asked for one. */
  log: EventLog | null
  stop: AbortController
  /** Settles when the response is over. */
  worked: Promise<void>
}

export type ResponsesState = {
  conversations: Map<string, ConversationState>
  responses: Map<string, ResponseState>
}

export function conversationOf(state: ResponsesState, id = ''): ConversationState {
  const found = state.conversations.get(id)
  if (!found) throw withIdNotFound('Conversation', id)
  return found
}

export function responseOf(state: ResponsesState, id = ''): ResponseState {
  const found = state.responses.get(id)
  if (!found) throw withIdNotFound('Response', id)
  return found
}

/** Refuses what would change a conversation that a response is working on. */
export function checkUnlocked({ active }: ConversationState): void {
  if (active) throw conversationLocked()
}
