import type { OpenAI } from 'openai'
import type { ConversationItem } from 'openai/resources/conversations/items'
import type { ResponseInputItem } from 'openai/resources/responses/responses'
import type { NamelessRun } from '../model/run.ts'
import { repeatable } from './client.ts'
import type { CallOptions, Trace } from './provider.ts'
import { openCallsAmong } from './responses-calls.ts'
import { isSameItem } from './responses-input.ts'

/**
 * What stands in a conversation after an item of a response whose id was lost. Its input and its output
 * come together, once it is complete, and do not name it: what it wrote is what stands directly
 * after its input (without any: directly after the item), up to the next input of anybody. The
 * run that this makes is over, and its id and usage are unknown.
 */
export async function findAnswer(
  client: OpenAI,
  conversationId: string,
  after: string | null,
  input: readonly ResponseInputItem[],
  options: CallOptions,
): Promise<Trace> {
  const query = { order: 'asc', limit: 100, ...(after !== null && { after }) } as const
  const items: ConversationItem[] = []
  const list = client.conversations.items.list(conversationId, query, repeatable(options))
  for await (const item of list) items.push(item)

  const starts = startsOf(items, input)
  const [start] = starts
  if (start === undefined) return { found: 'nothing' }
  if (starts.length > 1) return { found: 'ambiguous' }
  const messageId = input.length > 0 ? (items[start]?.id as string) : null
  const rest = items.slice(start + input.length)
  const end = rest.findIndex(isInput)
  const output = end < 0 ? rest : rest.slice(0, end)
  if (output.length > 0) return { found: 'run', run: toNamelessRun(output), messageId }
  if (messageId !== null) return { found: 'message', messageId }
  // Somebody has said something and got an answer, which may be to us.
  return rest.some((item) => !isInput(item)) ? { found: 'ambiguous' } : { found: 'nothing' }
}

/** Where the input stands; without any, its place is the beginning. */
function startsOf(items: ConversationItem[], input: readonly ResponseInputItem[]): number[] {
  const [first, ...others] = input
  if (first === undefined) return [0]
  return items.flatMap((item, index) => {
    const next = items.slice(index + 1, index + input.length)
    const isWhole = next.length === others.length && next.every(isInput)
    return isSameItem(item, first) && isWhole ? [index] : []
  })
}

function toNamelessRun(output: ConversationItem[]): NamelessRun {
  const messages = output.filter((item) => item.type === 'message')
  const texts = messages.flatMap(({ content }) =>
    content.flatMap((part) => (part.type === 'output_text' ? [part.text] : [])),
  )
  const calls = openCallsAmong(output)
  const whole = messages.every(({ status }) => status !== 'incomplete')
  return {
    id: null,
    status: calls.length > 0 ? 'requires_action' : whole ? 'completed' : 'incomplete',
    model: null,
    incomplete_reason: null,
    error: null,
    usage: null,
    text: texts.length === 0 ? null : texts.join('\n'),
    tool_calls: calls,
    last_item_id: output.at(-1)?.id ?? null,
  }
}

/** What only a caller writes; the output of a hosted shell is the provider's own. */
const inputTypes = [
  'function_call_output',
  'custom_tool_call_output',
  'computer_call_output',
  'local_shell_call_output',
  'apply_patch_call_output',
  'mcp_approval_response',
]

const isInput = (item: ConversationItem): boolean =>
  item.type === 'message' ? item.role !== 'assistant' : inputTypes.includes(item.type)
