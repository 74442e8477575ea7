import type { OperationKind } from '../src/model/operation.ts'
import { type ProviderName, providerNames } from '../src/model/thread.ts'
import { Random } from '../test/support/random.ts'
import { type Disturbance, disturbances } from './disturbances.ts'
import type { Scale } from './scale.ts'
import { type Weather, weathers } from './weather.ts'

/** All that is going to happen, and when (in milliseconds after the start). */
export type Plan = {
  threads: PlannedThread[]
  transactions: PlannedTransaction[]
  disturbances: Disturbance[]
  weathers: Weather[]
}

export type PlannedThread = { id: string; provider: ProviderName }

export type PlannedOperation = {
  thread: string
  operation: OperationKind
  data: object
  /** Rolled back to a savepoint before it. */
  undone: boolean
  /** Pause after it, the transaction being open. */
  pauseMs: number
}

export type PlannedTransaction = {
  atMs: number
  isolation: 'read committed' | 'repeatable read' | 'serializable'
  /** Takes its snapshot this long before the first INSERT; null: with it. */
  snapshotMs: number | null
  operations: PlannedOperation[]
  commits: boolean
  /** The last of them is cancelled by plain UPDATE after the commit. */
  cancels: boolean
}

/** The plan of a seed: the same seed and the same scale give the same plan. */
export function planOf(seed: number, seconds: number, scale: Scale): Plan {
  const random = new Random(seed)
  const untilMs = seconds * 1000
  const threads = Array.from({ length: scale.threads }, (_, i) => ({
    id: `chaos:${i}`,
    provider: random.of(providerNames),
  }))
  return {
    threads,
    transactions: transactions(random, untilMs * 0.95, threads, scale),
    disturbances: disturbances(random, untilMs, threads, scale),
    weathers: weathers(random, untilMs, scale),
  }
}

function transactions(
  random: Random,
  untilMs: number,
  threads: readonly PlannedThread[],
  { operations, pace }: Scale,
): PlannedTransaction[] {
  const all: PlannedTransaction[] = []
  for (let number = 0; number < operations; ) {
    const atMs = Math.round(random.next() * untilMs)
    const length = Math.min(1 + random.below(4), operations - number)
    all.push({
      atMs,
      isolation: random.of(['read committed', 'repeatable read', 'serializable']),
      snapshotMs: random.chance(0.3) ? Math.round(random.next() * 2_000 * pace) : null,
      operations: Array.from({ length }, () => ({
        thread: threadAt(random, atMs / untilMs, threads),
        ...operation(random, ++number),
        undone: random.chance(0.05),
        pauseMs: random.chance(0.2) ? Math.round(random.next() * 3_000 * pace) : 0,
      })),
      commits: random.chance(0.92),
      cancels: random.chance(0.05),
    })
  }
  return all.sort((a, b) => a.atMs - b.atMs)
}

/** A few threads are in use at a time, and each for a while only, so that no line becomes long. */
function threadAt(random: Random, share: number, threads: readonly PlannedThread[]): string {
  const inUse = Math.ceil(threads.length / 6)
  const first = Math.floor(share * (threads.length - inUse + 1))
  return random.of(threads.slice(first, first + inUse)).id
}

/** The answer tells whose it is; messages are equal now and then, as people's are. */
function operation(random: Random, number: number): { operation: OperationKind; data: object } {
  const message = random.chance(0.2) ? 'ok' : `message ${number}`
  const run = {
    model: 'gpt-4o',
    assistant_id: 'asst_chaos',
    instructions: `Reply with exactly: answer ${number}`,
  }
  const metadata = { number: String(number) }
  return random.of([
    { operation: 'add_message_and_run', data: { message, ...run } },
    { operation: 'add_message_and_run', data: { message, ...run } },
    { operation: 'add_message_and_run', data: { message, ...run } },
    { operation: 'add_message', data: { message } },
    { operation: 'add_message', data: { message } },
    { operation: 'create_run', data: run },
    { operation: 'update_thread', data: { metadata } },
    { operation: 'create_thread', data: { metadata } },
  ])
}
