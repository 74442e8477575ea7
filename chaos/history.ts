import type { HistoryEntry, RunEntry } from '../src/emulator/index.ts'

/** What an outsider says in a thread, that the judge can tell it apart. */
export const foreignText = 'An outsider speaks.'

/** An operation as the judge reads it. */
export type Judged = {
  id: number
  thread_id: string
  operation: string
  data: {
    message?: string
    instructions?: string | null
    tools?: unknown
    metadata?: Record<string, string>
  }
  status: string
  turn: number | null
  error: { code: string } | null
  result: { text?: string | null; run?: { id: string | null } } | null
}

/** What an operation leaves in the provider thread, in this order. */
export type Trace = { text: string; must: boolean }

/** Of one that ended as it should everything; of one that was given up, whatever it had come to. */
export function tracesOf(operation: Judged): Trace[] {
  const must = isAsIntended(operation)
  const texts = [operation.data.message, answerOf(operation.data)]
  return texts.flatMap((text) => (text === undefined ? [] : [{ text, must }]))
}

/** A run that calls a function fails for it: there is nobody to answer the call. */
export const isAsIntended = ({ data, status, error }: Judged): boolean =>
  data.tools === undefined
    ? status === 'completed'
    : status === 'failed' && error?.code === 'requires_action'

export const answerOf = ({ instructions }: Judged['data']): string | undefined =>
  instructions?.replace('Reply with exactly: ', '')

/** What was said in the name of operations: without outsiders, and without what a run that went wrong had begun. */
export function saidBy(history: readonly HistoryEntry[], runs: readonly RunEntry[]): string[] {
  const runOf = new Map(runs.map((run) => [run.id, run]))
  return history
    .filter(({ runId, role, text }) => {
      const run = runId === null ? undefined : runOf.get(runId)
      if (run === undefined) return text !== foreignText
      const wentWrong = /^(failed|expired|cancelled)$/.test(run.status)
      return !run.foreign && !(wentWrong && role === 'assistant')
    })
    .map(({ text }) => text)
}

/** Texts that stand there more often, or less often, than their traces allow. */
export function miscounted(
  said: readonly string[],
  traces: readonly Trace[],
): { twice: string[]; missing: string[] } {
  const texts = [...new Set([...said, ...traces.map(({ text }) => text)])]
  const times = (text: string) => said.filter((other) => other === text).length
  const most = (text: string) => traces.filter((trace) => trace.text === text).length
  const least = (text: string) => traces.filter((trace) => trace.must && trace.text === text).length
  return {
    twice: texts.filter((text) => times(text) > most(text)),
    missing: texts.filter((text) => times(text) < least(text)),
  }
}

/** Whether what was said are the traces in their order, those that need not be left out at will. */
export function isInOrder(said: readonly string[], traces: readonly Trace[]): boolean {
  const [trace, ...later] = traces
  if (trace === undefined) return said.length === 0
  if (said[0] === trace.text && isInOrder(said.slice(1), later)) return true
  return !trace.must && isInOrder(said, later)
}
