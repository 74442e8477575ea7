import type pg from 'pg'

/** What an item says of where it came from: our operation, or the run that wrote it. */
export type ItemMark = { id: string; operation_id: number | null; run_id: string | null }

/** In which turn of the thread these items were added, as far as its operations know; by item. */
export async function turnsOfItems(
  pool: pg.Pool,
  threadId: string,
  marks: readonly ItemMark[],
): Promise<Map<string, number>> {
  const { rows } = await pool.query(
    `with added as (
       select mark.id, coalesce(o.turn, merged_into.turn) as turn
         from jsonb_to_recordset($2) as mark (id text, operation_id bigint, run_id text)
         join thread_operations o on o.id = mark.operation_id and o.thread_id = $1
         left join thread_operations merged_into
           on o.error ->> 'code' = 'merged' and merged_into.id = (o.error ->> 'operation_id')::bigint
     ), answered as (
       select mark.id, o.turn
         from thread_operations o
         join jsonb_to_recordset($2) as mark (id text, operation_id bigint, run_id text)
           on mark.run_id in (o.progress ->> 'run_id', o.result #>> '{run,id}')
              or coalesce(o.progress -> 'failed_run_ids', '[]') ? mark.run_id
        where o.thread_id = $1 and o.turn is not null
     )
     select id, turn from added where turn is not null
     union
     select id, turn from answered`,
    [threadId, JSON.stringify(marks)],
  )
  return new Map(rows.map(({ id, turn }) => [id, turn]))
}
