import { type BusyStrategy, busyStrategies, type OperationKind } from '../src/model/operation.ts'
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

export type PlannedThread = {
  id: string
  provider: ProviderName
  /**
   * Somebody else may start runs on it. On a conversation nobody can tell whose answer stands where
   * two have come without a message: there outsiders always bring one, and operations do as well.
   */
  visited: boolean
  /** Null: its provider thread lives until somebody asks otherwise. */
  policy: (typeof policies)[number]
}

const policies = ['rotates', 'leaves nothing', 'expires', null, null] as const

export type PlannedOperation = {
  thread: string
  operation: OperationKind
  data: object
  /** How it joins its line; null: as always. */
  joins: Joins | null
  /** Rolled back to a savepoint before it. */
  undone: boolean
  /** Pause after it, the transaction being open. */
  pauseMs: number
}

export type Joins =
  | { ifBusy: BusyStrategy; debounceMs: number | null }
  /** So many milliseconds after its INSERT. */
  | { scheduledInMs: number }

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
    visited: random.chance(0.6),
    policy: random.of(policies),
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
        ...operation(random, ++number, threadAt(random, atMs / untilMs, threads), pace),
        joins: joins(random, pace),
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
function threadAt(random: Random, share: number, threads: readonly PlannedThread[]): PlannedThread {
  const inUse = Math.ceil(threads.length / 6)
  const first = Math.floor(share * (threads.length - inUse + 1))
  return random.of(threads.slice(first, first + inUse))
}

function joins(random: Random, pace: number): Joins | null {
  const ms = (most: number) => Math.round((0.1 + random.next() * 0.9) * most * pace)
  if (random.chance(0.08)) return { scheduledInMs: ms(20_000) }
  if (!random.chance(0.2)) return null
  return {
    ifBusy: random.of(busyStrategies),
    debounceMs: random.chance(0.3) ? ms(3_000) : null,
  }
}

/** The answer tells whose it is; messages are equal now and then, as people's are. */
function operation(
  random: Random,
  number: number,
  { id: thread, provider, visited }: PlannedThread,
  pace: number,
): Pick<PlannedOperation, 'thread' | 'operation' | 'data'> {
  const drawn = random.of(frequencies)
  const message = random.chance(0.2) ? 'ok' : `message ${number}`
  const run = {
    model: 'gpt-4o',
    assistant_id: 'asst_chaos',
    instructions: `Reply with exactly: answer ${number}`,
  }
  const metadata = { number: String(number) }
  const needsMessage = provider === 'responses' && visited
  switch (drawn) {
    case 'create_run':
      if (!needsMessage) return { thread, operation: drawn, data: run }
      return { thread, operation: 'add_message_and_run', data: { message, ...run } }
    case 'call of a function':
      // A bare run after it would go on about the call, on a conversation.
      if (provider === 'responses' && !visited)
        return { thread, operation: 'add_message', data: { message } }
      return {
        thread,
        operation: 'add_message_and_run',
        data: { message, ...run, ...callsFor(random.of(tools), pace) },
      }
    case 'cancel_run':
      return { thread, operation: drawn, data: {} }
    case 'life':
      return { thread, ...lifeOf(random, thread, number) }
    case 'add_message_and_run':
      return { thread, operation: drawn, data: { message, ...run } }
    case 'add_message':
      return { thread, operation: drawn, data: { message } }
    default:
      return { thread, operation: drawn, data: { metadata } }
  }
}

const frequencies: ReadonlyArray<OperationKind | 'call of a function' | 'life'> = [
  'add_message_and_run',
  'add_message_and_run',
  'add_message_and_run',
  'add_message_and_run',
  'add_message',
  'add_message',
  'add_message',
  'create_run',
  'create_run',
  'call of a function',
  'cancel_run',
  'update_thread',
  'create_thread',
  'life',
]

/** Deletions archive before, so that the judge can read what was said, and leave the thread open. */
function lifeOf(
  random: Random,
  thread: string,
  number: number,
): Pick<PlannedOperation, 'operation' | 'data'> {
  const operation = random.of(lives)
  const data = {
    archive_thread: {},
    rotate_thread: { carry_over: random.below(4) },
    fork_thread: { to: `${thread}:fork:${number}` },
    expire_thread: {},
    delete_thread: { archive: true, reopen: true },
  }[operation]
  return { operation, data }
}

const lives = [
  'archive_thread',
  'rotate_thread',
  'rotate_thread',
  'fork_thread',
  'expire_thread',
  'delete_thread',
] as const

/** Answered by the dispatchers' own handlers, by a service that submits outputs, and by nobody. */
const tools = ['look_up', 'look_up', 'approve', 'forgotten']

/** Whatever was said. The tool is as either provider writes it; each reads its own half. */
function callsFor(name: string, pace: number): object {
  const tool = { name, parameters: { type: 'object', properties: {} } }
  return {
    instructions: null,
    tools: [{ type: 'function', strict: false, ...tool, function: tool }],
    tool_choice: 'required',
    tool_deadline_ms: Math.round((name === 'forgotten' ? 6_000 : 40_000) * pace),
  }
}
