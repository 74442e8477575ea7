import type { MessageCreateParams } from 'openai/resources/beta/threads/messages'
import type { RunCreateParamsBase } from 'openai/resources/beta/threads/runs/runs'
import type { MessageInput } from '../model/message.ts'
import { copyMessages, listMessages } from './assistants-items.ts'
import { submitAssistantsOutputs } from './assistants-outputs.ts'
import {
  endAssistantsRun,
  followAssistantsRun,
  isOver,
  startAssistantsRun,
} from './assistants-run.ts'
import {
  attempt,
  createClient,
  once,
  type ProviderSettings,
  repeatable,
  unlessGone,
} from './client.ts'
import { profiles } from './profiles.ts'
import type { CallOptions, Provider } from './provider.ts'
import { unsupported } from './provider-error.ts'
import { runBody, tagged, tagOf } from './run-parameters.ts'

/** Threads, messages and runs of the Assistants v2 wire format. */
export function assistantsProvider(settings: ProviderSettings): Provider {
  const client = createClient(settings)
  const { threads } = client.beta
  const { settleMs = profiles.assistants.settleMs, pollMs } = settings
  const call = <T>(options: CallOptions, work: () => Promise<T>) =>
    attempt('assistants', options, work)

  return {
    name: 'assistants',
    profile: { ...profiles.assistants, settleMs },

    createThread: (metadata, options) =>
      call(options, async () => {
        const { id } = await threads.create({ metadata }, once(options))
        return { id }
      }),

    retrieveThread: (id, options) =>
      call(options, async () => {
        const thread = await threads.retrieve(id, repeatable(options))
        return { id: thread.id, metadata: thread.metadata ?? {} }
      }),

    updateThread: (id, metadata, options) =>
      call(options, async () => {
        await threads.update(id, { metadata }, once(options))
      }),

    lastItem: (threadId, known, options) =>
      call(options, async () => {
        // Tags tell our own: how far back the search goes is all that depends on it.
        if (known !== null) return known
        const query = { order: 'desc', limit: 1 } as const
        const { data } = await threads.messages.list(threadId, query, repeatable(options))
        return data[0]?.id ?? null
      }),

    addMessage: (threadId, message, tag, options) =>
      call(options, async () => {
        const body = messageBody(message, tag)
        const { id } = await threads.messages.create(threadId, body, once(options))
        return { id }
      }),

    findMessage: (threadId, _message, tag, after, options) =>
      call(options, async () => {
        // Newest first, to the end of the page that holds `after`: messages of one second come in
        // any order, so one that was added after it may be listed before it.
        const query = { order: 'desc', limit: 100 } as const
        const list = await threads.messages.list(threadId, query, repeatable(options))
        for await (const { data } of list.iterPages()) {
          const found = data.find(({ metadata }) => isTagged(metadata, tag))
          if (found) return { id: found.id }
          if (data.some(({ id }) => id === after)) break
        }
        return null
      }),

    addMessages: async () => {
      throw unsupported('The provider "assistants" adds one message a call.')
    },
    findMessages: async () => null,

    isListedBehind: (threadId, messageId, earlierId, options) =>
      call(options, async () => {
        const query = { order: 'desc', limit: 100 } as const
        const { data } = await threads.messages.list(threadId, query, repeatable(options))
        const ids = data.map(({ id }) => id)
        const [place, earlier] = [ids.indexOf(messageId), ids.indexOf(earlierId)]
        return place < 0 || earlier < 0 ? null : place < earlier
      }),

    deleteItem: (threadId, messageId, options) =>
      call(options, async () => {
        const query = { thread_id: threadId }
        await threads.messages.delete(messageId, query, repeatable(options)).catch(unlessGone)
      }),
    listItems: (threadId, after, options) =>
      call(options, () => listMessages(client, threadId, after, options)),
    copyItems: (threadId, items, tag, options) =>
      call(options, () => copyMessages(client, threadId, items, tag, options)),
    deleteThread: (threadId, options) =>
      call(options, async () => {
        await threads.delete(threadId, repeatable(options)).catch(unlessGone)
      }),

    startRun: async (threadId, { parameters }, tag, onStarted, options) => {
      const body = runBody('assistants', parameters, tag) as unknown as RunCreateParamsBase
      return startAssistantsRun(client, threadId, body, onStarted, { ...options, pollMs, settleMs })
    },

    findRun: (threadId, tag, options) =>
      call(options, async () => {
        const query = { order: 'desc', limit: 100 } as const
        const { data } = await threads.runs.list(threadId, query, repeatable(options))
        const found = data.find(({ metadata }) => isTagged(metadata, tag))
        return found ? { id: found.id } : null
      }),

    findAnswer: async () => ({ found: 'nothing' }),
    isBusy: async () => false,

    activeRun: (threadId, _model, options) =>
      call(options, async () => {
        const query = { order: 'desc', limit: 100 } as const
        const { data } = await threads.runs.list(threadId, query, repeatable(options))
        const active = data.find((run) => !isOver(run))
        return active ? { id: active.id } : null
      }),

    lookAtRun: (threadId, runId, options) =>
      call(options, async () => {
        const query = { thread_id: threadId }
        const run = await threads.runs.retrieve(runId, query, repeatable(options))
        return { isOver: isOver(run), tag: tagOf(run.metadata) }
      }),

    followRun: (threadId, runId, options) =>
      followAssistantsRun(client, threadId, runId, { ...options, pollMs, settleMs }),

    endRun: (threadId, runId, options) =>
      endAssistantsRun(client, threadId, runId, { ...options, pollMs, settleMs }),

    openCalls: async () => [],
    answerCalls: async () => {
      throw unsupported('A run of the provider "assistants" keeps its calls to itself.')
    },
    submitOutputs: (threadId, runId, calls, onTaken, options) =>
      submitAssistantsOutputs(client, threadId, runId, calls, onTaken, {
        ...options,
        pollMs,
        settleMs,
      }),
  }
}

const isTagged = (metadata: unknown, tag: string): boolean => tagOf(metadata) === tag

function messageBody(message: MessageInput, tag: string): MessageCreateParams {
  const {
    role = 'user',
    metadata,
    ...rest
  } = typeof message === 'string' ? { content: message } : message
  if (role !== 'user' && role !== 'assistant')
    throw unsupported(
      `A message of the provider "assistants" has the role "user" or "assistant", not "${role}": put it into the run's "additional_instructions".`,
    )
  return { ...rest, role, metadata: tagged(metadata, tag) } as MessageCreateParams
}
