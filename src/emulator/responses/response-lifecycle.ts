import { pause, seconds, unlessAborted } from '../clock.ts'
import type { Context } from '../context.ts'
import { textsOf } from '../model.ts'
import type { RunFailure } from '../options.ts'
import { countTokens } from '../tokens.ts'
import { promptOf } from './prompt.ts'
import { emit } from './response-events.ts'
import { writeCall, writeMessage } from './response-output.ts'
import type { ResponseState } from './state.ts'

/** From creation to the end. Never rejects. */
export function work(context: Context, state: ResponseState): void {
  context.activity.runsStarted++
  context.activity.started()
  emit(state, { type: 'response.created', response: state.response })
  if (state.response.background) emit(state, { type: 'response.queued', response: state.response })
  state.worked = advance(context, state).finally(() => context.activity.ended())
}

async function advance({ settings }: Context, state: ResponseState): Promise<void> {
  const { response } = state
  const { signal } = state.stop
  const { queuedMs, thinkMs, perTokenMs } = settings.latency
  try {
    await pause(queuedMs, signal)
    response.status = 'in_progress'
    emit(state, { type: 'response.in_progress', response })
    await pause(thinkMs, signal)
    const failure = settings.failRun({
      id: response.id,
      threadId: response.conversation?.id ?? null,
      model: response.model,
      metadata: response.metadata ?? {},
    })
    if (failure) return fail(state, failure)
    const prompt = promptOf(state)
    const reply = await unlessAborted(settings.model(prompt), signal)
    let written = 0
    let whole = true
    if ('toolCalls' in reply) {
      for (const call of reply.toolCalls) written += await writeCall(state, call, perTokenMs)
    } else {
      ;({ written, whole } = await writeMessage(state, reply.text, perTokenMs))
    }
    signal.throwIfAborted()
    complete(state, whole, countTokens(...textsOf(prompt)), written)
  } catch (error) {
    // Cancelled: the request that did it has settled everything.
    if (!signal.aborted) fail(state, { code: 'server_error', message: String(error) })
  }
}

/** Input and output reach the conversation together, at this moment and not before. */
function complete(state: ResponseState, whole: boolean, read: number, written: number): void {
  const { response, conversation, input } = state
  response.status = whole ? 'completed' : 'incomplete'
  if (whole) response.completed_at = seconds()
  else response.incomplete_details = { reason: 'max_output_tokens' }
  response.service_tier = 'default'
  response.billing = { payer: 'developer' }
  response.usage = {
    input_tokens: read,
    input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
    output_tokens: written,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: read + written,
  }
  if (conversation) {
    const added = [...input, ...response.output]
    conversation.items.push(...added)
    for (const { id } of added) conversation.origins.set(id, response.id)
  }
  end(state, whole ? 'response.completed' : 'response.incomplete')
}

function fail(state: ResponseState, failure: RunFailure): void {
  state.response.status = 'failed'
  state.response.error = failure
  end(state, 'response.failed')
}

/** Nothing of a cancelled response is kept; its stream ends with `response.failed`. */
export function cancel(state: ResponseState): void {
  state.stop.abort()
  state.response.status = 'cancelled'
  state.response.output = []
  end(state, 'response.failed')
}

function end(
  state: ResponseState,
  type: 'response.completed' | 'response.incomplete' | 'response.failed',
): void {
  if (state.conversation?.active === state) state.conversation.active = null
  emit(state, { type, response: state.response })
  state.log?.end()
}
