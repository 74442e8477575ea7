import type pg from 'pg'
import type { StoredItem } from '../model/stored-item.ts'
import { jsonbText } from './jsonb-text.ts'
import type { Progress } from './progress.ts'
import type { ClaimOfCalls } from './tool-calls.ts'

/** Begins an archive of a provider thread, or begins it anew. Null: the claim is lost; as for the others. */
export async function beginArchive(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  providerThreadId: string,
): Promise<Progress | null> {
  const { rows } = await pool.query('select begin_archive($1, $2, $3, $4) as noted', [
    dispatcherId,
    id,
    attempts,
    providerThreadId,
  ])
  return rows[0].noted
}

/** Adds a page to the archive that the claim writes; the next one begins behind the item `after`. */
export async function addArchivePage(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  items: readonly StoredItem[],
  after: string,
): Promise<Progress | null> {
  const { rows } = await pool.query('select add_archive_page($1, $2, $3, $4, $5) as noted', [
    dispatcherId,
    id,
    attempts,
    jsonbText(items),
    after,
  ])
  return rows[0].noted
}

/** The position up to which the archive holds these items behind `position`; null: something differs. */
export async function compareArchivePage(
  pool: pg.Pool,
  archiveId: number,
  position: number,
  items: readonly StoredItem[],
): Promise<number | null> {
  const { rows } = await pool.query('select compare_archive_page($1, $2, $3) as position', [
    archiveId,
    position,
    jsonbText(items),
  ])
  return rows[0].position
}

/**
 * Whether the archive lacks something that operations of the thread have added in the last `settleMs`;
 * `newest` is the newest item that is known.
 */
export async function archiveLacks(
  pool: pg.Pool,
  archive: { archive_id: number; provider_thread_id: string },
  threadId: string,
  newest: string | null,
  settleMs: number,
): Promise<boolean> {
  const { rows } = await pool.query('select archive_lacks($1, $2, $3, $4, $5) as lacks', [
    archive.archive_id,
    threadId,
    archive.provider_thread_id,
    newest,
    settleMs,
  ])
  return rows[0].lacks
}

/** From now on the archive counts that the claim has written. */
export async function completeArchive(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  facts: { reason: string; metadata: Record<string, string>; lastItemId: string | null },
): Promise<Progress | null> {
  const { rows } = await pool.query('select complete_archive($1, $2, $3, $4, $5, $6) as noted', [
    dispatcherId,
    id,
    attempts,
    facts.reason,
    jsonbText(facts.metadata),
    facts.lastItemId,
  ])
  return rows[0].noted
}
