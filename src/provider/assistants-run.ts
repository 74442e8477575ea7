import type { OpenAI } from 'openai'
import type { Stream } from 'openai/core/streaming'
import type { AssistantStreamEvent } from 'openai/resources/beta/assistants'
import type { Message } from 'openai/resources/beta/threads/messages'
import type { RunCreateParamsBase, Run as RunObject } from 'openai/resources/beta/threads/runs/runs'
import type { Run, RunStatus } from '../model/run.ts'
import { tellAssistantEvent } from './assistants-events.ts'
import { attempt, once, repeatable } from './client.ts'
import { poll, pollAfterMs, unlessMissing } from './poll.ts'
import type { CallOptions } from './provider.ts'
import { ProviderError } from './provider-error.ts'
import { streamRun } from './run-stream.ts'

export type Follow = CallOptions & { pollMs?: number; settleMs: number }

/** Starts a run and follows it: by its stream, and by looking where the stream breaks. */
export function startAssistantsRun(
  client: OpenAI,
  threadId: string,
  body: RunCreateParamsBase,
  onStarted: (runId: string) => Promise<void>,
  options: Follow,
): Promise<Run> {
  const { runs } = client.beta.threads
  const open = () => runs.create(threadId, { ...body, stream: true }, once(options))
  return streamAssistantsRun(client, threadId, open, onStarted, options)
}

/** A run by the stream that `open` gives, and by looking where that breaks. */
export function streamAssistantsRun(
  client: OpenAI,
  threadId: string,
  open: () => Promise<Stream<AssistantStreamEvent>>,
  onStarted: (runId: string) => Promise<void>,
  options: Follow,
): Promise<Run> {
  const written: Message[] = []
  return streamRun<AssistantStreamEvent>(
    'assistants',
    {
      open,
      runIdOf: (event) => runOf(event)?.id,
      endOf: (event) => {
        const { event: name, data } = event
        tellAssistantEvent(event, options.onEvent)
        if (name === 'thread.message.completed' || name === 'thread.message.incomplete')
          written.push(data)
        const run = runOf(event)
        return run && isSettled(run) ? toRun(run, written) : undefined
      },
      follow: (runId) => followAssistantsRun(client, threadId, runId, options),
    },
    onStarted,
    options,
  )
}

/** Looks at a run until it is over or waits for tool outputs, then reads what it wrote. */
export function followAssistantsRun(
  client: OpenAI,
  threadId: string,
  runId: string,
  options: Follow,
): Promise<Run> {
  return attempt('assistants', options, async () => {
    const run = await pollRun(client, threadId, runId, isSettled, options)
    return withText(client, threadId, run, options)
  })
}

/** The run with all that it wrote, which may be readable only a while after it is over. */
function withText(client: OpenAI, threadId: string, run: RunObject, options: Follow): Promise<Run> {
  const since = performance.now()
  const query = { run_id: run.id, order: 'asc', limit: 100 } as const
  return poll(async () => {
    const written: Message[] = []
    const messages = client.beta.threads.messages.list(threadId, query, repeatable(options))
    for await (const message of messages) if (message.run_id === run.id) written.push(message)
    const isMissing = written.length === 0 && run.status === 'completed' && wroteSomething(run)
    return isMissing && performance.now() - since < options.settleMs
      ? {}
      : { end: toRun(run, written) }
  }, options)
}

const wroteSomething = ({ usage }: RunObject) => usage !== null && usage.completion_tokens > 0

/** Cancels a run and waits until it holds its thread no longer, however it ended. */
export async function endAssistantsRun(
  client: OpenAI,
  threadId: string,
  runId: string,
  options: Follow,
): Promise<Run> {
  try {
    await attempt('assistants', options, () =>
      client.beta.threads.runs.cancel(runId, { thread_id: threadId }, repeatable(options)),
    )
  } catch (error) {
    // Over already, or being cancelled.
    if (!(error instanceof ProviderError && error.code === 'run_not_cancellable')) throw error
  }
  return attempt('assistants', options, async () => {
    const run = await pollRun(client, threadId, runId, isOver, options)
    return withText(client, threadId, run, options)
  })
}

function pollRun(
  client: OpenAI,
  threadId: string,
  runId: string,
  isEnd: (run: RunObject) => boolean,
  options: Follow,
): Promise<RunObject> {
  const look = async () => {
    const { data, response } = await client.beta.threads.runs
      .retrieve(runId, { thread_id: threadId }, repeatable(options))
      .withResponse()
    return isEnd(data) ? { end: data } : { waitMs: pollAfterMs(response) }
  }
  return poll(unlessMissing(look, options.settleMs), options)
}

function runOf({ data }: AssistantStreamEvent): RunObject | undefined {
  return 'object' in data && data.object === 'thread.run' ? data : undefined
}

/** Nothing more happens by itself: the run is over or waits for tool outputs. */
const isSettled = ({ status }: RunObject) =>
  status !== 'queued' && status !== 'in_progress' && status !== 'cancelling'
export const isOver = (run: RunObject) => isSettled(run) && run.status !== 'requires_action'

function toRun(run: RunObject, messages: readonly Message[]): Run {
  const texts = messages.flatMap(({ content }) =>
    content.flatMap((part) => (part.type === 'text' ? [part.text.value] : [])),
  )
  const calls = run.required_action?.submit_tool_outputs.tool_calls ?? []
  return {
    id: run.id,
    status: run.status as RunStatus,
    model: run.model,
    incomplete_reason: run.incomplete_details?.reason ?? null,
    error: run.last_error && { code: run.last_error.code, message: run.last_error.message },
    usage: run.usage && {
      input_tokens: run.usage.prompt_tokens,
      output_tokens: run.usage.completion_tokens,
      total_tokens: run.usage.total_tokens,
    },
    text: texts.length === 0 ? null : texts.join('\n'),
    tool_calls: calls.map((call) => ({
      type: 'function_call',
      call_id: call.id,
      name: call.function.name,
      arguments: call.function.arguments,
    })),
    last_item_id: messages.at(-1)?.id ?? null,
  }
}
