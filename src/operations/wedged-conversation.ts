import type { Failure } from '../model/outcome.ts'
import { ProviderError } from '../provider/provider-error.ts'
import { answerCalls } from './answer-calls.ts'
import type { OperationContext } from './context.ts'
import { Held } from './waiting.ts'

/** The conversation refuses every run, whoever asks. */
export const isWedged = (error: ProviderError): boolean => error.failure.decision === 'park'

/**
 * Calls that nobody has answered get an error for an output, once per operation. Throws `Held` where that
 * did not help, or where something else is wrong: then only an operator can mend the conversation.
 * Without `error`, goes on with what an earlier attempt has begun.
 */
export async function repair(
  context: OperationContext,
  threadId: string,
  error?: ProviderError,
): Promise<void> {
  const { journal } = context
  const isRepairable = error === undefined || error.code === 'tool_output_missing'
  if (error && (!isRepairable || journal.progress.repaired)) throw held(context, threadId, error)
  try {
    await answerCalls(context, threadId, null)
  } catch (error) {
    if (error instanceof ProviderError && isWedged(error)) throw held(context, threadId, error)
    throw error
  }
  await journal.noteBeside({ repaired: true })
}

const whatToDo: Record<string, string> = {
  tool_output_missing: 'Answering every open call with an error has not helped.',
  reasoning_item_missing: 'Delete the item that has lost its other half.',
}

function held({ operation }: OperationContext, threadId: string, error: ProviderError): Held {
  const { status, requestId } = error.failure
  const advice = whatToDo[error.code] ?? ''
  const message = [`The conversation ${threadId} refuses every run.`, error.message, advice]
  const failure: Failure = {
    code: error.code,
    message: `${message.filter(Boolean).join(' ')} Mend it at the provider, then \`inturn resume ${JSON.stringify(operation.thread_id)}\`; cancelling operation ${operation.id} gives it up.`,
    ...(status !== undefined && { provider_status: status }),
    ...(requestId !== undefined && { request_id: requestId }),
  }
  return new Held(failure)
}
