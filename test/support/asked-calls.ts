import type pg from 'pg'
import type { Outcome } from '../../src/model/outcome.ts'
import type { ToolCall } from '../../src/model/run.ts'
import type { ClaimedOperation, Round } from '../../src/store/claim.ts'
import { writeToolCalls } from '../../src/store/tool-calls.ts'
import type { HandDriven } from './hand-driven.ts'
import { insertRow } from './line.ts'

export const call = (call_id: string, name = 'get_weather'): ToolCall => ({
  type: 'function_call',
  call_id,
  name,
  arguments: '{}',
})

/** An hour is left. */
export const requiresAction = {
  status: 'requires_action',
  result: { run: { id: 'resp_1', status: 'requires_action', model: 'm', incomplete_reason: null } },
  delayMs: 3_600_000,
} satisfies Outcome

/** A run of `thread` that is being served and has asked for these calls. */
export async function ask(
  pool: pg.Pool,
  dispatcher: HandDriven,
  thread: string,
  calls: readonly ToolCall[],
  given: Partial<Round> = {},
): Promise<ClaimedOperation> {
  await insertRow(pool, { thread_id: thread, operation: 'create_run', data: { model: 'm' } })
  const operation = await dispatcher.claimOnly(given)
  await writeToolCalls(pool, claimOf(dispatcher, operation), calls, 3_600_000)
  return operation
}

export const claimOf = (dispatcher: HandDriven, { id, attempts }: ClaimedOperation) => ({
  dispatcherId: dispatcher.id,
  id,
  attempts,
})

export const submit = (database: pg.Pool | pg.ClientBase, thread: string, outputs: unknown) =>
  insertRow(database, {
    thread_id: thread,
    operation: 'submit_tool_outputs',
    data: JSON.stringify({ outputs }),
  })

export const rain = (call_id: string) => ({ call_id, output: 'rain' })
