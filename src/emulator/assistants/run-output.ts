import type { Message } from 'openai/resources/beta/threads/messages'
import type { ToolCallDelta } from 'openai/resources/beta/threads/runs/steps'
import { paced, seconds } from '../clock.ts'
import type { Context } from '../context.ts'
import { shortId } from '../ids.ts'
import { type ModelCall, type ModelRequest, textsOf } from '../model.ts'
import { countTokens, tokens } from '../tokens.ts'
import { type ServedStep, usageOf } from './objects.ts'
import { emit, endStream } from './run-events.ts'
import type { RunState } from './state.ts'

function newStep(state: RunState, details: ServedStep['step_details']): ServedStep {
  const { run } = state
  const step: ServedStep = {
    id: shortId('step'),
    object: 'thread.run.step',
    created_at: seconds(),
    run_id: run.id,
    assistant_id: run.assistant_id,
    thread_id: run.thread_id,
    type: details.type,
    status: 'in_progress',
    cancelled_at: null,
    completed_at: null,
    expires_at: run.expires_at,
    failed_at: null,
    last_error: null,
    step_details: details,
    usage: null,
  }
  state.steps.push(step)
  emit(state, 'thread.run.step.created', step)
  emit(state, 'thread.run.step.in_progress', step)
  return step
}

export function completeStep(state: RunState, step: ServedStep): void {
  step.status = 'completed'
  step.completed_at = seconds()
  emit(state, 'thread.run.step.completed', step)
}

function newAnswer({ visibility }: Context, { run, thread }: RunState, id: string): Message {
  const message: Message = {
    id,
    object: 'thread.message',
    created_at: seconds(),
    assistant_id: run.assistant_id,
    thread_id: run.thread_id,
    run_id: run.id,
    status: 'in_progress',
    incomplete_details: null,
    incomplete_at: null,
    completed_at: null,
    role: 'assistant',
    content: [],
    attachments: [],
    metadata: {},
  }
  thread.messages.push(message)
  visibility.written('messages', [message], thread.thread.id)
  return message
}

/** Writes the answer token by token; false when `max_completion_tokens` cut it short. */
export async function writeMessage(
  context: Context,
  state: RunState,
  prompt: ModelRequest,
  text: string,
): Promise<boolean> {
  const { run, stop } = state
  const id = shortId('msg')
  const step = newStep(state, { type: 'message_creation', message_creation: { message_id: id } })
  const message = newAnswer(context, state, id)
  emit(state, 'thread.message.created', message)
  emit(state, 'thread.message.in_progress', message)
  const all = tokens(text)
  const allowed = all.slice(0, run.max_completion_tokens ?? all.length)
  const written = { value: '', annotations: [] }
  for await (const token of paced(allowed, context.settings.latency.perTokenMs, stop.signal)) {
    if (written.value === '') message.content = [{ type: 'text', text: written }]
    const first = written.value === ''
    written.value += token
    const delta = first ? { value: token, annotations: [] } : { value: token }
    emit(state, 'thread.message.delta', {
      id,
      object: 'thread.message.delta',
      delta: { content: [{ index: 0, type: 'text', text: delta }] },
    })
  }
  const whole = allowed.length === all.length
  if (whole) {
    message.status = 'completed'
    message.completed_at = seconds()
    emit(state, 'thread.message.completed', message)
  } else {
    message.status = 'incomplete'
    message.incomplete_at = seconds()
    message.incomplete_details = { reason: 'max_tokens' }
    emit(state, 'thread.message.incomplete', message)
  }
  step.usage = usageOf(countTokens(...textsOf(prompt)), allowed.length)
  completeStep(state, step)
  return whole
}

/** Ends the stream, not the run: the thread stays locked until the outputs are there. */
export function askForOutputs(
  state: RunState,
  prompt: ModelRequest,
  asked: readonly ModelCall[],
): void {
  const calls = asked.map((call) => ({
    id: shortId('call'),
    type: 'function' as const,
    function: { ...call, output: null as string | null },
  }))
  const step = newStep(state, { type: 'tool_calls', tool_calls: [] })
  step.usage = usageOf(
    countTokens(...textsOf(prompt)),
    countTokens(...asked.map((call) => call.arguments)),
  )
  const delta = (call: ToolCallDelta) =>
    emit(state, 'thread.run.step.delta', {
      id: step.id,
      object: 'thread.run.step.delta',
      delta: { step_details: { type: 'tool_calls', tool_calls: [call] } },
    })
  for (const [index, { id, type, function: own }] of calls.entries()) {
    delta({ index, id, type, function: { name: own.name, arguments: '', output: null } })
    delta({ index, type, function: { arguments: own.arguments } })
    state.turns.push({ role: 'tool_call', callId: id, ...(asked[index] as ModelCall) })
  }
  step.step_details = { type: 'tool_calls', tool_calls: calls }
  state.run.status = 'requires_action'
  state.run.required_action = {
    type: 'submit_tool_outputs',
    submit_tool_outputs: {
      tool_calls: calls.map(({ id, type, function: own }) => ({
        id,
        type,
        function: { name: own.name, arguments: own.arguments },
      })),
    },
  }
  emit(state, 'thread.run.requires_action', state.run)
  endStream(state)
}
