import type { OpenAI } from 'openai'
import type {
  Response,
  ResponseCreateParamsBase,
  ResponseStreamEvent,
} from 'openai/resources/responses/responses'
import type { Run, RunStatus } from '../model/run.ts'
import { attempt, once, repeatable } from './client.ts'
import { poll, pollAfterMs, unlessMissing } from './poll.ts'
import type { CallOptions } from './provider.ts'
import { ProviderError } from './provider-error.ts'
import { openCallsAmong } from './responses-calls.ts'
import { tellResponseEvent } from './responses-events.ts'
import { eventsOf, readToEnd, streamRun } from './run-stream.ts'

export type Follow = CallOptions & { pollMs?: number; settleMs: number }

/** Starts a response and follows it: by its stream, by resuming the stream, then by looking. */
export function startResponse(
  client: OpenAI,
  body: ResponseCreateParamsBase,
  onStarted: (runId: string) => Promise<void>,
  options: Follow,
): Promise<Run> {
  const { responses } = client
  let lastEvent = 0
  const endOf = (event: ResponseStreamEvent) => {
    lastEvent = event.sequence_number
    tellResponseEvent(event, options.onEvent)
    return 'response' in event && isOver(event.response) ? toRun(event.response) : undefined
  }
  return streamRun<ResponseStreamEvent>(
    'responses',
    {
      // In the background, so that a broken connection neither stops it nor loses its rest.
      open: () => responses.create({ ...body, background: true, stream: true }, once(options)),
      runIdOf: (event) => ('response' in event ? event.response.id : undefined),
      endOf,
      follow: async (runId) => {
        const rest = { stream: true, starting_after: lastEvent } as const
        const resumed = await responses
          .retrieve(runId, rest, once(options))
          .then((stream) => readToEnd(eventsOf(stream, options), endOf))
          .catch(() => null)
        return resumed ?? followResponse(client, runId, options)
      },
    },
    onStarted,
    options,
  )
}

/** Looks at a response until it is over. */
export function followResponse(client: OpenAI, id: string, options: Follow): Promise<Run> {
  const look = async () => {
    const { data, response } = await client.responses
      .retrieve(id, {}, repeatable(options))
      .withResponse()
    return isOver(data) ? { end: toRun(data) } : { waitMs: pollAfterMs(response) }
  }
  return attempt('responses', options, () => poll(unlessMissing(look, options.settleMs), options))
}

/** Cancels a response and waits until it is over, however it ended. */
export async function endResponse(client: OpenAI, id: string, options: Follow): Promise<Run> {
  try {
    await attempt('responses', options, () => client.responses.cancel(id, repeatable(options)))
  } catch (error) {
    // Over already.
    if (!(error instanceof ProviderError && error.code === 'run_not_cancellable')) throw error
  }
  return followResponse(client, id, options)
}

export const isOver = ({ status }: Response) => status !== 'queued' && status !== 'in_progress'

function toRun(response: Response): Run {
  const texts = response.output.flatMap((item) =>
    item.type === 'message'
      ? item.content.flatMap((part) => (part.type === 'output_text' ? [part.text] : []))
      : [],
  )
  const calls = openCallsAmong(response.output)
  const status = response.status as Exclude<RunStatus, 'requires_action' | 'expired'>
  return {
    id: response.id,
    // A response that calls functions is complete for the provider, but its turn is not.
    status: status === 'completed' && calls.length > 0 ? 'requires_action' : status,
    model: response.model,
    incomplete_reason: response.incomplete_details?.reason ?? null,
    error: response.error && { code: response.error.code, message: response.error.message },
    usage: response.usage
      ? {
          input_tokens: response.usage.input_tokens,
          output_tokens: response.usage.output_tokens,
          total_tokens: response.usage.total_tokens,
        }
      : null,
    text: texts.length === 0 ? null : texts.join('\n'),
    tool_calls: calls,
    last_item_id: response.output.at(-1)?.id ?? null,
  }
}
