import type { ConversationItem } from 'openai/resources/conversations/items'
import type { ResponseCreateParamsBase } from 'openai/resources/responses/responses'
import type { MessageInput } from '../model/message.ts'
import { attempt, createClient, once, type ProviderSettings, repeatable } from './client.ts'
import { profiles } from './profiles.ts'
import type { CallOptions, Provider } from './provider.ts'
import { unsupported } from './provider-error.ts'
import { findAnswer } from './responses-answer.ts'
import { anyModel, isConversationBusy } from './responses-busy.ts'
import { answerCalls, openCalls } from './responses-calls.ts'
import { isSameMessage, toItem } from './responses-input.ts'
import {
  addItems,
  copyItems,
  deleteConversation,
  deleteConversationItem,
  listItems,
} from './responses-items.ts'
import { continued } from './responses-outputs.ts'
import { endResponse, followResponse, isOver, startResponse } from './responses-run.ts'
import { tagOf } from './run-parameters.ts'

/** Conversations and background Responses. */
export function responsesProvider(settings: ProviderSettings): Provider {
  const client = createClient(settings)
  const { conversations } = client
  const { settleMs = profiles.responses.settleMs, pollMs } = settings
  const call = <T>(options: CallOptions, work: () => Promise<T>) =>
    attempt('responses', options, work)

  const addMessages: Provider['addMessages'] = (threadId, messages, options) =>
    call(options, () => addItems(client, threadId, messages.map(toItem), options))

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
        await conversations.update(id, { metadata }, once(options))
      }),

    lastItem: (threadId, known, options) =>
      call(options, async () => {
        if (known === null) {
          const { data } = await conversations.items.list(
            threadId,
            { order: 'desc', limit: 1 },
            repeatable(options),
          )
          return data[0]?.id ?? null
        }
        let last = known
        const newer = { order: 'asc', limit: 100, after: known } as const
        for await (const item of conversations.items.list(threadId, newer, repeatable(options)))
          last = item.id as string
        return last
      }),

    addMessage: async (threadId, message, _tag, options) => {
      const [id] = await addMessages(threadId, [message], options)
      return { id: id as string }
    },
    addMessages,

    findMessage: (threadId, message, _tag, after, options) =>
      call(options, async () => {
        const query = { order: 'asc', limit: 100, ...(after !== null && { after }) } as const
        for await (const item of conversations.items.list(threadId, query, repeatable(options)))
          if (isSameMessage(item, message)) return { id: item.id as string }
        return null
      }),

    findMessages: (threadId, messages, after, options) =>
      call(options, async () => {
        const query = { order: 'asc', limit: 100, ...(after !== null && { after }) } as const
        const seen: ConversationItem[] = []
        for await (const item of conversations.items.list(threadId, query, repeatable(options))) {
          seen.push(item)
          const last = seen.slice(-messages.length)
          if (
            last.length === messages.length &&
            last.every((one, i) => isSameMessage(one, messages[i] as MessageInput))
          )
            return last.map(({ id }) => id as string)
        }
        return null
      }),

    isListedBehind: async () => null,
    deleteItem: (threadId, itemId, options) =>
      call(options, () => deleteConversationItem(client, threadId, itemId, options)),
    listItems: (threadId, after, options) =>
      call(options, () => listItems(client, threadId, after, options)),
    copyItems: (threadId, items, _tag, options) =>
      call(options, () => copyItems(client, threadId, items, options)),
    deleteThread: (threadId, options) =>
      call(options, () => deleteConversation(client, threadId, options)),

    startRun: async (threadId, request, tag, onStarted, options) => {
      const { body, input } = continued(request, tag)
      return startResponse(
        client,
        { ...body, conversation: threadId, input } as ResponseCreateParamsBase,
        onStarted,
        { ...options, pollMs, settleMs },
      )
    },

    findRun: async () => null,

    findAnswer: (threadId, after, request, options) =>
      call(options, () =>
        findAnswer(client, threadId, after, continued(request, '').input, options),
      ),

    isBusy: (threadId, parameters, options) =>
      isConversationBusy(client, threadId, parameters, options),

    activeRun: async (threadId, model, options) => {
      const isBusy = await isConversationBusy(
        client,
        threadId,
        { model: model ?? anyModel },
        options,
      )
      return isBusy ? { id: null } : null
    },

    lookAtRun: (_threadId, runId, options) =>
      call(options, async () => {
        const response = await client.responses.retrieve(runId, {}, repeatable(options))
        return { isOver: isOver(response), tag: tagOf(response.metadata) }
      }),

    followRun: (_threadId, runId, options) =>
      followResponse(client, runId, { ...options, pollMs, settleMs }),

    endRun: (_threadId, runId, options) =>
      endResponse(client, runId, { ...options, pollMs, settleMs }),

    openCalls: (threadId, calls, options) =>
      call(options, () => openCalls(client, threadId, calls, options)),

    answerCalls: (threadId, calls, options) =>
      call(options, () => answerCalls(client, threadId, calls, options)),
    submitOutputs: async () => {
      throw unsupported('Of the provider "responses", outputs are what a new run is given.')
    },
  }
}
