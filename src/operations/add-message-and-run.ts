import { resolveAssistant } from './assistant.ts'
import type { Handler } from './context.ts'
import type { AddMessageAndRun } from './data/add-message-and-run.ts'
import { keepingMessages } from './interrupted.ts'
import { messagesOf } from './merged-messages.ts'
import { sendMessageOnce } from './message-once.ts'
import { ensureProviderThread } from './provider-thread.ts'
import { runOnce } from './run-once.ts'
import { runOutcome } from './run-outcome.ts'

export const addMessageAndRun: Handler<AddMessageAndRun> = async (context) => {
  const { message, ...data } = context.data
  const parameters = await resolveAssistant(context, data)
  const threadId = await ensureProviderThread(context)
  return keepingMessages(context, threadId, [message], async () => {
    const messages = await messagesOf(context, threadId, [message])
    if (!context.provider.profile.runCarriesMessage)
      await sendMessageOnce(context, threadId, message)
    const run = await runOnce(context, threadId, { messages, parameters })
    return runOutcome(context, threadId, run)
  })
}
