import type pg from 'pg'
import { connect } from '../../src/db/connect.ts'
import type { Outcome } from '../../src/model/outcome.ts'
import { HandDriven, retryIn } from './hand-driven.ts'
import { insertRow } from './line.ts'

const conversation = { provider_thread_id: 'conv_1' }
const run = { id: 'resp_1', status: 'completed', model: 'm', incomplete_reason: null } as const
const ends: Outcome[] = [
  { status: 'completed', result: { ...conversation, message_id: 'msg_1' } },
  { status: 'completed', result: { ...conversation, run, text: 'Hi' } },
  { status: 'failed', error: { code: 'invalid_request', message: 'No.' } },
  { status: 'cancelled', error: { code: 'run_cancelled', message: 'By somebody else.' } },
]

/**
 * Lines in every state, as a dispatcher `d1` leaves them, all of it right:
 * - `served`: a message, a run, a failure, a cancelled run (turns 1 to 4), then one being served
 *   (turn 5) and two that wait
 * - `retried`: one that waits for its next attempt (turn 1), and one behind it
 * - `waiting`: a marked head and one behind it
 * - `withdrawn`: one that was cancelled before it was started
 */
export async function serveLines(pool: pg.Pool, client: pg.ClientBase): Promise<void> {
  const dispatcher = await HandDriven.signOn(client)
  await insertRow(pool, { thread_id: 'served' })
  for (const operation of ['create_run', 'add_message', 'create_run', 'add_message']) {
    const data = operation === 'create_run' ? { model: 'm' } : { message: 'Hi' }
    await insertRow(pool, { thread_id: 'served', operation, data })
  }
  await insertRow(pool, { thread_id: 'served' })
  await insertRow(pool, { thread_id: 'served' })
  let operation = await dispatcher.claimOnly()
  for (const outcome of ends) {
    const { claimed } = await dispatcher.settle(operation, outcome, { free: 1 })
    operation = claimed[0] as typeof operation
  }

  await insertRow(pool, { thread_id: 'retried' })
  await insertRow(pool, { thread_id: 'retried' })
  await dispatcher.settle(await dispatcher.claimOnly(), retryIn(3_600_000))
  await insertRow(pool, { thread_id: 'waiting' })
  await insertRow(pool, { thread_id: 'waiting' })
  const withdrawn = await insertRow(pool, { thread_id: 'withdrawn' })
  await pool.query("update thread_operations set status = 'cancelled' where id = $1", [
    withdrawn.id,
  ])
}

/** What no guard lets through: statements of a superuser, with the triggers off. */
export async function damage(url: string, statements: string): Promise<void> {
  const client = await connect(url)
  try {
    await client.query('set session_replication_role = replica')
    await client.query(statements)
  } finally {
    await client.end()
  }
}

/** Makes `nth` of a thread's unstarted operations one that was started now, by `d1`, without a word of it. */
export const startSilently = (thread: string, turn: number, nth = 1) => `
  update thread_operations
     set status = 'processing', turn = ${turn}, attempts = 1, claimed_by = 'd1', provider = 'responses', ready_at = null,
         place = started_place(), started_at = clock_timestamp()
   where id = (select id from thread_operations where thread_id = '${thread}' and turn is null
                order by id offset ${nth - 1} limit 1);
  insert into operation_events (operation_id, thread_id, from_status, to_status, turn, attempt, actor)
  select id, thread_id, 'pending', 'processing', turn, 1, 'd1' from thread_operations
   where thread_id = '${thread}' and turn = ${turn};`

/** Ends an active operation in the same way: completed, with its message. */
export const completeSilently = (thread: string, turn: number) => `
  update thread_operations
     set status = 'completed', place = null, claimed_by = null, finished_at = clock_timestamp(), result = '{"message_id": "msg_9"}'
   where thread_id = '${thread}' and turn = ${turn};
  insert into operation_events (operation_id, thread_id, from_status, to_status, turn, attempt, actor)
  select id, thread_id, 'processing', 'completed', turn, 1, 'd1' from thread_operations
   where thread_id = '${thread}' and turn = ${turn};`
