import type pg from 'pg'
import type { KindInLine } from '../model/operation.ts'
import type { Cancellation, Outcome } from '../model/outcome.ts'
import type { RetryPolicy } from '../model/retry.ts'
import type { ProviderName } from '../model/thread.ts'
import { jsonbText } from './jsonb-text.ts'
import type { Intent, Progress } from './progress.ts'

/** An operation that this dispatcher holds, with what it needs of its thread. */
export type ClaimedOperation = {
  id: number
  thread_id: string
  operation: KindInLine
  data: Record<string, unknown>
  turn: number
  /** Number of claims so far, this one included. Together with the dispatcher it is the fence. */
  attempts: number
  /** Attempts that counted against the limit of the retry policy. */
  failures: number
  provider: ProviderName
  intent: Intent | null
  progress: Progress | null
  provider_thread_id: string | null
  last_item_id: string | null
  /** When the message came that is the newest item of the thread, by the database's clock (ISO 8601); null: the newest is something else. */
  last_message_at: string | null
  /** Number of its provider thread: 1, 2, 3 …; 0 while it never had one. */
  generation: number
  /** The conversation that it was inserted for was deleted before its turn. */
  is_ended: boolean
  /** The caller's own retry policy. */
  retry: RetryPolicy | null
  /** On whose behalf; the caller's own id. */
  user_id: string | null
  /** Operations whose messages its run answers as well, in their order. */
  merges: number[] | null
  /** Somebody wants it cancelled, and wanted so before this claim began. */
  cancellation: Cancellation | null
  /** When this claim began, by the database's clock (ISO 8601). */
  claimed_at: string
  /** Age of the intent at that moment, in milliseconds by the database's clock; null: there is no intent. */
  intent_age_ms: number | null
}

export type Settlement = { operation: ClaimedOperation; outcome: Outcome }

export type Round = {
  settlements: readonly Settlement[]
  /** Lines to look at again: this dispatcher emptied them while other transactions were open. */
  emptied: readonly string[]
  free: number
  providers: readonly string[]
  defaultProvider: string
  /** Highest first; null looks up which there are. */
  priorities: readonly number[] | null
  /** For each priority: no live mark lies below; null looks at everything. */
  floors: readonly (string | null)[] | null
  /** Takes back that this dispatcher sleeps. */
  awake: boolean
  /** As a prepared statement: a tenth faster, but not through a pooler that cannot carry them. */
  prepared: boolean
}

export type RoundResult = {
  /** Settlements that changed nothing, because the claim had been lost. */
  late: number
  /** Lines looked at (those settled and those given as emptied) in which nobody waits. */
  emptied: string[]
  oldestXid: bigint
  nextXid: bigint
  claimed: ClaimedOperation[]
  /** As many heads as slots: there may be more. */
  fullHouse: boolean
  /** Those it looked at for heads, and their floors for the next time; null when it claimed nothing. */
  priorities: number[] | null
  floors: (string | null)[] | null
}

/** Settles, promotes and claims in one round trip and one commit. See `settle_and_claim` in the migrations. */
export async function settleAndClaim(
  client: pg.ClientBase,
  dispatcherId: string,
  round: Round,
): Promise<RoundResult> {
  const { rows } = await client.query({
    name: round.prepared ? 'settle_and_claim' : undefined,
    text: `select late, emptied, oldest_xid::text, next_xid::text, claimed, full_house, priorities, floors::text[]
             from settle_and_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    values: [
      dispatcherId,
      round.settlements.map(({ operation }) => operation.id),
      outcomesById(round.settlements),
      [...round.settlements.map(({ operation }) => operation.thread_id), ...round.emptied],
      round.free,
      round.providers,
      round.defaultProvider,
      round.priorities,
      round.floors,
      round.awake,
    ],
  })
  const row = rows[0]
  return {
    late: row.late ?? 0,
    emptied: row.emptied ?? [],
    oldestXid: BigInt(row.oldest_xid),
    nextXid: BigInt(row.next_xid),
    claimed: JSON.parse(row.claimed),
    fullHouse: row.full_house,
    priorities: row.priorities,
    floors: row.floors,
  }
}

/** As settle_and_claim reads them; what stays undefined here is left out there. */
function outcomesById(settlements: readonly Settlement[]): string {
  return jsonbText(
    Object.fromEntries(
      settlements.map(({ operation: { id, attempts }, outcome }) => [
        id,
        outcome.status === 'retry'
          ? {
              attempts,
              status: 'pending',
              error: outcome.error,
              failures: outcome.burnsAttempt ? 1 : 0,
              retry_ms: Math.min(Math.ceil(outcome.delayMs), longestPauseMs),
            }
          : outcome.status === 'holding'
            ? { attempts, status: 'processing', hold_ms: outcome.leaseMs }
            : outcome.status === 'requires_action'
              ? {
                  attempts,
                  status: 'requires_action',
                  result: outcome.result,
                  retry_ms: Math.min(Math.ceil(outcome.delayMs), longestPauseMs),
                }
              : outcome.status === 'held'
                ? { attempts, status: 'pending', error: outcome.error, held: true }
                : { ...outcome, attempts },
      ]),
    ),
  )
}

/** A provider may ask for any pause. */
const longestPauseMs = 7 * 24 * 3_600_000
