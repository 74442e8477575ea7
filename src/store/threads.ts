import type pg from 'pg'
import type { ProviderName } from '../model/thread.ts'
import { locked, whileLocked } from './while-locked.ts'

/** What is known of a thread at its provider; what is left out stays as it is. */
export type ThreadFacts = {
  provider?: ProviderName
  provider_thread_id?: string | null
  last_item_id?: string | null
  /** When the message came that is the newest item (ISO 8601); null: the newest is something else. */
  last_message_at?: string | null
  metadata?: Record<string, string>
}

/** The claim in whose name facts are written: a dispatcher that lost it changes nothing. */
export type Fence = { dispatcherId: string; id: number; attempts: number; thread_id: string }

/**
 * Writes down what a claim has learned of its thread. Waits for nobody's lock but comes back until the
 * row is free; rejects when `signal` aborts before.
 */
export async function noteThread(
  pool: pg.Pool,
  fence: Fence,
  facts: ThreadFacts,
  signal: AbortSignal,
): Promise<void> {
  await whileLocked(signal, async () => {
    const { rows } = await pool.query({
      text: `with free as (
               select t.id from threads t where t.id = $1 for no key update skip locked
             ), done as (
               update threads t
                  set (provider, provider_thread_id, last_item_id, last_message_at, metadata, updated_at, last_active_at) = (
                        select f.provider, f.provider_thread_id, f.last_item_id, f.last_message_at, f.metadata,
                               clock_timestamp(),
                               -- An index has it: written once a minute, it costs a busy thread nothing.
                               case when t.last_active_at < clock_timestamp() - interval '1 minute'
                                    then clock_timestamp() else t.last_active_at end
                          from jsonb_populate_record(t, $2) f)
                 from free
                where t.id = free.id
                  and exists (select from thread_operations o
                               where o.id = $3 and o.claimed_by = $4 and o.attempts = $5)
             )
             select exists (select from free) or not exists (select from threads t where t.id = $1) as free`,
      values: [
        fence.thread_id,
        JSON.stringify(facts),
        fence.id,
        fence.dispatcherId,
        fence.attempts,
      ],
    })
    return rows[0].free ? undefined : locked
  })
}

/** The model of the latest run of a thread, among its last operations; null where that is not known. */
export async function latestModel(pool: pg.Pool, threadId: string): Promise<string | null> {
  const { rows } = await pool.query({
    text: `select last.model from (
             select o.turn, o.result #>> '{run,model}' as model from thread_operations o
              where o.thread_id = $1 and o.turn is not null order by o.turn desc limit 20) as last
            where last.model is not null order by last.turn desc limit 1`,
    values: [threadId],
  })
  return rows[0]?.model ?? null
}
