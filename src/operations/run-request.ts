import type { MessageInput } from '../model/message.ts'
import type { RunParameters, RunRequest } from '../provider/provider.ts'
import type { OperationContext } from './context.ts'

export type RunWish = {
  /** Travels with the run, where the provider takes it along. */
  message?: MessageInput
  parameters: RunParameters
}

/** What is asked of the provider: a message that stands in the thread already is left out. */
export function requestOf(
  { journal }: OperationContext,
  { message, parameters }: RunWish,
): RunRequest {
  const isThere = journal.progress.message_id !== undefined
  return message === undefined || isThere ? { parameters } : { message, parameters }
}
