import type pg from 'pg'
import type { NewOperation } from '../../src/index.ts'

/** An operation that adds a message. */
export const message = (
  thread: string,
  text: string,
  idempotencyKey?: string,
): NewOperation<'add_message'> => ({
  thread,
  operation: 'add_message',
  data: { message: text },
  idempotencyKey,
})

/** The messages in the line of a thread, first to last. */
export async function messagesOf(pool: pg.Pool, thread: string): Promise<string[]> {
  const { rows } = await pool.query(
    `select data ->> 'message' as text from thread_operations where thread_id = $1 order by id`,
    [thread],
  )
  return rows.map(({ text }) => text)
}

/** How many waiter rows there are. */
export async function waiterRows(pool: pg.Pool): Promise<number> {
  return (await pool.query('select count(*) as count from operation_waiters')).rows[0].count
}

/** What a rejected promise was rejected with. */
export const errorOf = (promise: Promise<unknown>): Promise<Error & Record<string, unknown>> =>
  promise.then(
    () => {
      throw new Error('Nothing was thrown.')
    },
    (error) => error,
  )
