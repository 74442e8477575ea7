import type { Database } from '../db/query.ts'

/** The channel on which settling an operation somebody waits for sends the operation's id. */
export const settledChannel = 'inturn_settled'

/** Has settling these operations notify, as far as they are not final yet. */
export async function addWaiters(
  { query, schema }: Database,
  waiter: string,
  operationIds: readonly number[],
): Promise<void> {
  await query(
    `insert into ${schema}.operation_waiters (operation_id, waiter)
     select o.id, $2::text from ${schema}.thread_operations o
      where o.id = any ($1::bigint[]) and o.finished_at is null
         on conflict do nothing`,
    [operationIds, waiter],
  )
}

export async function removeWaiters(
  { query, schema }: Database,
  waiter: string,
  operationIds: readonly number[],
): Promise<void> {
  await query(
    `delete from ${schema}.operation_waiters
      where operation_id = any ($1::bigint[]) and waiter = $2::text`,
    [operationIds, waiter],
  )
}
