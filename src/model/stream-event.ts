import type { OperationStatus } from './operation.ts'
import type { RunStatus, ToolCall } from './run.ts'

/** The model has asked for an output of the caller's. */
type ToolCalled = { type: 'tool_call' } & Pick<ToolCall, 'call_id' | 'name' | 'arguments'>

/** What a run says while it goes on, in the words that both providers share. */
export type RunEvent =
  | { type: 'run_started'; run_id: string }
  /** `part` tells the parts of an answer apart; between two of them stands a newline. */
  | { type: 'text'; delta: string; part: string }
  | { type: 'refusal' | 'reasoning'; delta: string }
  | ToolCalled

/** What is written down of the runs of an operation. */
export type LoggedEvent =
  /** `run_id` is null where the provider's reply that named the run was lost. */
  | { type: 'run_started'; run_id: string | null }
  /** Further text of the answer. All of a run's, joined, is what `result.text` says of it. */
  | { type: 'text'; delta: string }
  /** Further text of a refusal, or of a summary of what the model thinks; no part of the answer. */
  | { type: 'refusal' | 'reasoning'; delta: string }
  | ToolCalled
  | { type: 'run_ended'; run_id: string | null; status: RunStatus }
  /** All text before is void: another run replaces the one that wrote it. */
  | { type: 'restarted' }

/** One event of an operation, as a reader of its stream gets it. */
export type StreamEvent = (
  | LoggedEvent
  /** The last one of every stream, whether or not there was a run; `result` tells the rest. */
  | { type: 'ended'; status: FinalStatus }
) & {
  /** 1, 2, 3 … for each operation, whoever has served it. */
  seq: number
  /** When it was written down, by the database's clock. */
  at: Date
}

export type FinalStatus = Extract<OperationStatus, 'completed' | 'failed' | 'cancelled'>
