import type pg from 'pg'
import type { Emulator } from '../src/emulator/index.ts'
import { waitFor } from '../test/support/wait-for.ts'
import type { Disturbance } from './disturbances.ts'
import { foreignText } from './history.ts'

/** A run that the caller's own code made while it held the thread, from start to release. */
export type Held = { thread: string; operation: number; runId: string }

/**
 * Stands in the line, runs something at the provider itself when it has the thread, and lets it go.
 * Null: it did not come to that, or could not keep the thread so long.
 */
export async function holdThread(
  pool: pg.Pool,
  emulator: Emulator,
  { thread, ms, speaks }: Extract<Disturbance, { what: 'hold' }>,
  patienceMs: number,
): Promise<Held | null> {
  try {
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, data) values ($1, 'hold', $2) returning id`,
      [thread, { lease_ms: Math.max(100, 10 * ms) }],
    )
    const operation = Number(rows[0].id)
    const begun = await begins(pool, operation, patienceMs)
    if (begun === null) return null
    const { thread: provided } = begun
    const runId = provided === null ? null : await run(emulator, provided, ms, speaks)
    await pool.query('select release_hold($1)', [operation])
    return runId === null || provided === null ? null : { thread: provided, operation, runId }
  } catch {
    return null // the database is away, or the lease is over
  }
}

/** A run from its start to its end; null: there is no provider thread yet, or an outsider was there first. */
async function run(emulator: Emulator, thread: string, ms: number, speaks: boolean) {
  try {
    const runId = emulator.foreignRun(thread, { ms, ...(speaks && { message: foreignText }) })
    await waitFor(() => emulator.runs(thread).some(({ id, endedAt }) => id === runId && endedAt))
    return runId
  } catch {
    return null
  }
}

/** The provider thread, once the hold has its turn; null: it is over, or was given up because that took too long. */
async function begins(
  pool: pg.Pool,
  operation: number,
  timeoutMs: number,
): Promise<{ thread: string | null } | null> {
  const state = async () => {
    const { rows } = await pool.query(
      `select o.held_until is not null as is_held, t.provider_thread_id as thread from thread_operations o
         left join threads t on t.id = o.thread_id
        where o.id = $1 and (o.held_until is not null or o.finished_at is not null)`,
      [operation],
    )
    return rows[0]
  }
  return waitFor(state, { timeoutMs })
    .then(({ is_held, thread }) => (is_held ? { thread } : null))
    .catch(async () => {
      await pool.query(
        `insert into thread_operations (thread_id, operation, data)
         select thread_id, 'cancel_run', jsonb_build_object('operation_id', id) from thread_operations where id = $1`,
        [operation],
      )
      return null
    })
}
