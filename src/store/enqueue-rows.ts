import type { Database } from '../db/query.ts'
import type { RetryPolicy } from '../model/retry.ts'

/** An operation as callers write it; `data` is checked by the entry trigger. */
export type NewRow = {
  thread: string
  operation: string
  data: unknown
  idempotencyKey?: string
  priority?: number
  /** Checked by the entry trigger, too, as all that follows. */
  retry?: RetryPolicy
  userId?: string
  scheduledAt?: Date
  ifBusy?: string
  debounceMs?: number
  debounceMaxMs?: number
}

export type EnqueuedRow = {
  id: number
  /** Whether kind and data are those sent: false only for a row that was there before under the same key. */
  same: boolean
}

/** The rows of `$1`, one JSON array for every kind of connection, in their order as `n`. */
const sent = `rows from (jsonb_to_recordset($1::jsonb) as (
  thread text, operation text, data jsonb, priority integer, retry jsonb, "userId" text, "scheduledAt" timestamptz,
  "ifBusy" text, "debounceMs" integer, "debounceMaxMs" integer, "idempotencyKey" text
)) with ordinality as sent (thread, operation, data, priority, retry, user_id, scheduled_at, if_busy, debounce_ms, debounce_max_ms, key, n)`

/**
 * Puts rows into their lines in the order given, in one statement, and gives each one's operation: the
 * new one, or the one that has its idempotency key already. Never aborts the transaction for a key.
 */
export async function enqueueRows(
  database: Database,
  rows: readonly NewRow[],
): Promise<EnqueuedRow[]> {
  const enqueued: EnqueuedRow[] = []
  let missing = [...rows.keys()]
  // Again only where a row with the key was deleted between the two statements.
  while (missing.length > 0) {
    const skipped = await insert(database, rows, missing, enqueued)
    missing = skipped.length > 0 ? await find(database, rows, skipped, enqueued) : []
  }
  return enqueued
}

/** Gives the indexes of rows whose key is taken. */
async function insert(
  { query, schema }: Database,
  rows: readonly NewRow[],
  indexes: readonly number[],
  enqueued: EnqueuedRow[],
): Promise<number[]> {
  const inserted = await query(
    `insert into ${schema}.thread_operations 
       (thread_id, operation, data, priority, retry, user_id, scheduled_at, if_busy, debounce_ms, debounce_max_ms, idempotency_key)
     select sent.thread, sent.operation, sent.data, coalesce(sent.priority, 0), sent.retry, sent.user_id,
            sent.scheduled_at, sent.if_busy, sent.debounce_ms, sent.debounce_max_ms, sent.key
       from ${sent} order by sent.n
         on conflict (thread_id, idempotency_key) where idempotency_key is not null do nothing
     returning id, thread_id, idempotency_key`,
    [JSON.stringify(indexes.map((index) => rows[index]))],
  )
  // Ids are drawn in the order of the rows, and only a row with a key can be missing among them.
  inserted.sort((a, b) => Number(a.id) - Number(b.id))
  let next = 0
  return indexes.filter((index) => {
    const row = rows[index]
    const candidate = inserted[next]
    const key = row?.idempotencyKey ?? null
    const isInserted =
      key === null ||
      (candidate?.idempotency_key === key && candidate.thread_id === String(row?.thread))
    if (isInserted) {
      enqueued[index] = { id: Number(candidate.id), same: true }
      next++
    }
    return !isInserted
  })
}

/** Gives the indexes of rows that nobody holds the key of any more. */
async function find(
  { query, schema }: Database,
  rows: readonly NewRow[],
  indexes: readonly number[],
  enqueued: EnqueuedRow[],
): Promise<number[]> {
  const found = await query(
    `select sent.n, o.id, o.operation = sent.operation and o.data = sent.data as same
       from ${sent}
       join ${schema}.thread_operations o
         on o.thread_id = sent.thread and o.idempotency_key = sent.key`,
    [JSON.stringify(indexes.map((index) => rows[index]))],
  )
  const existing = new Map(found.map((row) => [Number(row.n), row]))
  return indexes.filter((index, i) => {
    const row = existing.get(i + 1)
    if (row) enqueued[index] = { id: Number(row.id), same: row.same }
    return !row
  })
}
