import type pg from 'pg'
import type { CallOutput, ToolCall } from '../model/run.ts'
import { jsonbText } from './jsonb-text.ts'

/** The claim that a write belongs to: without it, nothing is written. */
export type ClaimOfCalls = { dispatcherId: string; id: number; attempts: number }

/** A call as its operation reads it. */
export type RoundCall = ToolCall & {
  /** Null: it is open. */
  output: CallOutput | null
  is_error: boolean
  /** Until its deadline, in milliseconds by the database's clock. */
  ms_left: number
}

/**
 * Writes down what a run asks for; again, it changes nothing. Gives the round of these calls, and in how
 * many milliseconds they must be answered; null: the claim is lost.
 */
export async function writeToolCalls(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  calls: readonly ToolCall[],
  deadlineMs: number,
): Promise<{ round: number; msLeft: number } | null> {
  const { rows } = await pool.query(
    'select round, ms_left from write_tool_calls($1, $2, $3, $4, $5)',
    [dispatcherId, id, attempts, jsonbText(calls), deadlineMs],
  )
  const { round, ms_left } = rows[0]
  return round === null ? null : { round, msLeft: ms_left }
}

/** The calls of one round, in the order in which they were asked. */
export async function readRound(
  pool: pg.Pool,
  operationId: number,
  round: number,
): Promise<RoundCall[]> {
  const { rows } = await pool.query(
    `select type, call_id, name, arguments, output, is_error,
            (extract(epoch from deadline - clock_timestamp()) * 1000)::float8 as ms_left
       from tool_calls where operation_id = $1 and round = $2 order by created_at, call_id`,
    [operationId, round],
  )
  return rows
}

/** Gives `output`, an error, to what is open of a claim's operation. False: the claim is lost. */
export async function answerOpenCalls(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  output: string,
): Promise<boolean> {
  const { rows } = await pool.query('select answer_open_calls($1, $2, $3, $4) as still_mine', [
    dispatcherId,
    id,
    attempts,
    jsonbText(output),
  ])
  return rows[0].still_mine
}

/** Writes down the outputs that were submitted; says whether an operation goes on because of it. */
export async function applyToolOutputs(pool: pg.Pool, dispatcherId: string): Promise<boolean> {
  const { rows } = await pool.query('select apply_tool_outputs($1) as goes_on', [dispatcherId])
  return rows[0].goes_on
}
