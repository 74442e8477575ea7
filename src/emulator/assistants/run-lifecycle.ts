import { pause, seconds, unlessAborted } from '../clock.ts'
import type { Context } from '../context.ts'
import { failureBy, runFaults } from '../faults/run-faults.ts'
import type { RunFailure, RunView } from '../options.ts'
import { usageOf } from './objects.ts'
import { promptOf } from './prompt.ts'
import { emit, endStream } from './run-events.ts'
import { askForOutputs, writeMessage } from './run-output.ts'
import { isActive, type RunState } from './state.ts'

/** From `queued` to the end, or to `requires_action`. Never rejects. */
export function work(context: Context, state: RunState): void {
  context.activity.started()
  state.worked = advance(context, state).finally(() => context.activity.ended())
}

async function advance(context: Context, state: RunState): Promise<void> {
  const { run, origin } = state
  const { signal } = state.stop
  const { settings } = context
  const { latency } = settings
  const foreign = 'foreignMs' in origin
  const faults = runFaults(context, foreign ? null : origin.kind, run.thread_id)
  try {
    await faults.hold('stuck_queued', signal)
    await pause(latency.queuedMs, signal)
    // A cancel that will complete shows already.
    if (run.status === 'queued') run.status = 'in_progress'
    run.started_at = seconds()
    emit(state, 'thread.run.in_progress', run)
    await faults.hold('stuck_in_progress', signal)
    await pause(foreign ? origin.foreignMs : latency.thinkMs, signal)
    const expiry = faults.strike('run_expires')
    if (expiry) {
      await pause(expiry.ms, signal)
      return end(context, state, 'expired')
    }
    const failure = failureBy(faults) ?? settings.failRun(viewOf(state))
    if (failure) return fail(context, state, failure)
    const prompt = promptOf(state)
    const reply = await unlessAborted(settings.model(prompt), signal)
    signal.throwIfAborted()
    if ('toolCalls' in reply) {
      if (run.status === 'cancelling') return end(context, state, 'cancelled')
      return askForOutputs(state, prompt, reply.toolCalls)
    }
    const whole = await writeMessage(context, state, prompt, reply.text)
    signal.throwIfAborted()
    end(context, state, whole ? 'completed' : 'incomplete')
  } catch (error) {
    // Who aborted it decides what becomes of it.
    if (!signal.aborted) fail(context, state, { code: 'server_error', message: String(error) })
  }
}

const viewOf = ({ run }: RunState): RunView => ({
  id: run.id,
  threadId: run.thread_id,
  model: run.model,
  metadata: run.metadata ?? {},
})

const fail = (context: Context, state: RunState, failure: RunFailure): void => {
  state.run.last_error = failure
  end(context, state, 'failed')
}

const incompleteReasons = {
  failed: 'run_failed',
  cancelled: 'run_cancelled',
  expired: 'run_expired',
} as const

type Ending = 'completed' | 'incomplete' | 'failed' | 'cancelled' | 'expired'

/** The run's last change: unlocks the thread, settles what is unfinished, ends the stream. */
function end(context: Context, state: RunState, status: Ending): void {
  const { run, steps, thread } = state
  const now = seconds()
  clearTimeout(state.expiry)
  context.runs.ended(run)
  run.status = status
  run.required_action = null
  if (status === 'completed') run.completed_at = now
  if (status === 'cancelled') run.cancelled_at = now
  if (status === 'failed') run.failed_at = now
  if (status === 'incomplete') run.incomplete_details = { reason: 'max_completion_tokens' }
  if (status !== 'expired') run.expires_at = null
  run.usage = steps.reduce(
    (sum, { usage }) =>
      usageOf(
        sum.prompt_tokens + (usage?.prompt_tokens ?? 0),
        sum.completion_tokens + (usage?.completion_tokens ?? 0),
      ),
    usageOf(0, 0),
  )
  if (status === 'failed' || status === 'cancelled' || status === 'expired') {
    for (const message of thread.messages) {
      if (message.run_id !== run.id || message.status !== 'in_progress') continue
      message.status = 'incomplete'
      message.incomplete_at = now
      message.incomplete_details = { reason: incompleteReasons[status] }
      emit(state, 'thread.message.incomplete', message)
    }
    for (const step of steps) {
      if (step.status !== 'in_progress') continue
      step.status = status
      if (status === 'cancelled') step.cancelled_at = now
      if (status === 'failed') step.failed_at = now
      emit(state, `thread.run.step.${status}`, step)
    }
  }
  for (const step of steps) step.expires_at = null
  emit(state, `thread.run.${status}`, run)
  endStream(state)
}

/** Answers with `cancelling`; the run is `cancelled` a moment (one queueing time) later. */
export function cancel(context: Context, state: RunState): void {
  const { run, stop } = state
  const faults = runFaults(context, 'runs.cancel', run.thread_id)
  const atWork = run.status !== 'requires_action'
  run.status = 'cancelling'
  emit(state, 'thread.run.cancelling', run)
  if (atWork && faults.strike('cancel_completes')) return
  stop.abort()
  context.activity.started()
  const settled = async () => {
    await state.worked
    await faults.hold('stuck_cancelling')
    await pause(context.settings.latency.queuedMs)
    end(context, state, 'cancelled')
  }
  void settled().finally(() => context.activity.ended())
}

export function expireLater(context: Context, state: RunState): void {
  const expire = async () => {
    if (!isActive(state.run) || state.run.status === 'cancelling') return
    state.stop.abort()
    await state.worked
    end(context, state, 'expired')
  }
  state.expiry = setTimeout(() => void expire(), context.settings.runExpiresMs).unref()
}
