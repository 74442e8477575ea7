import type pg from 'pg'
import type { OperationKind } from '../model/operation.ts'
import { jsonbText } from './jsonb-text.ts'
import { locked } from './while-locked.ts'

/** An open call in the hands of a dispatcher's tools. */
export type ClaimedCall = {
  operation_id: number
  call_id: string
  thread_id: string
  /** What its operation asks for. */
  operation: OperationKind
  type: string
  name: string
  arguments: string
  /** Number of claims so far, this one included. Together with the dispatcher it is the fence. */
  attempts: number
}

/**
 * Takes up to `limit` open calls of these tools, the oldest first; also those of dispatchers that are gone,
 * and this one's own but for `held`: it has not heard of them.
 */
export async function claimToolCalls(
  pool: pg.Pool,
  dispatcherId: string,
  names: readonly string[],
  { held, limit }: { held: readonly ClaimedCall[]; limit: number },
): Promise<ClaimedCall[]> {
  const { rows } = await pool.query('select * from claim_tool_calls($1, $2, $3, $4, $5)', [
    dispatcherId,
    names,
    held.map(({ operation_id }) => operation_id),
    held.map(({ call_id }) => call_id),
    limit,
  ])
  return rows
}

/** Stores the output of a call. `late`: it was answered by others, or is theirs to answer. */
export async function answerToolCall(
  pool: pg.Pool,
  dispatcherId: string,
  { operation_id, call_id, attempts }: ClaimedCall,
  { output, isError }: { output: string; isError: boolean },
): Promise<'stored' | 'late' | typeof locked> {
  const { rows } = await pool.query('select answer_tool_call($1, $2, $3, $4, $5, $6) as answer', [
    dispatcherId,
    operation_id,
    call_id,
    attempts,
    jsonbText(output),
    isError,
  ])
  return rows[0].answer === 'locked' ? locked : rows[0].answer
}

/** Which of these calls nobody has answered yet. */
export async function stillOpen(
  pool: pg.Pool,
  calls: readonly ClaimedCall[],
): Promise<Array<Pick<ClaimedCall, 'operation_id' | 'call_id'>>> {
  const { rows } = await pool.query(
    `select c.operation_id, c.call_id
       from unnest($1::bigint[], $2::text[]) as held (operation_id, call_id)
       join tool_calls c on c.operation_id = held.operation_id and c.call_id = held.call_id
      where c.output is null`,
    [calls.map(({ operation_id }) => operation_id), calls.map(({ call_id }) => call_id)],
  )
  return rows
}

/** Gives back all calls that this dispatcher holds; others may begin them anew. */
export async function giveBackToolCalls(pool: pg.Pool, dispatcherId: string): Promise<void> {
  await pool.query('select give_back_tool_calls($1)', [dispatcherId])
}
