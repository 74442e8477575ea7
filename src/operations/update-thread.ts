import type { Handler } from './context.ts'
import type { UpdateThread } from './data/update-thread.ts'
import { replaceMetadataOnce } from './metadata-once.ts'
import { ensureProviderThread } from './provider-thread.ts'

/** Replaces the metadata as a whole. */
export const updateThread: Handler<UpdateThread> = async (context) => {
  const { metadata } = context.data
  const provider_thread_id = await ensureProviderThread(context)
  await replaceMetadataOnce(context, provider_thread_id, metadata)
  await context.journal.noteThread({ metadata })
  return { status: 'completed', result: { provider_thread_id } }
}
