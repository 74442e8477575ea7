import type { OpenAI } from 'openai'
import type { ResponseCreateParamsNonStreaming } from 'openai/resources/responses/responses'
import { attempt, once, repeatable } from './client.ts'
import type { CallOptions, RunParameters } from './provider.ts'
import { ProviderError } from './provider-error.ts'
import { runBody } from './run-parameters.ts'

/** Well formed, and never given to anything. */
const noItem = `msg_${'0'.repeat(48)}`

/** Named where no model of the thread is known; nothing is ever asked of it. */
export const anyModel = 'gpt-4o-mini'

/**
 * Whether a response is being worked on in the conversation, which nothing else tells where its id is
 * unknown: asks for one whose input names an item that does not exist. A conversation that is held
 * refuses it as locked, any other for its input.
 */
export async function isConversationBusy(
  client: OpenAI,
  conversation: string,
  parameters: RunParameters,
  options: CallOptions,
): Promise<boolean> {
  const { model, prompt } = runBody('responses', parameters, '')
  const input = [{ type: 'item_reference', id: noItem }]
  const body = { model, prompt, conversation, input, background: true }
  try {
    const started = await attempt('responses', options, () =>
      client.responses.create(body as unknown as ResponseCreateParamsNonStreaming, once(options)),
    )
    // A server that does not look at what it is given: nobody wants this response.
    await attempt('responses', options, () =>
      client.responses.cancel(started.id, repeatable(options)),
    )
    return false
  } catch (error) {
    const decision = error instanceof ProviderError ? error.failure.decision : undefined
    if (decision === 'wait_for_run') return true
    if (decision === 'fail' || decision === 'park') return false
    throw error
  }
}
