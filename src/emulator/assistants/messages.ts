import type {
  Message,
  MessageContent,
  MessageDeleted,
} from 'openai/resources/beta/threads/messages'
import { z } from 'zod'
import { seconds } from '../clock.ts'
import type { Context } from '../context.ts'
import { messageConflict, notFound } from '../errors.ts'
import { shortId } from '../ids.ts'
import { paginate } from '../paging.ts'
import { type Route, route } from '../router.ts'
import { metadataSchema, parse } from '../validate.ts'
import { restMessage } from './objects.ts'
import { type AssistantsState, activeRun, holderOf, type ThreadState, threadOf } from './state.ts'

const contentPart = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text'), text: z.string() }),
  z.strictObject({
    type: z.literal('image_url'),
    image_url: z.strictObject({
      url: z.string(),
      detail: z.enum(['auto', 'low', 'high']).default('auto'),
    }),
  }),
  z.strictObject({
    type: z.literal('image_file'),
    image_file: z.strictObject({
      file_id: z.string(),
      detail: z.enum(['auto', 'low', 'high']).default('auto'),
    }),
  }),
])

export const messageBody = z.strictObject({
  role: z.enum(['user', 'assistant']),
  content: z.union([
    z
      .string()
      .max(256_000)
      .refine((text) => text !== '', 'Message content must be non-empty.'),
    z.array(contentPart).min(1),
  ]),
  attachments: z.array(z.looseObject({})).nullish(),
  metadata: metadataSchema,
})
type MessageBody = z.infer<typeof messageBody>
const updateBody = z.strictObject({ metadata: metadataSchema })

const textPart = (value: string): MessageContent => ({
  type: 'text',
  text: { value, annotations: [] },
})

const servedContent = (content: MessageBody['content']): MessageContent[] =>
  typeof content === 'string'
    ? [textPart(content)]
    : content.map((part) => (part.type === 'text' ? textPart(part.text) : part))

/** Appends what a caller writes. */
export function addMessage(
  { visibility }: Context,
  { thread, messages }: ThreadState,
  input: MessageBody,
): Message {
  const now = seconds()
  const message: Message = {
    id: shortId('msg'),
    object: 'thread.message',
    created_at: now,
    assistant_id: null,
    thread_id: thread.id,
    run_id: null,
    status: 'completed',
    incomplete_details: null,
    incomplete_at: null,
    completed_at: now,
    role: input.role,
    content: servedContent(input.content),
    attachments: input.attachments ?? [],
    metadata: input.metadata ?? {},
  }
  messages.push(message)
  visibility.written('messages', [message], thread.id)
  return message
}

/** Text parts joined by newlines. */
export const messageText = ({ content }: Message): string =>
  content.flatMap((part) => (part.type === 'text' ? [part.text.value] : [])).join('\n')

/** The ids, which are random, decide between those of one second. */
const bySecond = (a: Message, b: Message): number =>
  a.created_at - b.created_at || (a.id < b.id ? -1 : 1)

const unknownMessage = (id: string) => notFound('message', id)

export function messageRoutes(context: Context, state: AssistantsState): Route[] {
  const messageOf = (params: Record<string, string>): Message => {
    const { thread_id = '', message_id = '' } = params
    const found = threadOf(state, thread_id).messages.find(({ id }) => id === message_id)
    if (!found) throw unknownMessage(message_id)
    return found
  }
  const path = '/threads/:thread_id/messages'
  return [
    route('POST', path, ({ params, body }) => {
      const input = parse(messageBody, body)
      const thread = threadOf(state, params.thread_id as string)
      const blocking = activeRun(thread)
      if (blocking) throw messageConflict(thread.thread.id, holderOf(blocking))
      return { body: restMessage(addMessage(context, thread, input)) }
    }),
    route('GET', path, (request) => {
      const { messages } = threadOf(state, request.params.thread_id as string)
      const runId = request.query.get('run_id')
      const chosen = runId ? messages.filter((message) => message.run_id === runId) : messages
      const place = { kind: 'messages.list', threadId: request.params.thread_id as string } as const
      const tied = context.faults.strike(['tied_order'], place)
      const page = paginate(tied ? chosen.toSorted(bySecond) : chosen, request, unknownMessage)
      return { body: { ...page, data: page.data.map(restMessage) } }
    }),
    route('GET', `${path}/:message_id`, ({ params, sees }) => {
      const message = messageOf(params)
      if (!sees(message)) throw unknownMessage(message.id)
      return { body: restMessage(message) }
    }),
    route('POST', `${path}/:message_id`, ({ params, body }) => {
      const { metadata } = parse(updateBody, body)
      const message = messageOf(params)
      message.metadata = metadata ?? message.metadata
      return { body: restMessage(message) }
    }),
    route('DELETE', `${path}/:message_id`, ({ params }) => {
      const { id } = messageOf(params)
      const thread = threadOf(state, params.thread_id as string)
      thread.messages = thread.messages.filter((message) => message.id !== id)
      return {
        body: { id, object: 'thread.message.deleted', deleted: true } satisfies MessageDeleted,
      }
    }),
  ]
}
