import type { CallerTransaction } from '../db/query.ts'
import type { BusyStrategy, OperationKind } from '../model/operation.ts'
import type { RetryPolicy } from '../model/retry.ts'
import type { OperationData } from '../operations/data/index.ts'

/** Says how an operation is put into its line. */
export type JoinOptions = {
  /**
   * Your own name for this request, 1 to 255 characters, unique per thread: repeated with the same
   * operation and data it gives the operation that is there already.
   */
  idempotencyKey?: string
  /** From -100 to 100, default 0: among different threads, higher ones are served first. */
  priority?: number
  /**
   * How failures are retried, where it differs from the dispatcher's settings: for all classes of
   * errors, and for single ones: `{ max_attempts: 3, run: { max_attempts: 1 } }`.
   */
  retry?: RetryPolicy
  /** On whose behalf, by an id of yours, 1 to 255 characters: runs of one user can be limited. */
  userId?: string
  /** From when it stands in its line; it joins the tail then, and is in nobody's way before. Default: now. */
  scheduledAt?: Date
  /** What becomes of it where the thread is busy. Default: the thread's own, which is `enqueue` unless you set it. */
  ifBusy?: BusyStrategy
  /** Starts only when nothing was inserted for the thread for so many milliseconds, up to an hour. Default: the thread's own, or at once. */
  debounceMs?: number
  /** Longest wait for that, in milliseconds, up to a day. Default: the thread's own, or ten times `debounceMs`. */
  debounceMaxMs?: number
}

/** An operation to put into the line of `thread`; each kind has its own `data`. */
export type NewOperation<Kind extends OperationKind = OperationKind> = {
  [K in Kind]: {
    /** Any name of yours, 1 to 255 characters, or the provider's own `thread_…` or `conv_…` id. */
    thread: string
    operation: K
    data: OperationData<K>
  } & JoinOptions
}[Kind]

export type EnqueueOptions = {
  /**
   * Your own open transaction, which the rows then join: a `pg` client on which you have sent BEGIN, or
   * the client that Prisma's `$transaction` hands to its callback. Default: committed at once.
   */
  transaction?: CallerTransaction
}
