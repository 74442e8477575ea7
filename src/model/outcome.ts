import type { NamelessRun, Run, Usage } from './run.ts'

/** Why an operation failed or waits: what `thread_operations.error` holds. Never message content. */
export type Failure = {
  /** Stable word for programs, e.g. `rate_limited`, `provider_thread_not_found`. */
  code: string
  message: string
  /** HTTP status of the provider's answer, where there was one. */
  provider_status?: number
  /** The provider's request id, to quote to its support. */
  request_id?: string
  /** The call whose outcome is not known, e.g. `start_run`. */
  call?: string
  /** By when that call must show at the provider if it took effect: its deadline and the settle time (ISO 8601). */
  settles_at?: string
  /** The run of somebody else that holds the provider thread; null where the provider does not name it. */
  foreign_run_id?: string | null
  /** What rests or is full: `key/model`. */
  lane?: string
  /** The operation that is to blame: what is in the way, what superseded it, what it was merged into, who cancelled it. */
  operation_id?: number
}

/** Somebody wants an operation cancelled: a cancel_run, or an operation that interrupts. */
export type Cancellation = {
  /** The cancel_run. */
  operation_id: number
  /** The operation that interrupts, where one does. */
  interrupted_by: number | null
  /** In the caller's own words. */
  reason: string | null
}

/** What `thread_operations.result` holds for people who read it with SQL. */
export type OperationResult = {
  provider_thread_id?: string
  /** The message that was added; on `responses` one that travelled with its run is not told. */
  message_id?: string
  /** Operations whose messages the run answers as well, in their order. */
  merged?: number[]
  /** `id` is null where the provider's reply that named the run was lost. */
  run?: Pick<Run | NamelessRun, 'id' | 'status' | 'model' | 'incomplete_reason'>
  /** All that the assistant wrote in the run; null when it wrote nothing. */
  text?: string | null
  /** Of the whole turn: the run and those before it that asked for tool outputs. Null where one of them told none. */
  usage?: Usage | null
  /** Of a cancel_run: how its operation ended, or that it was over, or that there was none; of an expire_thread: what it came to. */
  outcome?: CancelOutcome | ExpiryOutcome
  /** The archive that was written, or that was restored. */
  archive_id?: number
  /** How many items were archived or copied. */
  items?: number
  /** How many of those to be copied were left out, or parts of them, because the copy's provider has no such thing. */
  left_out?: number
  /** The generation that the thread has now. */
  generation?: number
  /** The thread that a fork has made. */
  thread?: string
  /** The provider threads that were deleted, and what was seen then. */
  deleted?: DeletionProof[]
  /** Those that may still be there, and why. */
  not_deleted?: Array<{ generation: number; provider_thread_id: string; why: string }>
  /** Of what acts beside the line: the operation that it was about; left out where there was none. */
  operation_id?: number
  /** Of a submit_tool_outputs: the calls that it has answered, */
  call_ids?: string[]
  /** those of the round that are still open, */
  missing?: string[]
  /** and those whose outputs came too late. */
  ignored?: string[]
}

/** What came of a cancel_run. `completed`: its operation got its answer all the same. */
export type CancelOutcome = 'cancelled' | 'completed' | 'failed' | 'nothing_to_do'

/** What came of an expire_thread. `nothing_to_do`: the thread was active again, or has no provider thread. */
export type ExpiryOutcome = 'expired' | 'nothing_to_do'

/** What was seen when a provider thread was deleted; kept in `thread_generations.proof` too. */
export type DeletionProof = {
  generation: number
  provider_thread_id: string
  /** Items deleted one by one before. */
  items: number
  /** When the provider said that it does not know the thread (ISO 8601, database clock). */
  gone_at: string
}

/** What a handler returns; recorded in one place, by whoever still holds the claim. */
export type Outcome =
  | { status: 'completed'; result: OperationResult }
  | {
      status: 'retry'
      error: Failure
      delayMs: number
      /** False while waiting for something that is not the operation's fault: a foreign run, a rate limit. */
      burnsAttempt: boolean
    }
  /** Keeps its thread and frees its slot: claimed again when it is told to go on, or after `delayMs`. */
  | { status: 'requires_action'; result: OperationResult; delayMs: number }
  /** A hold whose turn has come: its caller has the thread for so long, in milliseconds, unless it is renewed or released. */
  | { status: 'holding'; leaseMs: number }
  /** Goes back to the head of its line and waits there until an operator resumes or cancels it. */
  | { status: 'held'; error: Failure }
  | { status: 'failed' | 'cancelled'; error: Failure; result?: OperationResult }
