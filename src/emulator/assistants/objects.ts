import type { Assistant } from 'openai/resources/beta/assistants'
import type { Message } from 'openai/resources/beta/threads/messages'
import type { Run } from 'openai/resources/beta/threads/runs/runs'
import type { RunStep } from 'openai/resources/beta/threads/runs/steps'
import type { Thread } from 'openai/resources/beta/threads/threads'

/*
 * The SDK's types, but for the few places where recorded answers differ from them: a run has more
 * fields and its instructions may be null, a step has `expires_at` instead of `expired_at` and
 * `metadata`, usage has details.
 */

type UsageDetails = {
  prompt_token_details: { cached_tokens: number }
  completion_tokens_details: { reasoning_tokens: number }
}
export type ServedUsage = Run.Usage & UsageDetails

export type ServedAssistant = Assistant & { reasoning_effort: string | null }
export type ServedThread = Thread
export type ServedRun = Omit<Run, 'instructions' | 'usage'> & {
  instructions: string | null
  usage: ServedUsage | null
  tool_resources: object
  reasoning_effort: string | null
}
export type ServedStep = Omit<RunStep, 'expired_at' | 'metadata' | 'usage'> & {
  expires_at: number | null
  usage: ServedUsage | null
}

/** A finished message comes without its status by REST; in events, and while unfinished, it has one. */
export function restMessage(message: Message): Partial<Message> {
  if (message.status !== 'completed') return message
  const { status, incomplete_details, incomplete_at, completed_at, ...rest } = message
  return rest
}

export const usageOf = (prompt: number, completion: number): ServedUsage => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
  prompt_token_details: { cached_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0 },
})
