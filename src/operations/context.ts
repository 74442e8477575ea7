import type pg from 'pg'
import type { Outcome } from '../model/outcome.ts'
import type { ProviderName } from '../model/thread.ts'
import type { DeadlinePolicy } from '../model/tool-deadline.ts'
import type { CallOptions, Provider } from '../provider/provider.ts'
import type { ClaimedOperation } from '../store/claim.ts'
import type { Journal } from './journal.ts'
import type { OperationStream } from './operation-stream.ts'

/** What a handler works with. */
export type OperationContext<Data = unknown> = {
  operation: ClaimedOperation
  /** Checked by the operation's schema. */
  data: Data
  /** Of its thread. */
  provider: Provider
  /** All that this dispatcher has settings for. */
  providers: Partial<Record<ProviderName, Provider>>
  /** For every call of the provider. */
  call: CallOptions
  journal: Journal
  /** What its runs say. */
  stream: OperationStream
  /** Aborted when somebody wants the operation cancelled; its reason is the `Cancellation`. */
  cancelWanted: AbortSignal
  /**
   * Called just before a new run is sent, with the model that it names. Throws where its lane rests or
   * has as many runs as it may have: the operation goes back, and no attempt is burnt.
   */
  enterLane: (model: string | null) => Promise<void>
  pool: pg.Pool
  /** Longest wait for a run of somebody else, in milliseconds. */
  foreignRunMs: number
  /** Longest time that a run may take, in milliseconds. */
  runTimeoutMs: number
  /** Where the operation itself says nothing: the time that tool calls have, in milliseconds, and what then becomes of them. */
  tools: { deadlineMs: number; onDeadline: DeadlinePolicy }
  /** A call of which nothing is found is for an operator to judge; otherwise it is sent again. */
  holdsUnknown: boolean
  /** False: it is only looked whether what was sent before took effect. */
  hasAttemptsLeft: boolean
}

/**
 * Executes one claimed operation, from wherever an earlier attempt has left it. Throws Refusal,
 * ProviderError, RunFailed, NotYet or Held, which say what is to become of it.
 */
export type Handler<Data> = (context: OperationContext<Data>) => Promise<Outcome>

/** Our own id on the provider's objects. */
export const tagOf = ({ operation }: OperationContext): string => String(operation.id)
