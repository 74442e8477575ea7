import type { Handler } from './context.ts'
import type { AddMessage } from './data/add-message.ts'
import { sendMessageOnce } from './message-once.ts'
import { ensureProviderThread } from './provider-thread.ts'

export const addMessage: Handler<AddMessage> = async (context) => {
  const provider_thread_id = await ensureProviderThread(context)
  const message_id = await sendMessageOnce(context, provider_thread_id, context.data.message)
  await context.journal.noteThread({ last_item_id: message_id })
  return { status: 'completed', result: { provider_thread_id, message_id } }
}
