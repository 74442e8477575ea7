import type { Context } from '../context.ts'
import { type ForeignRun, foreignInstructions } from '../foreign-run.ts'
import { createResponse } from './response-create.ts'
import type { ResponsesState } from './state.ts'

/** A response that nobody asked for by request; refused like any other while one is active. */
export function startForeignResponse(
  context: Context,
  state: ResponsesState,
  conversation: string,
  { ms, message }: ForeignRun,
): string {
  const body = {
    model: context.settings.defaultModel,
    conversation,
    input: message,
    instructions: foreignInstructions,
    background: true,
  }
  return createResponse(context, state, body, ms).response.id
}
