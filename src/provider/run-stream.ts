import { setTimeout } from 'node:timers'
import type { Stream } from 'openai/core/streaming'
import type { Run } from '../model/run.ts'
import type { ProviderName } from '../model/thread.ts'
import { attempt } from './client.ts'
import type { CallOptions } from './provider.ts'
import { ProviderError } from './provider-error.ts'

/** How to start a run of one provider and find out how it ends. */
export type RunStream<Event> = {
  open: () => Promise<Stream<Event>>
  runIdOf: (event: Event) => string | undefined
  /** The run, from the event that ends it; undefined for every event before. Sees each event once, in order. */
  endOf: (event: Event) => Run | undefined
  /** The run, where the stream breaks: it goes on at the provider all the same. */
  follow: (runId: string) => Promise<Run>
}

/** Starts a run, tells its id and reads its stream to the end. */
export async function streamRun<Event>(
  provider: ProviderName,
  { open, runIdOf, endOf, follow }: RunStream<Event>,
  onStarted: (runId: string) => Promise<void>,
  options: CallOptions,
): Promise<Run> {
  const deadline = performance.now() + options.timeoutMs
  const stream = await attempt(provider, options, open)
  // The SDK's own deadline ends with the headers.
  let isTooLate = false
  const expire = () => {
    isTooLate = true
    stream.controller.abort()
  }
  const timer = setTimeout(expire, Math.max(0, deadline - performance.now()))
  const events = eventsOf(stream, options)
  const first = await firstEvent(events, runIdOf).catch(() => null)
  clearTimeout(timer)
  if (first === null) throw startUnknown(options, isTooLate)
  try {
    await onStarted(first.runId)
  } catch (error) {
    void events.return(undefined)
    throw error
  }
  options.onEvent?.({ type: 'run_started', run_id: first.runId })
  const end = endOf(first.event) ?? (await readToEnd(events, endOf))
  return end ?? follow(first.runId).catch(rethrowStarted)
}

/** The events of a stream, which ends when it is silent for `timeoutMs`: so does a dead connection. */
export async function* eventsOf<Event>(
  stream: Stream<Event>,
  { timeoutMs }: CallOptions,
): AsyncGenerator<Event, undefined> {
  const silence = setTimeout(() => stream.controller.abort(), timeoutMs)
  try {
    for await (const event of stream) {
      silence.refresh()
      yield event
    }
  } finally {
    clearTimeout(silence)
  }
}

/** Reads on to the run's end; null when the stream breaks or stops before. */
export async function readToEnd<Event>(
  events: AsyncIterator<Event>,
  endOf: (event: Event) => Run | undefined,
): Promise<Run | null> {
  try {
    for (let next = await events.next(); !next.done; next = await events.next()) {
      const end = endOf(next.value)
      if (end === undefined) continue
      void drain(events)
      return end
    }
  } catch {
    // However it broke, the provider is asked what became of the run.
  }
  return null
}

async function firstEvent<Event>(
  events: AsyncIterator<Event>,
  runIdOf: (event: Event) => string | undefined,
): Promise<{ event: Event; runId: string } | null> {
  for (let next = await events.next(); !next.done; next = await events.next()) {
    const runId = runIdOf(next.value)
    if (runId !== undefined) return { event: next.value, runId }
  }
  return null
}

/** The provider has taken the request, but the stream ended before it named the run. */
function startUnknown({ signal }: CallOptions, isLate: boolean): ProviderError {
  return new ProviderError({
    code: signal.aborted ? 'aborted' : isLate ? 'provider_timeout' : 'connection_lost',
    message: 'The stream ended before the provider had named the run.',
    decision: 'reconcile',
    sent: true,
  })
}

/** Whatever a look at a started run runs into, the start itself is not to be sent again. */
function rethrowStarted(error: unknown): never {
  if (!(error instanceof ProviderError) || error.failure.decision !== 'retry') throw error
  const failure = { ...error.failure, decision: 'reconcile', sent: true } as const
  throw new ProviderError(failure, { cause: error.cause })
}

/** Lets the reply end by itself: a connection whose reply was cut off cannot be used again. */
async function drain(events: AsyncIterator<unknown>): Promise<void> {
  try {
    while (!(await events.next()).done);
  } catch {
    // The run's end is known; nothing depends on what follows it.
  }
}
