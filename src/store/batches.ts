import type pg from 'pg'
import type { Intent, Progress } from './progress.ts'

/** An add_message whose message goes to the provider together with others. */
export type BatchMember = { id: number; data: Record<string, unknown> }

type Claim = { id: number; attempts: number }

/**
 * Writes down that the claim's message is about to be sent, with those of up to `most` - 1 operations right
 * behind it; gives all of them, the claim first. None: the claim is no longer this dispatcher's.
 */
export async function beginBatch(
  pool: pg.Pool,
  dispatcherId: string,
  { id, attempts }: Claim,
  intent: Intent,
  most: number,
): Promise<BatchMember[]> {
  const { rows } = await pool.query('select id, data from begin_batch($1, $2, $3, $4, $5)', [
    dispatcherId,
    id,
    attempts,
    JSON.stringify(intent),
    most,
  ])
  return rows
}

/** As noteProgress, where the claim leaves its batch: `others` is what is known of each other member by now. */
export async function noteBatch(
  pool: pg.Pool,
  dispatcherId: string,
  { id, attempts }: Claim,
  intent: Intent | null,
  progress: Progress,
  batch: readonly number[],
  others: Record<number, Progress>,
): Promise<boolean> {
  const { rows } = await pool.query({
    text: 'select note_batch($1, $2, $3, $4, $5, $6, $7) as still_mine',
    values: [
      dispatcherId,
      id,
      attempts,
      intent && JSON.stringify(intent),
      JSON.stringify(progress),
      batch,
      JSON.stringify(others),
    ],
  })
  return rows[0].still_mine
}

/** The members of a batch that is looked for, in their order, without those that were deleted since. */
export async function membersOf(pool: pg.Pool, batch: readonly number[]): Promise<BatchMember[]> {
  const { rows } = await pool.query('select id, data from messages_of_batch($1)', [batch])
  return rows
}
