/** How a run ended, in the words both providers share. `requires_action`: it waits for tool outputs. */
export type RunStatus =
  | 'completed'
  | 'incomplete'
  | 'failed'
  | 'expired'
  | 'cancelled'
  | 'requires_action'

/** Tokens as the provider billed them. */
export type Usage = { input_tokens: number; output_tokens: number; total_tokens: number }

/** Null where one of them is not known. */
export function addUsage(one: Usage | null, other: Usage | null): Usage | null {
  if (one === null || other === null) return null
  return {
    input_tokens: one.input_tokens + other.input_tokens,
    output_tokens: one.output_tokens + other.output_tokens,
    total_tokens: one.total_tokens + other.total_tokens,
  }
}

/** Something of the caller's own that the model asked for, and that waits for its output. */
export type ToolCall = {
  /** `function_call`, or the type of the item that asks: `custom_tool_call`, `shell_call` … */
  type: string
  call_id: string
  name: string
  arguments: string
}

/** What the model reads of a call: text, or content parts where the provider takes them. */
export type CallOutput = string | ReadonlyArray<Record<string, unknown>>

/** A call with its output; `is_error`: it says what went wrong in place of an answer. */
export type AnsweredCall = ToolCall & { output: CallOutput; is_error: boolean }

/** A run that is over (or waits for tool outputs), in the shape that `result.run` shows to SQL users. */
export type Run = {
  /** `run_…` (Assistants) or `resp_…` (Responses). */
  id: string
  status: RunStatus
  model: string | null
  /** Why an incomplete run stopped, e.g. `max_output_tokens`. */
  incomplete_reason: string | null
  /** The provider's own error of a failed run. */
  error: { code: string; message: string } | null
  usage: Usage | null
  /** All text that the assistant wrote in this run, parts joined by newlines; null when it wrote none. */
  text: string | null
  /** Calls left unanswered at the end; empty unless the model asked for the caller's functions. */
  tool_calls: ToolCall[]
  /** The last thing that the run has added to its provider thread; null when it added nothing. */
  last_item_id: string | null
}

/** A run that was found by what it wrote: the reply that named it was lost, and runs cannot be listed. */
export type NamelessRun = Omit<Run, 'id'> & { id: null }
