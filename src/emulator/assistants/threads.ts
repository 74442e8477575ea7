import type { ThreadDeleted } from 'openai/resources/beta/threads/threads'
import { z } from 'zod'
import { seconds } from '../clock.ts'
import type { Context } from '../context.ts'
import { notFound } from '../errors.ts'
import { shortId } from '../ids.ts'
import { type Route, route } from '../router.ts'
import { metadataSchema, parse } from '../validate.ts'
import { addMessage, messageBody } from './messages.ts'
import { endStream } from './run-events.ts'
import { type AssistantsState, type ThreadState, threadOf } from './state.ts'

const updateBody = z.strictObject({
  metadata: metadataSchema,
  tool_resources: z.looseObject({}).nullish(),
})
export const threadBody = updateBody.extend({ messages: z.array(messageBody).nullish() })

export function newThread(
  context: Context,
  state: AssistantsState,
  input: z.infer<typeof threadBody>,
): ThreadState {
  const thread: ThreadState = {
    thread: {
      id: shortId('thread'),
      object: 'thread',
      created_at: seconds(),
      metadata: input.metadata ?? {},
      tool_resources: input.tool_resources ?? {},
    },
    messages: [],
    runs: [],
  }
  for (const message of input.messages ?? []) addMessage(context, thread, message)
  state.threads.set(thread.thread.id, thread)
  context.visibility.written('threads', [thread.thread], thread.thread.id)
  return thread
}

export function threadRoutes(context: Context, state: AssistantsState): Route[] {
  return [
    route('POST', '/threads', ({ body }) => ({
      body: newThread(context, state, parse(threadBody, body)).thread,
    })),
    route('GET', '/threads/:thread_id', ({ params, sees }) => {
      const { thread } = threadOf(state, params.thread_id as string)
      if (!sees(thread)) throw notFound('thread', thread.id)
      return { body: thread }
    }),
    route('POST', '/threads/:thread_id', ({ params, body }) => {
      const changes = parse(updateBody, body)
      const { thread } = threadOf(state, params.thread_id as string)
      thread.metadata = changes.metadata ?? thread.metadata
      thread.tool_resources = changes.tool_resources ?? thread.tool_resources
      return { body: thread }
    }),
    // A thread goes even while a run is active: no refusal of it was ever reported.
    route('DELETE', '/threads/:thread_id', ({ params }) => {
      const { thread, runs } = threadOf(state, params.thread_id as string)
      for (const run of runs) {
        run.stop.abort()
        clearTimeout(run.expiry)
        context.runs.ended(run.run)
        endStream(run)
      }
      state.threads.delete(thread.id)
      return {
        body: { id: thread.id, object: 'thread.deleted', deleted: true } satisfies ThreadDeleted,
      }
    }),
  ]
}
