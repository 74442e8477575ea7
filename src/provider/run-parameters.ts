import type { RunCreateParamsBase } from 'openai/resources/beta/threads/runs/runs'
import type { ResponseCreateParamsBase } from 'openai/resources/responses/responses'
import type { ProviderName } from '../model/thread.ts'
import type { RunParameters } from './provider.ts'
import { unsupported } from './provider-error.ts'

/** What inturn decides itself for every run, on both wires. */
export const ownedParameters = [
  'thread_id',
  'conversation',
  'previous_response_id',
  'background',
  'stream',
  'stream_options',
  'store',
] as const
type Owned = (typeof ownedParameters)[number]

export type AssistantsParameter = Exclude<keyof RunCreateParamsBase, Owned>
export type ResponsesParameter = Exclude<keyof ResponseCreateParamsBase, Owned>

// Every parameter with its name on the other wire, null where that has no such thing. The types
// make an update of the SDK that adds or drops a parameter fail to compile.
const assistants: Record<AssistantsParameter, ResponsesParameter | null> = {
  additional_instructions: 'instructions',
  additional_messages: 'input',
  assistant_id: 'prompt',
  include: 'include',
  instructions: 'instructions',
  max_completion_tokens: 'max_output_tokens',
  max_prompt_tokens: 'context_management',
  metadata: 'metadata',
  model: 'model',
  parallel_tool_calls: 'parallel_tool_calls',
  reasoning_effort: 'reasoning',
  response_format: 'text',
  temperature: 'temperature',
  tool_choice: 'tool_choice',
  tools: 'tools',
  top_p: 'top_p',
  truncation_strategy: 'truncation',
}

const responses: Record<ResponsesParameter, AssistantsParameter | null> = {
  access_programs: null,
  context_management: 'truncation_strategy',
  image: null,
  include: 'include',
  input: 'additional_messages',
  instructions: 'instructions',
  max_output_tokens: 'max_completion_tokens',
  max_tool_calls: null,
  metadata: 'metadata',
  model: 'model',
  moderation: null,
  parallel_tool_calls: 'parallel_tool_calls',
  prompt: 'assistant_id',
  prompt_cache_key: null,
  prompt_cache_options: null,
  prompt_cache_retention: null,
  reasoning: 'reasoning_effort',
  safety_identifier: null,
  service_tier: null,
  temperature: 'temperature',
  text: 'response_format',
  tool_choice: 'tool_choice',
  tools: 'tools',
  top_logprobs: null,
  top_p: 'top_p',
  truncation: 'truncation_strategy',
  user: null,
}

const tables: Record<ProviderName, Record<string, string | null>> = { assistants, responses }
const other: Record<ProviderName, ProviderName> = {
  assistants: 'responses',
  responses: 'assistants',
}

/** The run parameters that each provider takes, in its own names. */
export const runParameters = {
  assistants: Object.keys(assistants) as AssistantsParameter[],
  responses: Object.keys(responses) as ResponsesParameter[],
}

/**
 * The body of a run as the provider takes it: the parameters, then `provider_options` over them, and
 * `tag` beside the caller's metadata. Refuses what belongs to the other provider or to inturn.
 */
export function runBody(
  provider: ProviderName,
  { provider_options, ...parameters }: RunParameters,
  tag: string,
): Record<string, unknown> {
  for (const name of Object.keys(parameters)) refuseForeign(provider, name)
  const options = (provider_options ?? {}) as Record<string, unknown>
  for (const name of Object.keys(options)) refuseOwned(name)
  const body = { ...parameters, ...options }
  return { ...body, metadata: tagged(body.metadata, tag) }
}

/** The model that a run with these parameters names; null: its assistant or prompt decides. */
export function modelOf({ model, provider_options }: RunParameters): string | null {
  const { model: instead = model } = (provider_options ?? {}) as { model?: unknown }
  return typeof instead === 'string' ? instead : null
}

/** The caller's metadata with the id of our operation, by which we find its messages and runs again. */
export function tagged(metadata: unknown, tag: string): Record<string, string> {
  return { ...(metadata as Record<string, string> | undefined), inturn_operation: tag }
}

/** Whose a message or run is, by its metadata; null: not ours. */
export function tagOf(metadata: unknown): string | null {
  return (metadata as Record<string, string> | null)?.inturn_operation ?? null
}

function refuseOwned(name: string): void {
  if ((ownedParameters as readonly string[]).includes(name))
    throw unsupported(`"${name}" is set by inturn itself: leave it out.`)
}

function refuseForeign(provider: ProviderName, name: string): void {
  refuseOwned(name)
  if (Object.hasOwn(tables[provider], name)) return
  const foreign = tables[other[provider]]
  if (!Object.hasOwn(foreign, name))
    throw unsupported(
      `The provider "${provider}" has no run parameter "${name}" that inturn knows: to pass it on as it is, put it into "provider_options".`,
    )
  const equivalent = foreign[name]
  const instead = equivalent ? `use "${equivalent}" instead` : 'leave it out'
  throw unsupported(
    `"${name}" belongs to the provider "${other[provider]}"; on "${provider}" ${instead}.`,
  )
}
