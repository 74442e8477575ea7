import type pg from 'pg'
import type { Database } from '../db/query.ts'
import type { ProviderName } from '../model/thread.ts'
import type { ThreadKeys } from './thread-keys.ts'
import type { Fence } from './threads.ts'

/** A provider thread that is asked to be adopted. */
export type Adoption = { threadId: string; operationId: number }

/** Asks for provider threads to be adopted; gives those that were not asked for before, in their order. */
export async function adoptThreads(
  { query, schema }: Database,
  provider: ProviderName | undefined,
  ids: readonly string[],
  { user, session, topic, labels }: ThreadKeys,
): Promise<Adoption[]> {
  const rows = await query(
    `select thread_id, operation_id from ${schema}.adopt_threads(
       $1::text, array(select jsonb_array_elements_text($2::jsonb)), $3::text, $4::text, $5::text, $6::jsonb)
      order by operation_id`,
    [provider, JSON.stringify(ids), user, session, topic, JSON.stringify(labels ?? {})].map(
      (value) => value ?? null,
    ),
  )
  return rows.map((row) => ({ threadId: row.thread_id, operationId: Number(row.operation_id) }))
}

/**
 * Makes a provider thread that of a thread of ours, in the name of a claim; null: the claim is lost.
 * `inUseBy`: the thread that has it already, in which case nothing was changed. Throws `55P03` where
 * somebody's open transaction holds the thread's row.
 */
export async function adoptProviderThread(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: Omit<Fence, 'thread_id'>,
  providerThreadId: string,
): Promise<{ inUseBy: string | null } | null> {
  const { rows } = await pool.query({
    text: 'select held, in_use_by from adopt_provider_thread($1, $2, $3, $4)',
    values: [dispatcherId, id, attempts, providerThreadId],
  })
  return rows[0].held ? { inUseBy: rows[0].in_use_by } : null
}
