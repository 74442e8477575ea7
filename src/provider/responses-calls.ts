import type { OpenAI } from 'openai'
import type { ToolCall } from '../model/run.ts'
import { once, repeatable } from './client.ts'
import type { CallOptions } from './provider.ts'
import { ProviderError } from './provider-error.ts'

type Item = { type: string; id?: string | null; call_id?: string | null }

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

function toCall(item: Item): ToolCall {
  const { type, call_id, name = type, ...said } = item as Item & Record<string, string | undefined>
  return { type, call_id: call_id as string, name, arguments: said.arguments ?? said.input ?? '' }
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

const problem = JSON.stringify({ error: 'The run was abandoned before this call was answered.' })

/** An error as the output of a call, in the shape of its type. */
const errorOutputs: Record<string, (callId: string) => object> = {
  function_call: (call_id) => ({ type: 'function_call_output', call_id, output: problem }),
  custom_tool_call: (call_id) => ({ type: 'custom_tool_call_output', call_id, output: problem }),
  local_shell_call: (id) => ({ type: 'local_shell_call_output', id, output: problem }),
  apply_patch_call: (call_id) => ({
    type: 'apply_patch_call_output',
    call_id,
    status: 'failed',
    output: problem,
  }),
  shell_call: (call_id) => ({
    type: 'shell_call_output',
    call_id,
    output: [{ stdout: '', stderr: problem, outcome: { type: 'exit', exit_code: 1 } }],
  }),
}

type ItemInput = Parameters<OpenAI['conversations']['items']['create']>[1]['items'][number]

/** One call of the API takes 20 items at most. */
export async function answerCalls(
  client: OpenAI,
  conversationId: string,
  calls: readonly ToolCall[],
  options: CallOptions,
): Promise<{ id: string }> {
  const items = calls.map(errorOutput)
  const { last_id } = await client.conversations.items.create(
    conversationId,
    { items },
    once(options),
  )
  return { id: last_id }
}

function errorOutput({ type, call_id }: ToolCall): ItemInput {
  const outputOf = errorOutputs[type]
  if (outputOf) return outputOf(call_id) as ItemInput
  // A screenshot, for one.
  throw new ProviderError({
    code: 'call_not_answerable',
    message: `The output of ${call_id} (${type}) cannot be an error: answer it at the provider.`,
    decision: 'park',
    sent: false,
  })
}
