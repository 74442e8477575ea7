import type { Handler } from './context.ts'
import type { AddMessage } from './data/add-message.ts'
import { sendMessagesOnce } from './message-batch.ts'
import { ensureProviderThread } from './provider-thread.ts'

export const addMessage: Handler<AddMessage> = async (context) => {
  const provider_thread_id = await ensureProviderThread(context)
  const message_id = await sendMessagesOnce(context, provider_thread_id)
  return { status: 'completed', result: { provider_thread_id, message_id } }
}
