import { z } from 'zod'
import type { Tool } from '../model/tool.ts'
import type { ClaimedCall } from '../store/tool-claims.ts'

/** What the model reads of a call. `cause`: what the tool threw, which it does not read. */
export type ToolAnswer = { output: string; isError: boolean; cause?: unknown }

const defaultTimeoutMs = 60_000

/**
 * Runs one call. Arguments that do not fit, an exception and a timeout become an output that says so.
 * Null: `signal` was aborted, and nobody wants the output any more. Never rejects.
 */
export async function runTool(
  tool: Tool,
  call: ClaimedCall,
  signal: AbortSignal,
): Promise<ToolAnswer | null> {
  const { timeoutMs = defaultTimeoutMs } = tool
  const timeout = AbortSignal.timeout(timeoutMs)
  const either = AbortSignal.any([signal, timeout])
  const over = Promise.withResolvers<null>()
  either.addEventListener('abort', () => over.resolve(null), { once: true })
  if (signal.aborted) return null
  // A tool that does not listen to its signal is not waited for.
  const answer = await Promise.race([answerOf(tool, call, either), over.promise])
  if (signal.aborted) return null
  return timeout.aborted ? failed(`The tool took longer than ${timeoutMs} ms.`) : answer
}

async function answerOf(tool: Tool, call: ClaimedCall, signal: AbortSignal): Promise<ToolAnswer> {
  const given = parse(call)
  if (given === undefined) return failed('The arguments are no JSON.')
  try {
    const args = await tool.arguments.safeParseAsync(given)
    if (!args.success) return failed(`The arguments do not fit: ${z.prettifyError(args.error)}`)
    const { call_id, attempts, operation_id, thread_id } = call
    const context = {
      callId: call_id,
      attempt: attempts,
      signal,
      operationId: operation_id,
      threadId: thread_id,
    }
    const value = await tool.run(args.data, context)
    return {
      output: typeof value === 'string' ? value : (JSON.stringify(value) ?? 'null'),
      isError: false,
    }
  } catch (error) {
    // By its name: the tools may have another copy of this package.
    if (error instanceof Error && error.name === 'ToolError') return failed(error.message)
    return { ...failed('The tool failed.'), cause: error }
  }
}

/** JSON of a function, the text of a custom tool; undefined: no JSON. A model may leave out what is empty. */
function parse({ type, arguments: given }: ClaimedCall): unknown {
  if (type === 'custom_tool_call') return given
  try {
    return given.trim() === '' ? {} : JSON.parse(given)
  } catch {
    return undefined
  }
}

const failed = (error: string): ToolAnswer => ({ output: JSON.stringify({ error }), isError: true })
