import type pg from 'pg'
import type { StoredItem } from '../model/stored-item.ts'

/** What is known of an archive beside its messages. */
export type ArchiveFacts = { provider_thread_id: string; metadata: Record<string, string> }

/** Null: there is no such archive, or none that is complete. */
export async function readArchiveFacts(pool: pg.Pool, id: number): Promise<ArchiveFacts | null> {
  const { rows } = await pool.query({
    text: 'select a.provider_thread_id, a.metadata from thread_archives a where a.id = $1',
    values: [id],
  })
  return rows[0] ?? null
}

/** Up to `limit` items of an archive behind a position, in their order. */
export async function readArchivedItems(
  pool: pg.Pool,
  archiveId: number,
  position: number,
  limit: number,
): Promise<StoredItem[]> {
  const { rows } = await pool.query({
    text: `select m.item_id as id, m.type, m.role, m.text, m.content, m.attachments, m.run_id, m.metadata,
                  m.said_at, m.item
             from archived_messages m
            where m.archive_id = $1 and m.position > $2 order by m.position limit $3`,
    values: [archiveId, position, limit],
  })
  return rows.map((row) => ({ ...row, said_at: row.said_at?.toISOString() ?? null }))
}
