import pg from 'pg'
import type { OperationStatus } from '../../src/model/operation.ts'
import { withTransaction } from './transaction.ts'

/** What a statement can run on: a pool, or a connection with a transaction of its own. */
type Database = pg.Pool | pg.ClientBase

/** A row of `thread_operations` as callers write it, and any other column by its name. */
export type Row = Record<string, unknown>

/** What is worth asserting of the row that an INSERT made. */
export type InsertedRow = Row & { id: number; place: number; thread_id: string; status: string }

/** Inserts one row as it is given; without `operation`, a message of some text. */
export async function insertRow(database: Database, given: Row): Promise<InsertedRow> {
  const row: Row = given.operation
    ? given
    : { operation: 'add_message', data: { message: 'Hi' }, ...given }
  const columns = Object.keys(row).map((column) => pg.escapeIdentifier(column))
  const { rows } = await database.query(
    `insert into thread_operations (${columns}) values (${columns.map((_, i) => `$${i + 1}`)}) returning *`,
    Object.values(row),
  )
  return rows[0]
}

/** The row as it is now. */
export async function readRow(database: Database, id: number): Promise<Row> {
  return (await database.query('select * from thread_operations where id = $1', [id])).rows[0]
}

export type Refusal = { code: string; constraint: string; message: string; hint: string }

/** What the database says to a statement that it must refuse. */
export async function refusal(statement: Promise<unknown>): Promise<Refusal> {
  const error = await statement.then(
    () => {
      throw new Error('The statement was not refused.')
    },
    (error: unknown) => error as Refusal,
  )
  if (!(error instanceof pg.DatabaseError)) throw error
  const { code, constraint, message, hint } = error as Refusal
  return { code, constraint, message, hint }
}

/** What an outcome leaves behind on the row. */
export type Outcome = { progress?: unknown; result?: unknown; error?: unknown; ready_at?: string }

/** Moves an operation on by a single UPDATE, as the line's own functions do: the dispatcher is `d1`. */
export async function moveTo(
  pool: pg.Pool,
  id: number,
  status: OperationStatus,
  { progress, result, error, ready_at = 'now' }: Outcome = {},
): Promise<void> {
  const json = (value: unknown) => (value === undefined ? null : JSON.stringify(value))
  await asLine(pool, (client) =>
    client.query(
      `update thread_operations o
          set status = $2,
              claimed_by = case when $2 = 'processing' then 'd1' end,
              finished_at = case when $2 in ('completed', 'failed', 'cancelled') then clock_timestamp() end,
              ready_at = case when $2 = 'pending' then $3::timestamptz end,
              attempts = attempts + ($2 = 'processing')::integer,
              place = case when $2 = 'processing' then started_place()
                           when $2 in ('pending', 'requires_action') then coalesce(place, id) end,
              started_at = case when $2 = 'processing' then coalesce(started_at, clock_timestamp()) when finished_at is null then started_at end,
              turn = case when finished_at is not null then null -- sent back into its line
                          when $2 <> 'processing' then turn
                          else coalesce(turn, 1 + (select count(turn) from thread_operations t where t.thread_id = o.thread_id)) end,
              progress = coalesce($4, progress), result = $5, error = $6
        where id = $1`,
      [id, status, ready_at, json(progress), json(result), json(error)],
    ),
  )
}

/** A transaction with the rights of the line's own functions. */
export function asLine<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  return withTransaction(pool, async (client) => {
    await client.query(
      `select set_config('inturn.line', 'on', true), set_config('inturn.actor', 'd1', true)`,
    )
    return work(client)
  })
}
