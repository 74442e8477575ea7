import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'

/** The tool whose calls people answer, through a service of their own. */
const tool = 'approve'

/**
 * Such a service: answers the calls that it sees open, one by one or all of an operation at once, and now
 * and then twice. Until `signal`; what is refused, or lost with the database, it tries again.
 */
export async function submitOutputs(
  pool: pg.Pool,
  pauseMs: number,
  signal: AbortSignal,
): Promise<void> {
  for (let round = 0; !signal.aborted; round++) {
    const { rows } = await pool
      .query(
        `select thread_id, array_agg(call_id) as calls from tool_calls
          where name = $1 and output is null group by operation_id, thread_id`,
        [tool],
      )
      .catch(() => ({ rows: [] }))
    for (const { thread_id, calls } of rows) {
      const some = round % 2 === 0 ? calls : calls.slice(0, 1)
      const outputs = some.map((call_id: string) => ({ call_id, output: 'approved' }))
      for (let times = 0; times <= round % 3; times++) await submit(pool, thread_id, outputs)
    }
    await sleep(pauseMs, undefined, { signal }).catch(() => {})
  }
}

const submit = (pool: pg.Pool, thread: string, outputs: object[]) =>
  pool
    .query(
      `insert into thread_operations (thread_id, operation, data) values ($1, 'submit_tool_outputs', $2)`,
      [thread, JSON.stringify({ outputs })],
    )
    .catch(() => {})
