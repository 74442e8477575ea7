import type pg from 'pg'
import type { DeletionProof } from '../model/outcome.ts'
import type { ProviderName } from '../model/thread.ts'
import { jsonbText } from './jsonb-text.ts'
import type { Progress } from './progress.ts'
import type { ClaimOfCalls } from './tool-calls.ts'

/** What was decided when the conversation was ended. */
export type Deleting = {
  at: string
  /** Later operations begin a new conversation. */
  reopen: boolean
  /** The archive that was written before. */
  archive_id: number | null
  /** The provider thread that has expired and is to be deleted; null: it stays, or all of the thread's are. */
  expired: { generation: number; provider_thread_id: string } | null
}

/** How far the deletion of a provider thread is. */
export type Emptying = {
  generation: number
  /** When it began. */
  since: string
  /** Items deleted so far. */
  items: number
  /** None is left: the provider thread itself is deleted next, or was. */
  done: boolean
}

/** A provider thread that is to be deleted. */
export type DeletionFacts = {
  provider: ProviderName
  /** What was seen when it was deleted; null: as far as is known it is there. */
  proof: DeletionProof | null
  /** Since when no operation has written to it (ISO 8601, database clock). */
  quiet_since: string
}

/** What is known of a provider thread of the operation's thread; null: it never had such a one. */
export async function readDeletionFacts(
  pool: pg.Pool,
  operationId: number,
  generation: number,
): Promise<DeletionFacts | null> {
  const { rows } = await pool.query(
    'select provider, proof, to_jsonb(quiet_since) as quiet_since from deletion_facts($1, $2)',
    [operationId, generation],
  )
  return rows[0] ?? null
}

/** What a delete_thread does where it says nothing itself. */
export async function readDeletionDefaults(
  pool: pg.Pool,
  threadId: string,
): Promise<{ archives: boolean; reopens: boolean }> {
  const { rows } = await pool.query('select archives, reopens from deletion_defaults($1)', [
    threadId,
  ])
  return rows[0]
}

/** Every provider thread that a thread ever had, oldest first. */
export async function readGenerations(
  pool: pg.Pool,
  threadId: string,
): Promise<Array<{ generation: number; provider: ProviderName; provider_thread_id: string }>> {
  const { rows } = await pool.query(
    `select generation, provider, provider_thread_id from thread_generations
      where thread_id = $1 order by generation`,
    [threadId],
  )
  return rows
}

/** Which time to live is over of the thread of an expire_thread, and what its policy wants done then; null: none is. */
export async function readExpiry(
  pool: pg.Pool,
  operationId: number,
): Promise<{ expired_by: string; on_expiry: string } | null> {
  const { rows } = await pool.query('select expired_by, on_expiry from expiry_of($1)', [
    operationId,
  ])
  return rows[0] ?? null
}

/** Writes down that a provider thread was seen to be gone, and gives the proof. */
export async function noteDeletion(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  generation: number,
  items: number,
): Promise<DeletionProof | null> {
  const { rows } = await pool.query('select note_deletion($1, $2, $3, $4, $5) as proof', [
    dispatcherId,
    id,
    attempts,
    generation,
    items,
  ])
  return rows[0].proof
}

/**
 * Ends the conversation of the operation's thread, before anything of it is deleted; from now on the
 * operation is not cancelled any more. Gives what is noted as progress; null: the claim is lost; as for the
 * others.
 */
export async function endConversation(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  endedBy: 'deleted' | 'expired',
  facts: Omit<Deleting, 'at'>,
): Promise<Progress | null> {
  const { rows } = await pool.query('select end_conversation($1, $2, $3, $4, $5) as noted', [
    dispatcherId,
    id,
    attempts,
    endedBy,
    jsonbText(facts),
  ])
  return rows[0].noted
}

/** Says that the conversation was deleted; `erases`: nor is anything to be left of what its operations hold. */
export async function finishDeletion(
  pool: pg.Pool,
  { dispatcherId, id, attempts }: ClaimOfCalls,
  erases: boolean,
): Promise<boolean> {
  const { rows } = await pool.query('select finish_deletion($1, $2, $3, $4) as still_mine', [
    dispatcherId,
    id,
    attempts,
    erases,
  ])
  return rows[0].still_mine
}
