import type { HistoryEntry, RunEntry } from '../src/emulator/index.ts'

/** What an outsider says in a thread, that the judge can tell it apart. */
export const foreignText = 'An outsider speaks.'
/** What it is answered; it counts where an archive no longer tells whose run it was. */
const foreignAnswer = 'A foreign run was here.'

/** Said by an outsider, or to him. */
export const isForeign = (text: string): boolean => text === foreignText || text === foreignAnswer

/** An operation as the judge reads it. */
export type Judged = {
  id: number
  thread_id: string
  operation: string
  data: {
    message?: string
    instructions?: string | null
    tools?: Array<{ name: string }>
    metadata?: Record<string, string>
  }
  status: string
  turn: number | null
  /** Not null: it joined its line later. */
  scheduled_at: Date | null
  /** What it acts on, where it acts beside the line. */
  target_id: number | null
  /** Those whose messages its run answers as well. */
  merges: number[] | null
  error: { code: string; operation_id?: number } | null
  result: { text?: string | null; run?: { id: string | null }; outcome?: string } | null
}

/** What an operation leaves in the provider thread, in this order. */
export type Trace = { text: string; must: boolean }

/**
 * Of one that ended as it should everything, with the messages that it took along; of one that was given
 * up or cancelled, whatever it had come to.
 */
export function tracesOf(operation: Judged, merged: readonly Judged[] = []): Trace[] {
  const must = operation.status === 'completed'
  const messages = [...merged, operation].map(({ data }) => data.message)
  const texts = [...messages, answerOf(operation.data)]
  return texts.flatMap((text) => (text === undefined ? [] : [{ text, must }]))
}

/** What a tool gave is told by whoever answered its call, or by the deadline: which tool it was is enough. */
export const answerOf = ({ instructions, tools }: Judged['data']): string | undefined =>
  tools ? `According to ${tools[0]?.name}` : instructions?.replace('Reply with exactly: ', '')

export const plainly = (text: string): string =>
  text.replace(/^(According to \w+): .*$/s, (_, beginning) => beginning)

/** What was said in the name of operations: without outsiders, and without what a run that went wrong had begun. */
export function saidBy(history: readonly HistoryEntry[], runs: readonly RunEntry[]): string[] {
  const runOf = new Map(runs.map((run) => [run.id, run]))
  return history
    .filter(({ runId, role, text }) => {
      const run = runId === null ? undefined : runOf.get(runId)
      if (run === undefined) return !isForeign(text)
      const wentWrong = /^(failed|expired|cancelled)$/.test(run.status)
      return !run.foreign && !(wentWrong && role === 'assistant')
    })
    .map(({ text }) => plainly(text))
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
