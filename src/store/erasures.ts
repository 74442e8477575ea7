import type pg from 'pg'
import type { Database } from '../db/query.ts'
import type { DeletionProof } from '../model/outcome.ts'
import type { ProviderName } from '../model/thread.ts'

/** What came of a person's request to be forgotten. */
export type ErasureReport = {
  user_id: string
  /** Their threads, each with the provider threads that were seen to be gone. */
  threads: Array<{
    thread_id: string
    deleted: Array<DeletionProof & { provider: ProviderName }>
  }>
  /** Operations that were emptied: all of their threads, and on threads of others those on their behalf. */
  operations: number
  /** Archives with their user_id that were left on threads of others. */
  archives: number
  /** What may still be there, and why. */
  not_proved: Array<{ what: string; why: string }>
  /** What inturn does not reach, for the one who answers the person. */
  not_covered: string[]
}

export type Erasure = {
  id: number
  userId: string
  requestedAt: Date
  /** Null while it is under way. */
  finishedAt: Date | null
  report: ErasureReport | null
  /** How many of its deletions are over, and of how many. */
  deletions: { over: number; of: number }
  /** How many operations are waited for that are not over. */
  unfinished: number
}

/** Asks for it, or gives the one of the user that is under way. */
export async function requestErasure({ query, schema }: Database, userId: string): Promise<number> {
  const [row] = await query(`select ${schema}.erase_user($1::text) as id`, [userId])
  return Number(row.id)
}

export async function readErasure(
  { query, schema }: Database,
  id: number,
): Promise<Erasure | null> {
  const [row] = await query(
    `select e.user_id, e.requested_at, e.finished_at, e.report,
            jsonb_array_length(e.progress -> 'deletions') as of, jsonb_array_length(e.progress -> 'unfinished') as unfinished,
            (select count(*) from ${schema}.thread_operations o
              where o.id = any (array(select jsonb_array_elements_text(e.progress -> 'deletions')::bigint)) and o.finished_at is not null) as over
       from ${schema}.erasures e where e.id = $1::bigint`,
    [id],
  )
  if (!row) return null
  return {
    id,
    userId: row.user_id,
    requestedAt: row.requested_at,
    finishedAt: row.finished_at,
    report: row.report,
    deletions: { over: Number(row.over), of: row.of },
    unfinished: row.unfinished,
  }
}

/** How many threads are a user's. */
export async function countOfUser({ query, schema }: Database, userId: string): Promise<number> {
  const [row] = await query(
    `select count(*)::integer as count from ${schema}.threads where user_id = $1::text`,
    [userId],
  )
  return Number(row.count)
}

/** Operations that are looked at, or emptied, in one transaction. */
const atOnce = 5_000

/** Erases what is left of a thread whose conversation was deleted, as far as its operations are over. */
export async function eraseThread(pool: pg.Pool, threadId: string): Promise<void> {
  for (;;) {
    const { rows } = await pool.query('select erase_thread($1, 1000) as state', [threadId])
    if (rows[0].state !== 'more') return
  }
}

/** Does for a while what is left of erasures and of threads to erase. */
export async function advanceErasures(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query(
    `select exists (select from threads where erase_before > 0) as threads,
            array(select id from erasures where finished_at is null order by id limit 20) as erasures`,
  )
  const { threads, erasures } = rows[0] as { threads: boolean; erasures: number[] }
  if (threads) await someTimes(pool, 'select erase_threads(100) as more', [])
  for (const id of erasures)
    await someTimes(pool, "select advance_erasure($1, $2) = 'more' as more", [id, atOnce])
}

/** The other chores are not to wait for long. */
async function someTimes(pool: pg.Pool, statement: string, values: unknown[]): Promise<void> {
  for (let n = 0; n < 20; n++) {
    const { rows } = await pool.query(statement, values)
    if (!rows[0].more) return
  }
}
