import type pg from 'pg'

/** Writes an archive as complete_archive leaves it, without a provider; returns its number. */
export async function insertArchive(
  pool: pg.Pool,
  thread: string,
  {
    items,
    generation = 1,
    itemBytes = 1_000,
    user = null,
  }: { items: number; generation?: number; itemBytes?: number; user?: string | null },
): Promise<number> {
  const { rows } = await pool.query(
    `insert into thread_archives (thread_id, generation, operation_id, provider, provider_thread_id, user_id, reason, messages, items,
                                  last_item_id, runs, input_tokens, output_tokens, verified_at)
     values ($1, $2::int, 0, 'responses', 'conv_' || $2::int, $4, 'requested', $3::bigint, $3::bigint, 'msg_' || $3::bigint, 1, 3, 4, clock_timestamp()) returning id`,
    [thread, generation, items, user],
  )
  const { id } = rows[0]
  await pool.query(
    `insert into archived_messages (archive_id, position, item_id, type, role, text, content, item)
     select $1, n, 'msg_' || n, 'message', 'user', 'message ' || n, '[]', jsonb_build_object('id', 'msg_' || n, 'text', repeat('x', $3))
       from generate_series(1, $2) as n`,
    [id, items, itemBytes],
  )
  await pool.query(
    `insert into archived_runs (archive_id, turn, operation_id, run_id, status, model, usage)
     values ($1, 2, 0, 'resp_1', 'completed', 'gpt-5', '{"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}')`,
    [id],
  )
  return id
}
