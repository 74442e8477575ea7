import { InturnError } from '../errors.ts'
import { isFinal } from '../model/operation.ts'
import type { FinalStatus, StreamEvent } from '../model/stream-event.ts'
import type { StreamWatch } from './stream-watch.ts'

export type StreamOptions = {
  /** Number of the first event that is wanted: where a reader comes back, one more than it has seen. Default 1. */
  from?: number
  /** Ends the reading, not the operation: the stream then throws the signal's reason. */
  signal?: AbortSignal
}

/** All that is known of what an operation says, from a number on, and all that comes, until it is over. */
export function streamOf(
  watch: StreamWatch,
  operationId: number,
  { from = 1, signal }: StreamOptions,
): AsyncGenerator<StreamEvent, void, undefined> {
  if (!Number.isSafeInteger(from) || from < 1) {
    throw new InturnError('from_invalid', `A stream has no event ${from}`, {
      hint: 'Write a whole number from 1, such as one more than the "seq" of the last event you have seen.',
    })
  }
  return follow(watch, operationId, from, signal)
}

async function* follow(
  watch: StreamWatch,
  operationId: number,
  from: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<StreamEvent, void, undefined> {
  let next = from
  let isUrgent = true
  for (;;) {
    const view = await watch.read({ operationId, next }, isUrgent, signal)
    for (const event of view.events) {
      next = event.seq + 1
      yield event
      signal?.throwIfAborted()
    }
    isUrgent = view.isMore
    if (!isFinal(view.status) || view.isMore) continue
    const { status, finishedAt } = view
    const at = finishedAt ?? new Date()
    return yield { type: 'ended', status: status as FinalStatus, seq: next, at }
  }
}
