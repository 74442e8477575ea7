import { archiveConversation } from './archive-conversation.ts'
import type { Handler } from './context.ts'
import type { ArchiveThread } from './data/archive-thread.ts'

/** Copies all that was said into an archive. Where nothing was, there is none. */
export const archiveThread: Handler<ArchiveThread> = async (context) => {
  const { operation, data } = context
  const { provider_thread_id } = operation
  if (provider_thread_id === null) return { status: 'completed', result: { items: 0 } }
  const reason = data.reason ?? 'requested'
  const { archive_id, items } = await archiveConversation(context, provider_thread_id, reason)
  return { status: 'completed', result: { provider_thread_id, archive_id, items } }
}
