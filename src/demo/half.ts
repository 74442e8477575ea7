import type { Emulator, HistoryEntry } from '../emulator/index.ts'
import type { ProviderName } from '../model/thread.ts'

/** What both halves of the stress test are given. */
export type HalfOptions = {
  provider: ProviderName
  /** Serves this half alone, so that what it counted is this half's. */
  emulator: Emulator
  workers: number
  iterations: number
  signal: AbortSignal
  onProgress: (done: number) => void
}

/** What came of one half; times are in milliseconds. */
export type Half = {
  /** Iterations whose run was completed. */
  gotThrough: number
  of: number
  /** Lock errors that the provider served. */
  conflicts: number
  /** Every message is there, each worker's in its sequence, and each was answered before the next came. */
  inOrder: boolean
  wallMs: number
  /** Time in which the provider worked on a run. */
  busyMs: number
}

export const messageText = (worker: number, iteration: number): string =>
  `worker ${worker}, message ${iteration}`

/** Lets every worker do all of its iterations, one after the other; the workers run at once. */
export async function everyWorker(
  { workers, iterations, signal }: HalfOptions,
  iterate: (worker: number, text: string) => Promise<void>,
): Promise<void> {
  const work = async (worker: number) => {
    for (let iteration = 1; iteration <= iterations; iteration++) {
      signal.throwIfAborted()
      await iterate(worker, messageText(worker, iteration))
    }
  }
  await Promise.all(Array.from({ length: workers }, (_, i) => work(i + 1)))
}

/** See `Half.inOrder`. */
export function isInOrder(
  history: readonly HistoryEntry[],
  { workers, iterations }: Pick<HalfOptions, 'workers' | 'iterations'>,
): boolean {
  const asked = userTexts(history)
  const answeredInTurn = history.every(({ role }, i) => role === (i % 2 ? 'assistant' : 'user'))
  if (!answeredInTurn || history.length !== 2 * workers * iterations) return false
  return Array.from({ length: workers }, (_, i) => i + 1).every((worker) => {
    const own = asked.filter((text) => text.startsWith(`worker ${worker},`))
    return own.every((text, i) => text === messageText(worker, i + 1)) && own.length === iterations
  })
}

export const userTexts = (history: readonly HistoryEntry[]): string[] =>
  history.flatMap(({ role, text }) => (role === 'user' ? [text] : []))
