import type { z } from 'zod'

/** What a tool is told beside its arguments. */
export type ToolContext = {
  /** The provider's id of this call: the idempotency key for whatever the tool does. */
  callId: string
  /** 1 at first; more where a dispatcher died or stopped while it ran the call. */
  attempt: number
  /** Aborted when the output is not wanted any more: the time is up, the operation is cancelled, the dispatcher stops. */
  signal: AbortSignal
  operationId: number
  threadId: string
}

export type Tool<Arguments extends z.ZodType = z.ZodType> = {
  /** What the model must give; else it reads what is wrong, and the tool does not run. */
  arguments: Arguments
  /** Longest time that one call may take, in milliseconds. Default 60000. */
  timeoutMs?: number
  /** What the model reads: text as it is, anything else as JSON. Throw a ToolError to tell it what went wrong. */
  run(args: z.output<Arguments>, context: ToolContext): unknown
}

/** Tools by the names under which the model calls them. */
export type Tools = Readonly<Record<string, Tool>>

/** What the model is to read in place of an answer. Of any other error it reads only that the tool failed. */
export class ToolError extends Error {
  override readonly name = 'ToolError'
}

/**
 * One tool, whose `run` gets the arguments as its schema types them.
 *
 * @example
 * tool({ arguments: z.object({ city: z.string() }), run: ({ city }) => `21 degrees in ${city}` })
 */
export const tool = <Arguments extends z.ZodType>(definition: Tool<Arguments>): Tool<Arguments> =>
  definition

/**
 * The default export of a module for `inturn dispatch --tools`.
 *
 * @example
 * export default defineTools({ get_weather: tool({ … }) })
 */
export function defineTools<const Given extends Record<string, Tool<any>>>(tools: Given): Given {
  return tools
}

/** What is wrong with the default export of such a module, and what to write; null when it is fine. */
export function toolsProblem(given: unknown): string | null {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    return 'its default export is no object of tools: write export default defineTools({ … })'
  const names = Object.keys(given)
  if (names.length === 0) return 'its default export names no tool'
  for (const name of names) {
    const one = (given as Record<string, Partial<Tool> | null>)[name]
    if (typeof one?.run !== 'function')
      return `tool "${name}" has no function "run": write tool({ arguments: z.object({ … }), run(args) { … } })`
    if (typeof one.arguments?.safeParseAsync !== 'function')
      return `"arguments" of tool "${name}" is no zod schema: write z.object({ … })`
    const { timeoutMs = 1 } = one
    if (!Number.isInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > longestTimeoutMs)
      return `"timeoutMs" of tool "${name}" must be a whole number from 1 to ${longestTimeoutMs}`
  }
  return null
}

/** A day. */
const longestTimeoutMs = 86_400_000
