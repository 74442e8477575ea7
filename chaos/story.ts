import type pg from 'pg'
import type { Emulator, HistoryEntry } from '../src/emulator/index.ts'

/** One provider thread of a thread, and what is known of it. */
export type Generation = {
  thread_id: string
  generation: number
  provider_thread_id: string
  carried_over: number
  copied_from: string | null
  ended_by: string | null
  archive_id: number | null
  deleted_at: Date | null
}

export async function generationsOf(pool: pg.Pool): Promise<Generation[]> {
  const { rows } = await pool.query<Generation>(
    `select thread_id, generation, provider_thread_id, carried_over, copied_from, ended_by, archive_id, deleted_at
       from thread_generations order by thread_id, generation`,
  )
  return rows
}

/** All messages of it: as the provider has them, or where it was deleted there, as they were archived before. */
export const messagesOf = async (
  pool: pg.Pool,
  emulator: Emulator,
  { provider_thread_id, archive_id, deleted_at }: Generation,
): Promise<HistoryEntry[]> =>
  deleted_at === null ? emulator.history(provider_thread_id) : archived(pool, archive_id)

/** All that was said on a thread, without what each provider thread began with. */
export async function storyOf(
  pool: pg.Pool,
  emulator: Emulator,
  generations: readonly Generation[],
): Promise<HistoryEntry[]> {
  const story: HistoryEntry[] = []
  for (const generation of generations) {
    const messages = await messagesOf(pool, emulator, generation)
    story.push(...messages.slice(generation.carried_over))
  }
  return story
}

export async function archived(pool: pg.Pool, archiveId: number | null): Promise<HistoryEntry[]> {
  const { rows } = await pool.query<HistoryEntry>(
    `select item_id as id, role, coalesce(text, '') as text, coalesce(metadata, '{}') as metadata, run_id as "runId"
       from archived_messages where archive_id = $1 and type = 'message' order by position`,
    [archiveId],
  )
  return rows
}
