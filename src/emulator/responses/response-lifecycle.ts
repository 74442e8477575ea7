import { pause, seconds, unlessAborted } from '../clock.ts'
import type { Context } from '../context.ts'
import { failureBy, type RunFaults, runFaults } from '../faults/run-faults.ts'
import { textsOf } from '../model.ts'
import type { RunFailure, RunView } from '../options.ts'
import { countTokens } from '../tokens.ts'
import type { Item } from './objects.ts'
import { promptOf } from './prompt.ts'
import { asksForReasoning, pairUp, writeReasoning } from './reasoning.ts'
import { emit } from './response-events.ts'
import { writeCall, writeMessage } from './response-output.ts'
import { append, type ResponseState } from './state.ts'

/** From creation to the end. Never rejects. */
export function work(context: Context, state: ResponseState): void {
  context.runs.started(state.response, threadIdOf(state), state.foreignMs !== null)
  context.activity.started()
  emit(state, { type: 'response.created', response: state.response })
  if (state.response.background) emit(state, { type: 'response.queued', response: state.response })
  state.worked = advance(context, state).finally(() => context.activity.ended())
}

const threadIdOf = ({ response }: ResponseState): string | null => response.conversation?.id ?? null

const faultsOf = (context: Context, state: ResponseState): RunFaults =>
  runFaults(context, state.foreignMs === null ? 'responses.create' : null, threadIdOf(state))

async function advance(context: Context, state: ResponseState): Promise<void> {
  const { response, foreignMs } = state
  const { signal } = state.stop
  const { settings } = context
  const { queuedMs, thinkMs, perTokenMs } = settings.latency
  const faults = faultsOf(context, state)
  try {
    await faults.hold('stuck_queued', signal)
    await pause(queuedMs, signal)
    // One that claims to be cancelled goes on doing so.
    if (response.status === 'queued') response.status = 'in_progress'
    emit(state, { type: 'response.in_progress', response })
    await faults.hold('stuck_in_progress', signal)
    await pause(foreignMs ?? thinkMs, signal)
    const failure = failureBy(faults) ?? settings.failRun(viewOf(state))
    if (failure) return fail(context, state, failure)
    const prompt = promptOf(state)
    const reply = await unlessAborted(settings.model(prompt), signal)
    let written = 0
    let whole = true
    const losesReasoning = faults.strike('reasoning_lost') !== undefined
    const thinks = reply.reasoning ?? (losesReasoning || asksForReasoning(response))
    const reasoning = thinks ? writeReasoning(state) : undefined
    if ('toolCalls' in reply) {
      for (const call of reply.toolCalls) written += await writeCall(state, call, perTokenMs)
    } else {
      ;({ written, whole } = await writeMessage(state, reply.text, perTokenMs))
    }
    signal.throwIfAborted()
    if (reasoning) pairUp(response.output, reasoning)
    const kept = response.output.filter((item) => !(losesReasoning && item === reasoning))
    complete(context, state, kept, whole, countTokens(...textsOf(prompt)), written)
  } catch (error) {
    // Cancelled: the request that did it has settled everything.
    if (!signal.aborted) fail(context, state, { code: 'server_error', message: String(error) })
  }
}

const viewOf = (state: ResponseState): RunView => ({
  id: state.response.id,
  threadId: threadIdOf(state),
  model: state.response.model,
  metadata: state.response.metadata ?? {},
})

/** Input and output reach the conversation together, at this moment and not before. */
function complete(
  context: Context,
  state: ResponseState,
  output: readonly Item[],
  whole: boolean,
  read: number,
  written: number,
): void {
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
  if (conversation) append(context, conversation, [...input, ...output], response.id)
  end(context, state, whole ? 'response.completed' : 'response.incomplete')
}

function fail(context: Context, state: ResponseState, failure: RunFailure): void {
  state.response.status = 'failed'
  state.response.error = failure
  leave(context, state)
}

/** Nothing of a cancelled response is kept; its stream ends with `response.failed`. */
export function cancel(context: Context, state: ResponseState): void {
  const { response, stop } = state
  const faults = runFaults(context, 'responses.cancel', threadIdOf(state))
  const goesOn = faults.strike('cancel_completes')
  if (goesOn) {
    if (goesOn.shows === 'cancelled') response.status = 'cancelled'
    return
  }
  stop.abort()
  response.status = 'cancelled'
  response.output = []
  leave(context, state)
}

/** Ends without having written anything. */
function leave(context: Context, state: ResponseState): void {
  const { conversation, input, response } = state
  if (conversation && faultsOf(context, state).strike('failed_input_stays'))
    append(context, conversation, input, response.id)
  end(context, state, 'response.failed')
}

function end(
  context: Context,
  state: ResponseState,
  type: 'response.completed' | 'response.incomplete' | 'response.failed',
): void {
  const { conversation } = state
  if (conversation?.active === state) {
    conversation.active = null
    const lingers = faultsOf(context, state).strike('lock_lingers')
    if (lingers) conversation.lockedUntil = performance.now() + lingers.ms
  }
  context.runs.ended(state.response)
  emit(state, { type, response: state.response })
  state.log?.end()
}
