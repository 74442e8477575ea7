import type pg from 'pg'

/** What must hold, whoever writes, and the rows for which it does not. */
export type Invariant = {
  /** For people and for programs, as `one_active_operation`. */
  name: string
  /** One sentence. */
  promise: string
  /**
   * A select of the rows that break it, as `id` (of the operation), `thread` and `detail`; none: all
   * is well. `$1` is the thread to look at, null for all. It finds our tables by their bare names.
   */
  sql: string
  /** May be broken for a moment while the line works: counts when it is so still after a while. */
  momentary?: true
  /** What a person does about it. */
  advice: string
  /** Repairs what is safe to repair, for these offenders; says what it did. */
  fix?: (pool: pg.Pool, offenders: readonly Offender[]) => Promise<string>
}

export type Offender = {
  /** Of the operation. */
  id: number
  /** Null: the operation is gone. */
  thread: string | null
  detail: string
}

/** Times in milliseconds. */
export type Limits = {
  /** How long what is momentary may last. */
  graceMs: number
  /** Age at which what others have left behind is no longer a matter of moments. */
  staleMs: number
}

/** Narrows a table to `$1`; known when the statement is planned, so an index serves. */
export const ofThread = (table: string) => `($1::text is null or ${table}.thread_id = $1)`

export const active = `('processing', 'requires_action')`
/** The operation went back into its line by retry_operation, or joined it when it was due; only the ledger knows. */
export const wasSentBack = (table: string) => `exists (
     select from operation_events back
      where back.thread_id = ${table}.thread_id and back.operation_id = ${table}.id
        and back.to_status = 'pending' and back.from_status in ('failed', 'cancelled', 'scheduled'))`

/** Kinds that may join at the head: every delete_thread, and the rotate_thread of a policy. */
export const headward = `('delete_thread', 'rotate_thread')`

export const final = `('completed', 'failed', 'cancelled')`
