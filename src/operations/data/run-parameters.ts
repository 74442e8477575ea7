import type { RunCreateParamsBase } from 'openai/resources/beta/threads/runs/runs'
import type { ResponseCreateParamsBase } from 'openai/resources/responses/responses'
import { z } from 'zod'
import type { AssistantsParameter, ResponsesParameter } from '../../provider/run-parameters.ts'
import { metadata } from './metadata.ts'
import type { Rule } from './rules.ts'

type Sdk = Pick<RunCreateParamsBase, AssistantsParameter> &
  Pick<ResponseCreateParamsBase, ResponsesParameter>
type TypeIn<Parameters, Name> = Name extends keyof Parameters ? Parameters[Name] : never

/** Every parameter of a run that either provider takes, under its own name, except what inturn owns. */
export type RunParameters = {
  [Name in keyof Sdk]?: TypeIn<RunCreateParamsBase, Name> | TypeIn<ResponseCreateParamsBase, Name>
} & {
  /** Passed on as it is, over everything else: for parameters that inturn does not know yet. */
  provider_options?: Record<string, unknown>
}

export const aRunNeedsAModel: Rule = {
  oneOf: ['assistant_id', 'prompt', 'model'],
  message: 'a run needs an assistant_id, a prompt or a model',
}

// Only the top level is checked: what is inside is the provider's to judge. The cast says that any
// object will do, also one whose type is an interface, as all types of the SDK are.
const object = z.looseObject({}) as unknown as z.ZodType<object, object>
const objects = z.array(object)
const text = z.string()

/**
 * Types, values and bounds as the SDK and the API description state them; null where the SDK takes it.
 * An update of the SDK that adds or drops a parameter does not compile here.
 */
export const runParameters = {
  assistant_id: text
    .min(1)
    .optional()
    .describe('The assistant that runs: `asst_…`, or a row of `assistants`.'),
  prompt: object
    .nullable()
    .optional()
    .describe('Prompt template and its variables: `{"id": "pmpt_…"}`.'),
  model: text.min(1).nullable().optional().describe("The model, over the assistant's own."),
  instructions: text
    .nullable()
    .optional()
    .describe("System message, in place of the assistant's instructions."),
  additional_instructions: text
    .nullable()
    .optional()
    .describe('Added after the instructions, for this run only.'),
  additional_messages: objects
    .nullable()
    .optional()
    .describe('Messages added to the thread before the run.'),
  input: z.union([text, objects]).optional().describe('Input items of the response.'),
  tools: objects
    .nullable()
    .optional()
    .describe("Tools the model may call, in place of the assistant's."),
  tool_choice: z
    .union([z.enum(['none', 'auto', 'required']), object])
    .nullable()
    .optional()
    .describe('Whether tools may or must be called, or which one.'),
  parallel_tool_calls: z
    .boolean()
    .nullable()
    .optional()
    .describe('Whether several tools may be called at once.'),
  max_tool_calls: z
    .int()
    .min(1)
    .nullable()
    .optional()
    .describe('Most calls of built-in tools in one response.'),
  temperature: z.number().min(0).max(2).nullable().optional().describe('Randomness, 0 to 2.'),
  top_p: z
    .number()
    .min(0)
    .max(1)
    .nullable()
    .optional()
    .describe('Nucleus sampling: the share of probability considered, 0 to 1.'),
  top_logprobs: z
    .int()
    .min(0)
    .max(20)
    .nullable()
    .optional()
    .describe('Most likely tokens reported at each position, 0 to 20.'),
  max_output_tokens: z
    .int()
    .min(16)
    .nullable()
    .optional()
    .describe('Most tokens of a response, reasoning included.'),
  max_completion_tokens: z
    .int()
    .min(256)
    .nullable()
    .optional()
    .describe('Most completion tokens of a run.'),
  max_prompt_tokens: z
    .int()
    .min(256)
    .nullable()
    .optional()
    .describe('Most prompt tokens of a run.'),
  truncation_strategy: object
    .nullable()
    .optional()
    .describe('How a long thread is shortened for the run.'),
  truncation: z
    .enum(['auto', 'disabled'])
    .nullable()
    .optional()
    .describe('Whether a context that is too long is shortened or refused.'),
  context_management: objects
    .min(1)
    .nullable()
    .optional()
    .describe('How the context is managed, such as compaction.'),
  response_format: z
    .union([z.enum(['auto']), object])
    .nullable()
    .optional()
    .describe('Format of the answer (Assistants).'),
  text: object.optional().describe('Format of the text answer (Responses).'),
  image: object.optional().describe('Options for images of the request.'),
  reasoning: object.nullable().optional().describe('Options of reasoning models (Responses).'),
  reasoning_effort: z
    .enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'])
    .nullable()
    .optional()
    .describe('Effort of reasoning models (Assistants).'),
  include: z.array(text).nullable().optional().describe('Further fields of the output to return.'),
  metadata: metadata.nullable().optional().describe('Up to 15 pairs of text kept with the run.'),
  moderation: object.nullable().optional().describe('Moderation of input and output.'),
  service_tier: z
    .enum(['auto', 'default', 'flex', 'scale', 'priority', 'fast', 'ultrafast'])
    .nullable()
    .optional()
    .describe('Processing tier of the request.'),
  prompt_cache_key: text.nullable().optional().describe('Groups requests for prompt caching.'),
  prompt_cache_options: object.optional().describe('Options of prompt caching.'),
  prompt_cache_retention: z
    .enum(['in_memory', '24h'])
    .nullable()
    .optional()
    .describe('How long cached prompts are kept.'),
  safety_identifier: text
    .nullable()
    .optional()
    .describe('Stable, hashed identifier of the end user.'),
  user: text
    .optional()
    .describe('Identifier of the end user; `safety_identifier` takes its place.'),
  access_programs: object.optional().describe('Access programs to use for the request.'),
  provider_options: object
    .optional()
    .describe('Passed on as it is: parameters that inturn does not know yet.'),
} satisfies Record<keyof RunParameters, z.ZodType>
