import type { Conversation } from 'openai/resources/conversations/conversations'
import type { ConflictCause } from '../api-error.ts'
import type { Context } from '../context.ts'
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
  /** When a lock that outlives its response ends, on the clock of `performance.now()`; 0 when none does. */
  lockedUntil: number
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
  /** How long an outsider's response takes; null when a request created it. */
  foreignMs: number | null
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

/** Refuses what would change a conversation that a response is working on; `probe` as in `Conflict`. */
export function checkUnlocked({ active, lockedUntil }: ConversationState, probe = false): void {
  if (active) {
    const cause: ConflictCause = active.foreignMs === null ? 'own_run' : 'foreign_run'
    throw conversationLocked({ cause, runId: active.response.id }, probe)
  }
  if (lockedUntil > performance.now())
    throw conversationLocked({ cause: 'lingering_lock', runId: null }, probe)
}

/** Adds to the end. `responseId` is what brought the items along or wrote them. */
export function append(
  { visibility }: Context,
  { conversation, items, origins }: ConversationState,
  added: readonly Item[],
  responseId: string | null,
): void {
  items.push(...added)
  if (responseId !== null) for (const item of added) origins.set(item.id, responseId)
  visibility.written('items', added, conversation.id)
}
