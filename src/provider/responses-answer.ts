import type { OpenAI } from 'openai'
import type { ConversationItem } from 'openai/resources/conversations/items'
import type { NamelessRun } from '../model/run.ts'
import { repeatable } from './client.ts'
import type { CallOptions } from './provider.ts'

/**
 * The run whose output stands after an item. Items do not name their response and reach the
 * conversation all at once when it is complete, so this run is over and its id and usage are unknown.
 */
export async function findAnswer(
  client: OpenAI,
  conversationId: string,
  after: string | null,
  options: CallOptions,
): Promise<NamelessRun | null> {
  const query = { order: 'asc', limit: 100, ...(after !== null && { after }) } as const
  const output: ConversationItem[] = []
  for await (const item of client.conversations.items.list(
    conversationId,
    query,
    repeatable(options),
  ))
    if (!isInput(item)) output.push(item)
  if (output.length === 0) return null

  const messages = output.filter((item) => item.type === 'message')
  const texts = messages.flatMap(({ content }) =>
    content.flatMap((part) => (part.type === 'output_text' ? [part.text] : [])),
  )
  const calls = output.filter((item) => item.type === 'function_call')
  const whole = messages.every(({ status }) => status !== 'incomplete')
  return {
    id: null,
    status: calls.length > 0 ? 'requires_action' : whole ? 'completed' : 'incomplete',
    model: null,
    incomplete_reason: null,
    error: null,
    usage: null,
    text: texts.length === 0 ? null : texts.join('\n'),
    tool_calls: calls.map(({ call_id, name, arguments: args }) => ({
      call_id,
      name,
      arguments: args,
    })),
    last_item_id: output.at(-1)?.id ?? null,
  }
}

function isInput(item: ConversationItem): boolean {
  if (item.type === 'message') return item.role !== 'assistant'
  return item.type.endsWith('_output') || item.type === 'mcp_approval_response'
}
