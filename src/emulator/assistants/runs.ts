import { z } from 'zod'
import type { Context } from '../context.ts'
import { cannotCancelRun, cannotUpdateRun, notFound } from '../errors.ts'
import { paginate } from '../paging.ts'
import { type Reply, type Route, route } from '../router.ts'
import type { EventLog } from '../sse.ts'
import { metadataSchema, parse } from '../validate.ts'
import { createRun, createThreadAndRun } from './run-create.ts'
import { cancel } from './run-lifecycle.ts'
import { type AssistantsState, isActive, type RunState, runOf, threadOf } from './state.ts'
import { submitToolOutputs } from './tool-outputs.ts'

const updateBody = z.strictObject({ metadata: metadataSchema })
const unknownRun = (id: string) => notFound('run', id)
const unknownStep = (id: string) => notFound('run step', id)

/** A run as its own stream where the request asked for one. The log is taken now: the run drops it at its end. */
const served = ({ run, log }: { run: RunState['run']; log: EventLog | null }): Reply =>
  log ? { events: log.read() } : { body: run }

export function runRoutes(context: Context, state: AssistantsState): Route[] {
  const { queuedMs, thinkMs } = context.settings.latency
  // The SDK's poll helpers wait this long instead of five seconds.
  const pollAfter = { 'openai-poll-after-ms': String(Math.max(5, Math.ceil(queuedMs + thinkMs))) }
  const path = '/threads/:thread_id/runs'
  return [
    route('POST', '/threads/runs', ({ body }) => served(createThreadAndRun(context, state, body))),
    route('POST', path, ({ params, body }) =>
      served(createRun(context, state, params.thread_id as string, body)),
    ),
    route('GET', path, (request) => {
      const { runs } = threadOf(state, request.params.thread_id as string)
      return {
        body: paginate(
          runs.map(({ run }) => run),
          request,
          unknownRun,
        ),
      }
    }),
    route('GET', `${path}/:run_id`, ({ params, sees }) => {
      const { run } = runOf(state, params)
      if (!sees(run)) throw unknownRun(run.id)
      return { headers: pollAfter, body: run }
    }),
    route('POST', `${path}/:run_id`, ({ params, body }) => {
      const { metadata } = parse(updateBody, body)
      const { run } = runOf(state, params)
      if (isActive(run) && run.status !== 'requires_action') throw cannotUpdateRun(run.status)
      run.metadata = metadata ?? run.metadata
      return { body: run }
    }),
    route('POST', `${path}/:run_id/submit_tool_outputs`, ({ params, body }) => {
      const run = runOf(state, params)
      submitToolOutputs(context, run, body)
      return served(run)
    }),
    route('POST', `${path}/:run_id/cancel`, ({ params }) => {
      const run = runOf(state, params)
      if (!isActive(run.run) || run.run.status === 'cancelling')
        throw cannotCancelRun(run.run.status)
      cancel(context, run)
      return { body: run.run }
    }),
    route('GET', `${path}/:run_id/steps`, (request) => ({
      body: paginate(runOf(state, request.params).steps, request, unknownStep),
    })),
    route('GET', `${path}/:run_id/steps/:step_id`, ({ params }) => {
      const { step_id = '' } = params
      const step = runOf(state, params).steps.find(({ id }) => id === step_id)
      if (!step) throw unknownStep(step_id)
      return { body: step }
    }),
  ]
}
