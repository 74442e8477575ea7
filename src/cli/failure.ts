import { CommanderError } from 'commander'
import { InturnError } from '../errors.ts'

/** A command line that parses but makes no sense; exit code 2, as for unknown options. */
export class UsageError extends InturnError {
  constructor(message: string, hint?: string) {
    super('usage', message, { hint })
  }
}

/** The command was ended by a signal; there is nothing to say about it. */
export class Interrupted extends Error {
  readonly exitCode: number

  constructor(exitCode: number) {
    super('interrupted')
    this.exitCode = exitCode
  }
}

/** Writes the error for people: what is wrong, and what to do. Stacks only when asked for. */
export function report(error: unknown, { verbose }: { verbose: boolean }): void {
  // Commander has said what it has to say.
  if (error instanceof CommanderError || error instanceof Interrupted) return
  const { message, hint, stack } = error as Error & { hint?: string }
  const lines = [`error: ${error instanceof Error ? message : String(error)}`]
  if (hint) lines.push(`hint: ${hint}`)
  if (verbose && stack) lines.push(stack)
  process.stderr.write(`${lines.join('\n')}\n`)
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof Interrupted) return error.exitCode
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  const wrong = error instanceof InturnError && ['usage', 'config_invalid'].includes(error.code)
  return wrong ? 2 : 1
}
