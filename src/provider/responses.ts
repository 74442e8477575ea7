import type { ResponseCreateParamsBase } from 'openai/resources/responses/responses'
import { attempt, createClient, once, type ProviderSettings, repeatable } from './client.ts'
import { profiles } from './profiles.ts'
import type { CallOptions, Provider } from './provider.ts'
import { abandonResponse } from './responses-abandon.ts'
import { findAnswer } from './responses-answer.ts'
import { isSameMessage, toInput, toItem } from './responses-input.ts'
import { followResponse, startResponse } from './responses-run.ts'
import { runBody } from './run-parameters.ts'

/** Conversations and background Responses. */
export function responsesProvider(settings: ProviderSettings): Provider {
  const client = createClient(settings)
  const { conversations } = client
  const { settleMs = profiles.responses.settleMs, pollMs } = settings
  const call = <T>(options: CallOptions, work: () => Promise<T>) =>
    attempt('responses', options, work)

  return {
    name: 'responses',
    profile: { ...profiles.responses, settleMs },

    createThread: (metadata, options) =>
      call(options, async () => {
        const { id } = await conversations.create({ metadata }, once(options))
        return { id }
      }),

    retrieveThread: (id, options) =>
      call(options, async () => {
        const conversation = await conversations.retrieve(id, repeatable(options))
        return {
          id: conversation.id,
          metadata: (conversation.metadata ?? {}) as Record<string, string>,
        }
      }),

    updateThread: (id, metadata, options) =>
      call(options, async () => {
        await conversations.update(id, { metadata }, repeatable(options))
      }),

    lastItem: (threadId, options) =>
      call(options, async () => {
        const query = { order: 'desc', limit: 1 } as const
        const { data } = await conversations.items.list(threadId, query, repeatable(options))
        return data[0]?.id ?? null
      }),

    addMessage: (threadId, message, _tag, options) =>
      call(options, async () => {
        const items = [toItem(message)]
        const { first_id } = await conversations.items.create(threadId, { items }, once(options))
        return { id: first_id }
      }),

    findMessage: (threadId, message, _tag, after, options) =>
      call(options, async () => {
        const query = { order: 'asc', limit: 100, ...(after !== null && { after }) } as const
        for await (const item of conversations.items.list(threadId, query, repeatable(options)))
          if (isSameMessage(item, message)) return { id: item.id as string }
        return null
      }),

    startRun: async (threadId, { message, parameters }, tag, onStarted, options) => {
      const body = runBody('responses', parameters, tag)
      const input = toInput(message, body.input)
      return startResponse(
        client,
        { ...body, conversation: threadId, input } as ResponseCreateParamsBase,
        onStarted,
        { ...options, pollMs, settleMs },
      )
    },

    findRun: async () => null,

    findAnswer: (threadId, after, options) =>
      call(options, () => findAnswer(client, threadId, after, options)),

    followRun: (_threadId, runId, options) =>
      followResponse(client, runId, { ...options, pollMs, settleMs }),

    abandonRun: (threadId, run, options) =>
      abandonResponse(client, threadId, run, { ...options, pollMs, settleMs }),
  }
}
