import type { Handler } from './context.ts'
import type { ArchiveThread } from './data/archive-thread.ts'
import { Refusal } from './refusal.ts'

export const archiveThread: Handler<ArchiveThread> = async () => {
  throw new Refusal('not_ready', 'archive_thread is not ready yet')
}
