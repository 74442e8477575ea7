/** One entry of the history that the model sees. */
export type Turn =
  | { role: 'user' | 'assistant' | 'system' | 'developer'; text: string }
  | { role: 'tool_call'; callId: string; name: string; arguments: string }
  | { role: 'tool_output'; callId: string; output: string }

/** A function that the model may call; `parameters` is its JSON schema. */
export type ModelTool = {
  name: string
  description: string
  parameters: Record<string, unknown>
}

export type ModelRequest = {
  instructions: string | null
  /** Oldest first. */
  history: readonly Turn[]
  tools: readonly ModelTool[]
  /** `{ name }`: that function and no other. */
  toolChoice: 'auto' | 'none' | 'required' | { name: string }
  parallelToolCalls: boolean
}

/** `arguments` is JSON text. */
export type ModelCall = { name: string; arguments: string }
/** `reasoning`: with a reasoning item before it (Responses only), which belongs to it from then on. */
export type ModelReply = ({ text: string } | { toolCalls: ModelCall[] }) & { reasoning?: boolean }

/** Everything the model answers follows from what it is given, so that a test can be repeated. */
export type Model = (request: ModelRequest) => ModelReply | Promise<ModelReply>

/** All text of a request, for counting what goes in. */
export const textsOf = ({ instructions, history }: ModelRequest): Array<string | null> => [
  instructions,
  ...history.map((turn) => {
    if (turn.role === 'tool_call') return turn.arguments
    return turn.role === 'tool_output' ? turn.output : turn.text
  }),
]
