import type { Cancellation, Failure } from '../model/outcome.ts'
import type { Usage } from '../model/run.ts'
import type { Deleting, Emptying } from './deletions.ts'

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
  /** The provider thread that it fills with a copy, and that is nobody's yet. */
  copying?: {
    provider_thread_id: string
    /** Only so many of the last messages; null: all. */
    last: number | null
    /** How many items stand there already, and the last of them. */
    copied: number
    last_item_id: string | null
    /** When that came; null: nothing did. */
    at: string | null
  } | null
  /** The copy was given to its thread, which goes on in it. */
  assigned?: {
    provider_thread_id: string
    generation: number
    items: number
    left_out: number
    /** What the thread had before. */
    ended: { generation: number; provider_thread_id: string } | null
  }
}
