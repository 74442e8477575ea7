import type { RoundResult } from '../store/claim.ts'

/** How many lines one round looks at again, and how many are remembered; the sweep finds the rest. */
const perRound = 200
const remembered = 10_000

/** `youngest`: first transaction id that is too young to matter; null before the first look. */
export type EmptiedLine = { readonly thread: string; readonly youngest: bigint | null }

/**
 * Lines that this dispatcher settled to emptiness. Somebody may have joined one in a transaction that
 * was open meanwhile: he saw a busy line, did not mark himself, and nobody will promote him. So each
 * line is looked at again until all transactions that were open after the settle are over.
 */
export class EmptiedLines {
  readonly #lines = new Map<string, EmptiedLine>()
  #pauseMs = 0

  /** How long to wait before the next look, at most `maxMs`: at once first, then ever longer. */
  pauseMs(maxMs: number): number {
    if (this.#lines.size === 0) return maxMs
    const pause = this.#pauseMs
    this.#pauseMs = Math.min(Math.max(5, pause * 2), maxMs)
    return pause
  }

  /** The lines to look at in the next round. */
  next(): EmptiedLine[] {
    return [...this.#lines.values()].slice(0, perRound)
  }

  /** Takes in a round: the lines it `looked` at again, and those it `settled` an operation of. */
  after(looked: readonly EmptiedLine[], settled: readonly string[], result: RoundResult): void {
    for (const line of looked) {
      // Emptied once more by a round beside this one: that look is still to come.
      if (this.#lines.get(line.thread) !== line) continue
      const youngest = line.youngest ?? result.nextXid
      this.#lines.delete(line.thread)
      // Back in at the end, so that everybody gets a turn when there are more than a round takes.
      if (result.oldestXid < youngest) this.#lines.set(line.thread, { ...line, youngest })
    }
    const empty = new Set(result.emptied)
    for (const thread of settled) {
      // What this round emptied itself is looked at only after its commit.
      if (empty.has(thread) && (this.#lines.has(thread) || this.#lines.size < remembered)) {
        this.#lines.set(thread, { thread, youngest: null })
      }
    }
    if (settled.length > 0 || this.#lines.size === 0) this.#pauseMs = 0
  }
}
