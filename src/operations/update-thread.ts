import type { Handler } from './context.ts'
import type { UpdateThread } from './data/update-thread.ts'
import { ensureProviderThread } from './provider-thread.ts'

/** Replaces the metadata as a whole, as both providers do; harmless to repeat. */
export const updateThread: Handler<UpdateThread> = async (context) => {
  const { provider, journal, call, data } = context
  const { metadata } = data
  const provider_thread_id = await ensureProviderThread(context)
  await provider.updateThread(provider_thread_id, metadata, call)
  await journal.noteThread({ metadata })
  return { status: 'completed', result: { provider_thread_id } }
}
