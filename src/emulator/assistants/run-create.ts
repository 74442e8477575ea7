import { z } from 'zod'
import { seconds } from '../clock.ts'
import type { Context } from '../context.ts'
import { emptyThread, runConflict } from '../errors.ts'
import { shortId } from '../ids.ts'
import { checkId } from '../router.ts'
import { EventLog } from '../sse.ts'
import { integer, metadataSchema, parse } from '../validate.ts'
import { assistantOf, normalTools, toolsSchema } from './assistants.ts'
import { addMessage, messageBody } from './messages.ts'
import type { ServedAssistant, ServedRun } from './objects.ts'
import { emit } from './run-events.ts'
import { expireLater, work } from './run-lifecycle.ts'
import {
  type AssistantsState,
  activeRun,
  holderOf,
  type RunOrigin,
  type RunState,
  type ThreadState,
  threadOf,
} from './state.ts'
import { newThread, threadBody } from './threads.ts'

const runFields = {
  assistant_id: z.string(),
  model: z.string().nullish(),
  instructions: z.string().nullish(),
  tools: toolsSchema,
  metadata: metadataSchema,
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  stream: z.boolean().nullish(),
  max_prompt_tokens: integer().min(256).nullish(),
  max_completion_tokens: integer().min(256).nullish(),
  truncation_strategy: z
    .looseObject({
      type: z.enum(['auto', 'last_messages']),
      last_messages: integer().min(1).nullish(),
    })
    .nullish(),
  tool_choice: z
    .union([z.enum(['none', 'auto', 'required']), z.looseObject({ type: z.string() })])
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  response_format: z.union([z.literal('auto'), z.looseObject({})]).nullish(),
}
const runBody = z.strictObject({
  ...runFields,
  reasoning_effort: z.string().nullish(),
  additional_instructions: z.string().nullish(),
  additional_messages: z.array(messageBody).nullish(),
})
const threadAndRunBody = z.strictObject({
  ...runFields,
  thread: threadBody.nullish(),
  tool_resources: z.looseObject({}).nullish(),
})
type RunBody = z.infer<typeof runBody>

/** `POST /threads/:thread_id/runs`: refused while another run is active; a refusal leaves no message behind. */
export function createRun(
  context: Context,
  state: AssistantsState,
  threadId: string,
  body: unknown,
): RunState {
  const input = parse(runBody, body)
  checkId('assistant_id', input.assistant_id)
  const thread = threadOf(state, threadId)
  const assistant = assistantOf(state, context.settings, input.assistant_id)
  const blocking = activeRun(thread)
  if (blocking) throw runConflict(threadId, holderOf(blocking))
  checkSomethingToDo([...thread.messages, ...(input.additional_messages ?? [])], input, assistant)
  for (const message of input.additional_messages ?? []) addMessage(context, thread, message)
  return start(context, thread, assistant, input, { kind: 'runs.create' })
}

/** `POST /threads/runs`; its stream begins with `thread.created`. */
export function createThreadAndRun(
  context: Context,
  state: AssistantsState,
  body: unknown,
): RunState {
  const { thread: threadInput, tool_resources, ...input } = parse(threadAndRunBody, body)
  checkId('assistant_id', input.assistant_id)
  const assistant = assistantOf(state, context.settings, input.assistant_id)
  checkSomethingToDo(threadInput?.messages ?? [], input, assistant)
  const thread = newThread(context, state, threadInput ?? {})
  return start(context, thread, assistant, input, { kind: 'threads.create_and_run' })
}

function checkSomethingToDo(
  messages: ReadonlyArray<{ role: string }>,
  input: RunBody,
  assistant: ServedAssistant,
): void {
  const asked = messages.some(({ role }) => role === 'user')
  if (!asked && !input.instructions && !input.additional_instructions && !assistant.instructions)
    throw emptyThread()
}

export function start(
  context: Context,
  thread: ThreadState,
  assistant: ServedAssistant,
  input: RunBody,
  origin: RunOrigin,
): RunState {
  const state: RunState = {
    run: newRun(context, thread, assistant, input),
    thread,
    steps: [],
    turns: [],
    log: input.stream ? new EventLog() : null,
    stop: new AbortController(),
    worked: Promise.resolve(),
    expiry: undefined,
    origin,
  }
  thread.runs.push(state)
  context.visibility.written('runs', [state.run], thread.thread.id)
  context.runs.started(state.run, thread.thread.id, 'foreignMs' in origin)
  if ('kind' in origin && origin.kind === 'threads.create_and_run')
    emit(state, 'thread.created', thread.thread)
  emit(state, 'thread.run.created', state.run)
  emit(state, 'thread.run.queued', state.run)
  expireLater(context, state)
  work(context, state)
  return state
}

function newRun(
  { settings }: Context,
  { thread }: ThreadState,
  assistant: ServedAssistant,
  input: RunBody,
): ServedRun {
  const now = seconds()
  const instructions = input.instructions ?? assistant.instructions
  const additional = input.additional_instructions
  return {
    id: shortId('run'),
    object: 'thread.run',
    created_at: now,
    assistant_id: assistant.id,
    thread_id: thread.id,
    status: 'queued',
    started_at: null,
    expires_at: now + Math.ceil(settings.runExpiresMs / 1000),
    cancelled_at: null,
    failed_at: null,
    completed_at: null,
    required_action: null,
    last_error: null,
    model: input.model ?? assistant.model,
    instructions: additional ? [instructions, additional].filter(Boolean).join('\n') : instructions,
    tools: input.tools ? normalTools(input.tools) : assistant.tools,
    tool_resources: {},
    metadata: input.metadata ?? {},
    temperature: input.temperature ?? assistant.temperature ?? 1,
    top_p: input.top_p ?? assistant.top_p ?? 1,
    reasoning_effort: input.reasoning_effort ?? assistant.reasoning_effort,
    max_completion_tokens: input.max_completion_tokens ?? null,
    max_prompt_tokens: input.max_prompt_tokens ?? null,
    truncation_strategy: {
      last_messages: null,
      ...(input.truncation_strategy ?? { type: 'auto' }),
    },
    incomplete_details: null,
    usage: null,
    response_format: (input.response_format ??
      assistant.response_format) as ServedRun['response_format'],
    tool_choice: (input.tool_choice ?? 'auto') as ServedRun['tool_choice'],
    parallel_tool_calls: input.parallel_tool_calls ?? true,
  }
}
