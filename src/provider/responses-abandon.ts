import type { OpenAI } from 'openai'
import type { NamelessRun, Run, ToolCall } from '../model/run.ts'
import { attempt, once, repeatable } from './client.ts'
import { ProviderError } from './provider-error.ts'
import { type Follow, followResponse } from './responses-run.ts'

/**
 * Stops a response and answers its calls with an error: a conversation that holds an unanswered
 * call refuses every later response (`No tool output found for function call …`).
 */
export async function abandonResponse(
  client: OpenAI,
  conversationId: string,
  run: Run | NamelessRun,
  options: Follow,
): Promise<void> {
  const { id, status } = run
  const isOver = status === 'requires_action' || id === null
  const { tool_calls } = isOver ? run : await cancel(client, id, options)
  if (tool_calls.length === 0) return
  await attempt('responses', options, async () => {
    const items = (await unanswered(client, conversationId, tool_calls, options)).map(errorOutput)
    for (let start = 0; start < items.length; start += itemsPerCall) {
      const some = items.slice(start, start + itemsPerCall)
      await client.conversations.items.create(conversationId, { items: some }, once(options))
    }
  })
}

const itemsPerCall = 20

const errorOutput = (call_id: string) =>
  ({
    type: 'function_call_output',
    call_id,
    output: JSON.stringify({ error: 'The run was abandoned before this call was answered.' }),
  }) as const

/** Cancels a response and waits until it is over, however it ended. */
async function cancel(client: OpenAI, id: string, options: Follow): Promise<Run> {
  try {
    await attempt('responses', options, () => client.responses.cancel(id, repeatable(options)))
  } catch (error) {
    // Over already.
    if (!(error instanceof ProviderError && error.code === 'run_not_cancellable')) throw error
  }
  return followResponse(client, id, options)
}

/** The calls that have no output in the conversation yet; reads it from its end as far as needed. */
async function unanswered(
  client: OpenAI,
  conversationId: string,
  calls: readonly ToolCall[],
  options: Follow,
): Promise<string[]> {
  const open = new Set(calls.map(({ call_id }) => call_id))
  let unseen = calls.length
  const query = { order: 'desc', limit: 100 } as const
  const items = client.conversations.items.list(conversationId, query, repeatable(options))
  for await (const item of items) {
    if (item.type === 'function_call_output' && item.call_id) open.delete(item.call_id)
    // Nothing before the call can answer it.
    if (item.type === 'function_call' && calls.some(({ call_id }) => call_id === item.call_id))
      unseen -= 1
    if (unseen === 0) break
  }
  return [...open]
}
