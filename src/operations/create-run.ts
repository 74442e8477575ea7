import { resolveAssistant } from './assistant.ts'
import type { Handler } from './context.ts'
import type { CreateRun } from './data/create-run.ts'
import { keepingMessages } from './interrupted.ts'
import { messagesOf } from './merged-messages.ts'
import { ensureProviderThread } from './provider-thread.ts'
import { runOnce } from './run-once.ts'
import { runOutcome } from './run-outcome.ts'

export const createRun: Handler<CreateRun> = async (context) => {
  const parameters = await resolveAssistant(context, context.data)
  const threadId = await ensureProviderThread(context)
  return keepingMessages(context, threadId, [], async () => {
    const messages = await messagesOf(context, threadId, [])
    const run = await runOnce(context, threadId, { messages, parameters })
    return runOutcome(context, threadId, run)
  })
}
