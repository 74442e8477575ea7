import { setTimeout as takes } from 'node:timers/promises'
import type { Outcome } from '../../src/model/outcome.ts'
import { completed } from '../support/hand-driven.ts'
import type { Script } from '../support/scripted.ts'

/** A script of handlers that take a moment, and what was seen of them. */
export type Watched = {
  script: Script
  /** Ids in the order in which handlers began, by thread. */
  started: Map<string, number[]>
  /** Most handlers at once: on one thread, and on all together. */
  most: { ofOneThread: number; together: number }
}

export function watched(
  ms: number,
  outcome: (claim: Parameters<Script>[0]) => Outcome | null = () => completed,
): Watched {
  const running = new Map<string, number>()
  const seen: Watched = {
    started: new Map(),
    most: { ofOneThread: 0, together: 0 },
    script: async (claim) => {
      const { id, thread_id: thread } = claim.operation
      seen.started.set(thread, [...(seen.started.get(thread) ?? []), id])
      running.set(thread, (running.get(thread) ?? 0) + 1)
      const counts = [...running.values()]
      seen.most.ofOneThread = Math.max(seen.most.ofOneThread, ...counts)
      seen.most.together = Math.max(
        seen.most.together,
        counts.reduce((sum, count) => sum + count, 0),
      )
      await takes(ms)
      running.set(thread, (running.get(thread) ?? 0) - 1)
      return outcome(claim)
    },
  }
  return seen
}
