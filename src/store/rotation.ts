import type pg from 'pg'
import { jsonbText } from './jsonb-text.ts'
import type { Progress } from './progress.ts'
import type { ClaimOfCalls } from './tool-calls.ts'

/** The copy that a thread is to go on in, as `take_copy` of the database reads it. */
export type FilledCopy = {
  provider_thread_id: string
  items: number
  /** Those of them that are messages. */
  messages: number
  left_out: number
  last_item_id: string | null
  /** When the last item came (ISO 8601, database clock). */
  last_message_at: string | null
  copied_from: string | null
  /** The thread's own pairs, without the one that inturn adds at the provider. */
  metadata: Record<string, string>
}

/** What counts for a rotation that says nothing itself. */
export type RotationPolicy = { carry_over: number; delete_rotated: boolean }

export async function readRotationPolicy(pool: pg.Pool, threadId: string): Promise<RotationPolicy> {
  const { rows } = await pool.query({
    text: `select p.carry_over, p.delete_rotated
             from threads t, policy_of(t.policy, t.user_id, t.session_id, t.topic) as p where t.id = $1`,
    values: [threadId],
  })
  return rows[0] ?? { carry_over: 0, delete_rotated: false }
}

/** The metadata that the thread had last, as inturn knows it. */
export async function readThreadMetadata(
  pool: pg.Pool,
  threadId: string,
): Promise<Record<string, string>> {
  const { rows } = await pool.query('select metadata from threads where id = $1', [threadId])
  return rows[0]?.metadata ?? {}
}

/** Messages that the provider thread of a thread holds by what its operations say, and how long ago the last of them ended, in milliseconds. */
export async function readExpectation(
  pool: pg.Pool,
  threadId: string,
): Promise<{ messages: number; age_ms: number }> {
  const { rows } = await pool.query({
    text: `select coalesce(messages_of_generation(t), 0)::float8 as messages,
                  coalesce(extract(epoch from clock_timestamp() - (
                    select o.finished_at from thread_operations o
                     where o.thread_id = t.id and o.turn is not null and o.finished_at is not null
                     order by o.turn desc limit 1)) * 1000, 1e9)::float8 as age_ms
             from threads t where t.id = $1`,
    values: [threadId],
  })
  return rows[0]
}

/** Has the claim's thread go on in the copy; null: the claim is lost. */
export async function replaceProviderThread(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  endedBy: 'rotated' | 'restored',
  copy: FilledCopy,
): Promise<Progress | null> {
  const { rows } = await pool.query('select replace_provider_thread($1, $2, $3, $4, $5) as noted', [
    dispatcherId,
    id,
    attempts,
    endedBy,
    jsonbText(copy),
  ])
  return rows[0].noted
}

/** Gives the copy to another thread, unless that cannot have it: `refused` says why. `noted` null: the claim is lost. */
export async function giveProviderThread(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  to: string,
  copy: FilledCopy,
): Promise<{ noted: Progress | null; refused: string | null }> {
  const { rows } = await pool.query({
    text: 'select noted, refused from give_provider_thread($1, $2, $3, $4, $5)',
    values: [dispatcherId, id, attempts, to, jsonbText(copy)],
  })
  return rows[0]
}

/** Why a thread cannot be what a fork makes; null: it can. */
export async function readForkTargetProblem(pool: pg.Pool, to: string): Promise<string | null> {
  const { rows } = await pool.query('select fork_target_problem($1) as problem', [to])
  return rows[0].problem
}

/** Has those of these threads rotated that are over a limit of their policy. See `request_rotations`. */
export async function requestRotations(
  pool: pg.Pool,
  dispatcherId: string,
  threads: readonly string[],
): Promise<{ rotates: boolean; ready: boolean }> {
  const { rows } = await pool.query('select rotates, ready from request_rotations($1, $2)', [
    dispatcherId,
    threads,
  ])
  return rows[0]
}
