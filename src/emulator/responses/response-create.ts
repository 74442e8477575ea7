import type { ResponsePrompt } from 'openai/resources/responses/responses'
import { z } from 'zod'
import { seconds } from '../clock.ts'
import type { Context } from '../context.ts'
import {
  missingInput,
  missingParameter,
  mutuallyExclusive,
  previousResponseNotFound,
} from '../errors.ts'
import { longId } from '../ids.ts'
import { checkId } from '../router.ts'
import { EventLog } from '../sse.ts'
import { integer, metadataSchema, parse } from '../validate.ts'
import { itemsSchema, refersToNothing, servedItems } from './input.ts'
import type { ServedResponse } from './objects.ts'
import { checkPairs } from './reasoning.ts'
import { work } from './response-lifecycle.ts'
import {
  type ConversationState,
  checkUnlocked,
  conversationOf,
  type ResponseState,
  type ResponsesState,
} from './state.ts'
import { checkCallsAnswered } from './tool-calls.ts'

const anyObject = z.looseObject({}).nullish()

const createBody = z.strictObject({
  model: z.string().nullish(),
  input: z.union([z.string(), itemsSchema]).nullish(),
  conversation: z.union([z.string(), z.strictObject({ id: z.string() })]).nullish(),
  previous_response_id: z.string().nullish(),
  prompt: z
    .strictObject({
      id: z.string(),
      version: z.string().nullish(),
      variables: z
        .custom<ResponsePrompt['variables']>((value) => typeof value === 'object')
        .nullish(),
    })
    .nullish(),
  instructions: z.string().nullish(),
  background: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  stream_options: anyObject,
  store: z.boolean().nullish(),
  metadata: metadataSchema,
  tools: z.array(z.looseObject({ type: z.string() })).nullish(),
  tool_choice: z
    .union([z.enum(['none', 'auto', 'required']), z.looseObject({ type: z.string() })])
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  max_output_tokens: integer().min(16).nullish(),
  max_tool_calls: integer().min(1).nullish(),
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  top_logprobs: integer().nullish(),
  truncation: z.enum(['auto', 'disabled']).nullish(),
  reasoning: anyObject,
  text: anyObject,
  include: z.array(z.string()).nullish(),
  context_management: z.array(z.looseObject({})).nullish(),
  prompt_cache_key: z.string().nullish(),
  prompt_cache_options: anyObject,
  prompt_cache_retention: z.enum(['in_memory', '24h']).nullish(),
  safety_identifier: z.string().nullish(),
  service_tier: z.string().nullish(),
  user: z.string().nullish(),
  moderation: anyObject,
  image: anyObject,
  access_programs: anyObject,
})
type CreateBody = z.infer<typeof createBody>

/** `POST /responses`: checks everything, locks the conversation, and sets to work. */
export function createResponse(
  context: Context,
  state: ResponsesState,
  body: unknown,
  foreignMs: number | null = null,
): ResponseState {
  const request = parse(createBody, body)
  const { previous_response_id: previousId, input } = request
  const conversationId =
    typeof request.conversation === 'string' ? request.conversation : request.conversation?.id
  if (previousId && conversationId) throw mutuallyExclusive('previous_response_id', 'conversation')
  if (conversationId) checkId('conversation_id', conversationId)
  if (!request.model && !request.prompt) throw missingParameter('model')
  if (input == null && !previousId && !conversationId && !request.prompt) throw missingInput()

  const conversation = conversationId ? conversationOf(state, conversationId) : null
  const given = typeof input === 'string' ? [{ role: 'user' as const, content: input }] : input
  if (conversation) checkUnlocked(conversation, refersToNothing(given ?? [], conversation.items))
  const before = conversation ? itemsNow(conversation) : chain(state, previousId)
  const items = servedItems(given ?? [], before())
  const all = [...before(), ...items]
  checkCallsAnswered(all)
  checkPairs(all)

  const created: ResponseState = {
    response: newResponse(context, request, conversation),
    conversation,
    before,
    input: items,
    log: request.stream ? new EventLog() : null,
    stop: new AbortController(),
    worked: Promise.resolve(),
    foreignMs,
  }
  // A background response can be read while it is kept at all, stored or not.
  if (created.response.store || created.response.background)
    state.responses.set(created.response.id, created)
  context.visibility.written('responses', [created.response], conversationId ?? null)
  if (conversation) conversation.active = created
  work(context, created)
  return created
}

/** The conversation as it stands now, without keeping a copy of it for every response. */
function itemsNow({ items }: ConversationState): ResponseState['before'] {
  const count = items.length
  return () => items.slice(0, count)
}

/** Everything said up to and including the response `id`. */
function chain(state: ResponsesState, id: string | null | undefined): ResponseState['before'] {
  if (!id) return () => []
  const previous = state.responses.get(id)
  if (!previous) throw previousResponseNotFound(id)
  return () => [...previous.before(), ...previous.input, ...previous.response.output]
}

function newResponse(
  { settings }: Context,
  body: CreateBody,
  conversation: ConversationState | null,
): ServedResponse {
  const background = body.background ?? false
  return {
    id: longId('resp'),
    object: 'response',
    created_at: seconds(),
    status: background ? 'queued' : 'in_progress',
    background,
    completed_at: null,
    ...(conversation && { conversation: { id: conversation.conversation.id } }),
    error: null,
    frequency_penalty: 0,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    model: body.model ?? settings.defaultModel,
    moderation: null,
    output: [],
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    presence_penalty: 0,
    previous_response_id: body.previous_response_id ?? null,
    ...(body.prompt && { prompt: { version: null, variables: null, ...body.prompt } }),
    prompt_cache_key: body.prompt_cache_key ?? null,
    prompt_cache_retention: body.prompt_cache_retention ?? null,
    reasoning: { effort: null, summary: null, ...body.reasoning },
    safety_identifier: body.safety_identifier ?? null,
    service_tier: 'auto',
    store: body.store ?? true,
    temperature: body.temperature ?? 1,
    text: { format: { type: 'text' }, verbosity: 'medium', ...body.text },
    // Passed on as given, like the tools.
    tool_choice: (body.tool_choice ?? 'auto') as ServedResponse['tool_choice'],
    tools: (body.tools ?? []).map((tool) =>
      tool.type === 'function' ? { strict: true, ...tool } : tool,
    ) as ServedResponse['tools'],
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? 1,
    truncation: body.truncation ?? 'disabled',
    usage: null,
    user: body.user ?? null,
    metadata: body.metadata ?? {},
  }
}
