/**
 * The places between claim and settle at which a process can die with a different part of the truth
 * written down. A recovery test kills a real process at each of them.
 */
export const points = [
  /** The operation is claimed; nothing else has happened. */
  'claimed',
  /** A call is decided on; the intent is not written yet. */
  'before_intent',
  /** The intent is written; the provider has not heard of the call. */
  'before_send',
  /** The provider has answered; nothing of the answer is written down. */
  'after_send',
  /** A run has told its id; the id is not written down. */
  'run_named',
  /** What was learned is written down. */
  'after_note',
  /** What a run asks for, or what its calls are given at the end, is written down; nothing else of it. */
  'after_calls',
  /** What was learned of the thread is written down. */
  'after_thread_note',
  /** A tool is about to be run for a call. */
  'tool_claimed',
  /** The tool has returned; its output is not stored. */
  'tool_returned',
  /** The output is stored; nobody acts on it yet. */
  'tool_answered',
  /** The outcome is known; it is not settled. */
  'before_settle',
  /** The outcome is settled and committed; the dispatcher does not act on it yet. */
  'after_settle',
] as const
export type Point = (typeof points)[number]

/** Called when an operation reaches a point; for tests. */
export type OnPoint = (point: Point, operation: { id: number; operation: string }) => void
