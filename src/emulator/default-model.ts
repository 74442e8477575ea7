import { longText } from './long-text.ts'
import type { Model, ModelCall, ModelRequest, Turn } from './model.ts'
import { argumentsFor } from './tool-arguments.ts'
import { neededTools } from './tool-choice.ts'

/**
 * The deterministic default. In this order:
 * answers tool outputs with what they say; "reply with exactly: X" with X; calls the function that
 * the message names or needs; recalls "my … is …"; writes long when asked to; else quotes the message.
 */
export const defaultModel: Model = (request) => {
  const outputs = trailingOutputs(request.history)
  if (outputs.length > 0) return { text: fromOutputs(request.history, outputs) }

  const said = request.history.flatMap((turn) => (turn.role === 'user' ? [turn.text] : []))
  const message = said.at(-1) ?? ''
  const exact = exactReply(message) ?? exactReply(request.instructions ?? '')
  if (exact !== null) return { text: exact }

  const toolCalls = callsFor(message, request)
  if (toolCalls.length > 0) return { toolCalls }

  return { text: recall(message, said) ?? longText(message) ?? acknowledge(message) }
}

function trailingOutputs(history: readonly Turn[]): Array<Turn & { role: 'tool_output' }> {
  const last = history.findLastIndex((turn) => turn.role !== 'tool_output')
  return history.slice(last + 1).filter((turn) => turn.role === 'tool_output')
}

function fromOutputs(
  history: readonly Turn[],
  outputs: ReadonlyArray<Turn & { role: 'tool_output' }>,
): string {
  const sentences = outputs.map(({ callId, output }) => {
    const call = history.find((turn) => turn.role === 'tool_call' && turn.callId === callId)
    return `According to ${call?.role === 'tool_call' ? call.name : 'the tool'}: ${output}`
  })
  return sentences.join('\n')
}

function exactReply(text: string): string | null {
  const found = /\b(?:reply|respond|answer|say) (?:back )?(?:with )?exactly:?\s+(.+)$/is.exec(text)
  const exact = found?.[1]?.trim()
  return exact?.replace(/^(["'`])(.*)\1$/s, '$2') ?? null
}

function callsFor(message: string, request: ModelRequest): ModelCall[] {
  return neededTools(message, request).map((tool) => ({
    name: tool.name,
    arguments: JSON.stringify(argumentsFor(tool.parameters, message)),
  }))
}

/** "My name is Ada." said earlier answers "What is my name?" now; the latest statement wins. */
function recall(message: string, said: readonly string[]): string | null {
  const asked = /\bwhat(?:'s|’s| is| was) my ([\p{L} ]+?)(?: and\b.*)?[?.!]*$/iu.exec(
    message.trim(),
  )
  const subject = asked?.[1]?.toLowerCase()
  if (subject === undefined) return null
  for (const text of said.toReversed()) {
    for (const found of text.matchAll(/\bmy ([\p{L} ]+?) is ([^.!?,;\n]+)/giu)) {
      if (found[1]?.toLowerCase() === subject) return `Your ${subject} is ${found[2]?.trim()}.`
    }
  }
  return `You have not told me your ${subject}.`
}

function acknowledge(message: string): string {
  if (message === '') return 'How can I help?'
  const quoted = message.length > 120 ? `${message.slice(0, 120)}…` : message
  return `Noted: "${quoted}"`
}
