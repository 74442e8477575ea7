import { z } from 'zod'
import type { Context } from '../context.ts'
import { noToolOutputsNow, wrongToolOutputs } from '../errors.ts'
import { EventLog } from '../sse.ts'
import { parse } from '../validate.ts'
import { emit } from './run-events.ts'
import { work } from './run-lifecycle.ts'
import { completeStep } from './run-output.ts'
import type { RunState } from './state.ts'

const outputsBody = z.strictObject({
  tool_outputs: z.array(z.strictObject({ tool_call_id: z.string(), output: z.string().nullish() })),
  stream: z.boolean().nullish(),
})

/** All outputs at once, or none: then the run is queued again. */
export function submitToolOutputs(context: Context, state: RunState, body: unknown): void {
  const { tool_outputs, stream } = parse(outputsBody, body)
  const { run } = state
  const step = state.steps.at(-1)
  if (run.status !== 'requires_action' || step?.step_details.type !== 'tool_calls')
    throw noToolOutputsNow(run.status)
  const calls = step.step_details.tool_calls.filter((call) => call.type === 'function')
  const expected = calls.map(({ id }) => id)
  const got = tool_outputs.map(({ tool_call_id }) => tool_call_id)
  if (expected.toSorted().join() !== got.toSorted().join()) throw wrongToolOutputs(expected, got)

  for (const { tool_call_id, output } of tool_outputs) {
    const call = calls.find(({ id }) => id === tool_call_id)
    if (call) call.function.output = output ?? ''
    state.turns.push({ role: 'tool_output', callId: tool_call_id, output: output ?? '' })
  }
  state.log = stream ? new EventLog() : null
  state.origin = { kind: 'runs.submit_tool_outputs' }
  run.required_action = null
  run.status = 'queued'
  completeStep(state, step)
  emit(state, 'thread.run.queued', state.run)
  work(context, state)
}
