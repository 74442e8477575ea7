import type pg from 'pg'
import type { KindInLine } from '../model/operation.ts'
import type { Cancellation, Failure, Outcome } from '../model/outcome.ts'
import type { RetryPolicy } from '../model/retry.ts'
import type { Usage } from '../model/run.ts'
import type { ProviderName } from '../model/thread.ts'
import type { Deleting, Emptying } from './deletions.ts'
import { jsonbText } from './jsonb-text.ts'

/** What a dispatcher was about to send when it wrote this down; of unknown outcome until progress says more. */
export type Intent = {
  call: string
  /** Newest provider item known before the call; null: there was none. */
  after: string | null
  /** Deadline of the call, in milliseconds. */
  timeout_ms: number
  /** By the database's clock, which writes it; left out when the intent is new. */
  at?: string
  /** An operator has said that the call took no effect: where nothing is found of it, it is sent again at once. */
  resend?: boolean
  /** From `at` on nothing that the call may have started is going on: only reads may lag behind. */
  free?: boolean
  /** An operator has sent the operation back into its line since. */
  sent_back?: boolean
  /** The operations whose messages the call carries, in their order; the first is the one that sends it. */
  batch?: number[]
}

/** What is known to exist at the provider for this operation. */
export type Progress = {
  provider_thread_id?: string
  message_id?: string
  /** Messages of the operations merged into it that were added one by one, in their order. */
  merged_message_ids?: string[]
  /** The latest run; it is over for good when it is among the failed ones. */
  run_id?: string
  /** When that run began, by the database's clock (ISO 8601), as do all times here. */
  run_since?: string
  /** The newest item that was added on the way, other than the message. */
  last_item_id?: string
  /** Newest item of the provider thread before the first run; null when it held none. */
  after?: string | null
  /** Runs that failed and were, or will be, replaced by another. */
  failed_run_ids?: string[]
  /** Where the answer of a run whose id was lost was found: after which item, and whether behind its message. */
  answered?: { after: string | null; message: boolean } | null
  /** The latest round of tool calls. */
  asked?: {
    round: number
    /** The latest run known then: the one that asked, where it has told its id. */
    run_id: string | null
    /** When that run began. */
    since: string
    model: string | null
    /** Of all runs of the turn so far; null where one of them told none. */
    usage: Usage | null
    /** This very run has got the outputs and goes on. */
    taken?: boolean
  }
  /** How the operation ends whose turn is given up, once nothing of it stands in anybody's way. */
  abandoned?: { status: 'failed' | 'cancelled'; error: Failure }
  /** The run that is being cancelled: because somebody wants it, or else because it took too long. */
  stopping?: { run_id: string; since: string; cancellation?: Cancellation }
  /** The run of somebody else that holds the provider thread; its id is null where nobody tells it. */
  foreign_run?: { id: string | null; since: string } | null
  /** What exists and cannot be read, by the provider's answer. */
  missing?: { code: string; since: string } | null
  /** A message that was added in the same second as the one before it, and is being taken back. */
  misplaced?: string | null
  /** Calls that others had left unanswered in the conversation were answered for them. */
  repaired?: boolean
  /** The metadata of the provider thread was replaced. */
  overwritten?: boolean
  /** The turn that the operation had before an operator first sent it back into its line. */
  sent_back?: number
  /** The archive that it writes, begun in this turn: up to which position, and behind which item the next page begins. */
  archiving?: {
    archive_id: number
    provider_thread_id: string
    turn: number
    after: string | null
    position: number
    /** When it was first begun in this turn. */
    since: string
  }
  /** The archive that it has completed. */
  archived?: {
    archive_id: number
    provider_thread_id: string
    turn: number
    items: number
    last_item_id: string | null
  }
  /** The conversation is being deleted, which is carried to its end whoever wants it cancelled. */
  deleting?: Deleting
  /** How far the deletion of the provider thread is that is being deleted now. */
  emptying?: Emptying
}

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
