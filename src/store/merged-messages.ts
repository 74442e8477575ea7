import type pg from 'pg'
import type { MessageInput } from '../model/message.ts'

export type MergedMessage = { id: number; message: MessageInput }

/** The messages of these operations, in the order given; of those that were deleted there is none. */
export async function readMessages(
  pool: pg.Pool,
  ids: readonly number[],
): Promise<MergedMessage[]> {
  const { rows } = await pool.query({
    text: `select o.id::float8 as id, o.data -> 'message' as message
             from unnest($1::bigint[]) with ordinality as given (id, n)
             join thread_operations o on o.id = given.id
            order by given.n`,
    values: [ids],
  })
  return rows
}
