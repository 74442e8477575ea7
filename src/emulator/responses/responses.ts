import { z } from 'zod'
import type { Context } from '../context.ts'
import { cannotCancelResponse, notStreamable, replayGone, withIdNotFound } from '../errors.ts'
import { paginate } from '../paging.ts'
import { type ApiRequest, type Reply, type Route, route } from '../router.ts'
import { parse } from '../validate.ts'
import { createResponse } from './response-create.ts'
import { cancel } from './response-lifecycle.ts'
import { type ResponseState, type ResponsesState, responseOf } from './state.ts'

const retrieveQuery = z.object({
  stream: z.enum(['true', 'false']).optional(),
  starting_after: z.coerce.number().int().min(0).optional(),
})
const unknownItem = (id: string) => withIdNotFound('Item', id)

async function created(state: ResponseState): Promise<Reply> {
  const { response, log, worked } = state
  if (log) return { events: log.read() }
  if (!response.background) await worked
  return { body: response }
}

/** `?stream=true` replays a background stream, from behind event `starting_after`, and follows it. */
function retrieved(
  { faults }: Context,
  { response, log }: ResponseState,
  { query, sees }: ApiRequest,
): Reply {
  const { stream, starting_after } = parse(retrieveQuery, Object.fromEntries(query))
  if (!sees(response)) throw withIdNotFound('Response', response.id)
  if (stream !== 'true') return { body: response }
  if (!response.background) throw notStreamable('background')
  if (!log) throw notStreamable('stream')
  const place = { kind: 'responses.retrieve', threadId: response.conversation?.id ?? null } as const
  if (faults.strike(['replay_gone'], place)) throw replayGone()
  return { events: log.read(starting_after === undefined ? 0 : starting_after + 1) }
}

function cancelled(context: Context, state: ResponseState): Reply {
  const { response } = state
  if (!response.background) throw cannotCancelResponse('synchronous')
  // Cancelling twice is fine.
  if (response.status === 'cancelled') return { body: response }
  if (response.status !== 'queued' && response.status !== 'in_progress')
    throw cannotCancelResponse(response.status ?? 'completed')
  cancel(context, state)
  return { body: response }
}

export function responseRoutes(context: Context, state: ResponsesState): Route[] {
  const path = '/responses/:response_id'
  return [
    route('POST', '/responses', ({ body }) => created(createResponse(context, state, body))),
    route('GET', path, (request) =>
      retrieved(context, responseOf(state, request.params.response_id), request),
    ),
    route('DELETE', path, ({ params }) => {
      const { id } = responseOf(state, params.response_id).response
      state.responses.delete(id)
      return { body: { id, object: 'response.deleted', deleted: true } }
    }),
    route('POST', `${path}/cancel`, ({ params }) =>
      cancelled(context, responseOf(state, params.response_id)),
    ),
    route('GET', `${path}/input_items`, (request) => {
      const { before, input } = responseOf(state, request.params.response_id)
      return { body: paginate([...before(), ...input], request, unknownItem) }
    }),
  ]
}
