/** What becomes of tool calls that nobody has answered by their deadline. */
export const deadlinePolicies = [
  /** They are answered with an error, which the model reads, and the run goes on. */
  'answer',
  /** The run is ended and the operation fails. */
  'cancel',
] as const
export type DeadlinePolicy = (typeof deadlinePolicies)[number]

/** Longest time that tools can have, in milliseconds: a week. */
export const toolDeadlineMaxMs = 604_800_000
