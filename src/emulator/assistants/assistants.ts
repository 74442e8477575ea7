import type { AssistantDeleted, AssistantTool } from 'openai/resources/beta/assistants'
import { z } from 'zod'
import { seconds } from '../clock.ts'
import { notFound } from '../errors.ts'
import { shortId } from '../ids.ts'
import type { Settings } from '../options.ts'
import { paginate } from '../paging.ts'
import { type Route, route } from '../router.ts'
import { metadataSchema, parse } from '../validate.ts'
import type { ServedAssistant } from './objects.ts'
import type { AssistantsState } from './state.ts'

export const toolsSchema = z
  .array(
    z.discriminatedUnion('type', [
      z.looseObject({ type: z.literal('code_interpreter') }),
      z.looseObject({ type: z.literal('file_search') }),
      z.looseObject({
        type: z.literal('function'),
        function: z.looseObject({
          name: z.string(),
          description: z.string().optional(),
          parameters: z.record(z.string(), z.unknown()).optional(),
          strict: z.boolean().nullish(),
        }),
      }),
    ]),
  )
  .nullish()

const fields = {
  name: z.string().max(256).nullish(),
  description: z.string().max(512).nullish(),
  instructions: z.string().max(256_000).nullish(),
  tools: toolsSchema,
  tool_resources: z.looseObject({}).nullish(),
  metadata: metadataSchema,
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  response_format: z.union([z.literal('auto'), z.looseObject({})]).nullish(),
  reasoning_effort: z.string().nullish(),
}
const createBody = z.strictObject({ model: z.string(), ...fields })
const updateBody = createBody.partial()

/** As the API gives them back: with every key of a function filled. */
export const normalTools = (tools: z.infer<typeof toolsSchema>): AssistantTool[] =>
  (tools ?? []).map((tool) => {
    if (tool.type !== 'function') return tool as AssistantTool
    const { name, description, parameters, strict } = tool.function
    return {
      type: 'function',
      function: {
        name,
        ...(description === undefined ? {} : { description }),
        parameters: parameters ?? { type: 'object', properties: {} },
        strict: strict ?? false,
      },
    }
  })

/** `input` with the defaults of the API. */
export function newAssistant(id: string, input: z.infer<typeof createBody>): ServedAssistant {
  return {
    id,
    object: 'assistant',
    created_at: seconds(),
    name: input.name ?? null,
    description: input.description ?? null,
    model: input.model,
    instructions: input.instructions ?? null,
    tools: normalTools(input.tools),
    top_p: input.top_p ?? 1,
    temperature: input.temperature ?? 1,
    reasoning_effort: input.reasoning_effort ?? null,
    tool_resources: input.tool_resources ?? {},
    metadata: input.metadata ?? {},
    response_format: (input.response_format ?? 'auto') as ServedAssistant['response_format'],
  }
}

/** The assistant a run names; with `anyAssistant` one that was never created has default settings. */
export function assistantOf(
  state: AssistantsState,
  settings: Settings,
  id: string,
): ServedAssistant {
  const found = state.assistants.get(id)
  if (found) return found
  if (settings.anyAssistant) return newAssistant(id, { model: settings.defaultModel })
  throw notFound('assistant', id)
}

export function assistantRoutes(state: AssistantsState): Route[] {
  const known = (id = ''): ServedAssistant => {
    const found = state.assistants.get(id)
    if (!found) throw notFound('assistant', id)
    return found
  }
  return [
    route('POST', '/assistants', ({ body }) => {
      const assistant = newAssistant(shortId('asst'), parse(createBody, body))
      state.assistants.set(assistant.id, assistant)
      return { body: assistant }
    }),
    route('GET', '/assistants', (request) => ({
      body: paginate([...state.assistants.values()], request, (id) => notFound('assistant', id)),
    })),
    route('GET', '/assistants/:assistant_id', ({ params }) => ({
      body: known(params.assistant_id),
    })),
    route('POST', '/assistants/:assistant_id', ({ params, body }) => {
      const assistant = known(params.assistant_id)
      const changes = parse(updateBody, body)
      const { tools, ...given } = Object.fromEntries(
        Object.entries(changes).filter(([, value]) => value !== undefined),
      )
      if (tools !== undefined) assistant.tools = normalTools(changes.tools)
      return { body: Object.assign(assistant, given) }
    }),
    route('DELETE', '/assistants/:assistant_id', ({ params }) => {
      const { id } = known(params.assistant_id)
      state.assistants.delete(id)
      return { body: { id, object: 'assistant.deleted', deleted: true } satisfies AssistantDeleted }
    }),
  ]
}
