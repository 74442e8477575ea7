import type { Database } from '../db/query.ts'
import type { OperationKind, OperationStatus } from '../model/operation.ts'
import type { Failure, OperationResult } from '../model/outcome.ts'

/** How an operation stands; `result` and `error` are those of its end once it is final. */
export type OperationState = {
  id: number
  status: OperationStatus
  result: OperationResult | null
  error: Failure | null
  /** It is a hold that has begun: its caller has the thread. */
  held: boolean
}

/** How these operations stand now; those that do not exist are left out. */
export async function readStates(
  { query, schema }: Database,
  ids: readonly number[],
): Promise<OperationState[]> {
  const rows = await query(
    `select id, status, result, error, held_until is not null as held from ${schema}.thread_operations where id = any ($1::bigint[])`,
    [ids],
  )
  return rows.map((row) => ({ ...row, id: Number(row.id) }))
}

/** Which operation an id stands for; undefined when there is none. */
export async function findOperation(
  { query, schema }: Database,
  id: number,
): Promise<{ threadId: string; operation: OperationKind } | undefined> {
  const [row] = await query(
    `select thread_id, operation from ${schema}.thread_operations where id = $1::bigint`,
    [id],
  )
  return row && { threadId: row.thread_id, operation: row.operation }
}

/** Cancels the operation if it was never started; says whether it was so. */
export async function withdraw({ query, schema }: Database, id: number): Promise<boolean> {
  const rows = await query(
    `update ${schema}.thread_operations set status = 'cancelled'
      where id = $1::bigint and status in ('pending', 'scheduled') and started_at is null returning id`,
    [id],
  )
  return rows.length === 1
}

/** Where an unfinished operation stands, as a phrase: `pending, number 3 in its line, behind …`. */
export async function describeStanding(
  { query, schema }: Database,
  id: number,
  threadId: string,
): Promise<string> {
  // The thread's id keeps the view from numbering every line there is.
  const [row] = await query(
    `select o.status, o.claimed_by, o.held_until::text, o.started_at::text, w.position::int, w.waits_for
       from ${schema}.thread_operations o
       left join (select * from ${schema}.waiting_operations where thread_id = $2::text) w on w.id = o.id
      where o.id = $1::bigint`,
    [id, threadId],
  )
  if (!row) return 'gone'
  if (row.position !== null) {
    return `${row.status}, number ${row.position} in its line (${row.waits_for})`
  }
  if (row.held_until !== null) return `held by ${row.claimed_by} until ${row.held_until}`
  return row.claimed_by === null
    ? row.status
    : `${row.status} since ${row.started_at} by dispatcher ${row.claimed_by}`
}
