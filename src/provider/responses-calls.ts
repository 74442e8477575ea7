import type { OpenAI } from 'openai'
import type { AnsweredCall, ToolCall } from '../model/run.ts'
import { once, repeatable } from './client.ts'
import type { CallOptions } from './provider.ts'
import { outputItem } from './responses-outputs.ts'

type Item = { type: string; id?: string | null; call_id?: string | null }
type Asked = Item & { name?: string; arguments?: string; input?: string; status?: unknown }

/**
 * The calls among these items, in any order, that no item of theirs answers. A call is an item of a
 * type `…_call` that has a `call_id`; those that the provider carries out itself have none.
 */
export function openCallsAmong(items: readonly Item[]): ToolCall[] {
  const answered = new Set(items.filter(isOutput).map(answeredId))
  return items.filter((item) => isCall(item) && !answered.has(item.call_id)).map(toCall)
}

const isCall = ({ type, call_id }: Item) => type.endsWith('_call') && call_id != null
const isOutput = ({ type }: Item) => type.endsWith('_output')
/** `local_shell_call_output` has the id of its call as its own. */
const answeredId = ({ call_id, id }: Item) => call_id ?? id

/** What is neither a function nor a custom tool has fields of its own to say what it wants. */
function toCall({ type, id, call_id, status, name = type, ...said }: Asked): ToolCall {
  const wanted = said.arguments ?? said.input ?? JSON.stringify(said)
  return { type, call_id: call_id as string, name, arguments: wanted }
}

/** Reads the conversation from its end, as far back as `calls` stand; for null, all of it. */
export async function openCalls(
  client: OpenAI,
  conversationId: string,
  calls: readonly ToolCall[] | null,
  options: CallOptions,
): Promise<ToolCall[]> {
  if (calls?.length === 0) return []
  const meant = calls && new Set(calls.map(({ call_id }) => call_id))
  const read: Item[] = []
  let unseen = calls?.length
  const query = { order: 'desc', limit: 100 } as const
  const items = client.conversations.items.list(conversationId, query, repeatable(options))
  for await (const item of items) {
    read.push(item)
    // Nothing before the call can answer it.
    if (unseen !== undefined && isCall(item) && meant?.has((item as Item).call_id as string))
      unseen -= 1
    if (unseen === 0) break
  }
  if (calls === null) return openCallsAmong(read).reverse()
  const answered = new Set(read.filter(isOutput).map(answeredId))
  return calls.filter(({ call_id }) => !answered.has(call_id))
}

/** One call of the API takes 20 items at most. */
export async function answerCalls(
  client: OpenAI,
  conversationId: string,
  calls: readonly AnsweredCall[],
  options: CallOptions,
): Promise<{ id: string }> {
  const { last_id } = await client.conversations.items.create(
    conversationId,
    { items: calls.map(outputItem) },
    once(options),
  )
  return { id: last_id }
}
