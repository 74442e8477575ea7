import type { Random } from '../test/support/random.ts'
import type { PlannedThread } from './plan.ts'
import type { Scale } from './scale.ts'

/** What is done to the fleet, its database or its threads, `atMs` after the start. */
export type Disturbance = { atMs: number } & (
  | FleetDisturbance
  /** `immediate` is how PostgreSQL crashes, `fast` how it is stopped. */
  | { what: 'restart database'; mode: 'immediate' | 'fast'; downMs: number }
  /** Somebody else takes every connection that is left. */
  | { what: 'take connections'; ms: number }
  /** A transaction that is left open, holding rows. */
  | { what: 'hold rows'; of: 'operations' | 'thread' | 'dispatchers'; thread: string; ms: number }
  /** A run that somebody else starts. */
  | { what: 'foreign run'; thread: string; ms: number; speaks: boolean }
  /** The caller's own code takes the thread in its turn, and runs something at the provider itself. */
  | { what: 'hold'; thread: string; ms: number; speaks: boolean }
)

/** Of one dispatcher, which serves again afterwards. */
export type FleetDisturbance =
  /** SIGKILL; it is started again after a while. */
  | { what: 'kill'; dispatcher: number; downMs: number }
  /** SIGSTOP, and SIGCONT after a while. */
  | { what: 'stop'; dispatcher: number; ms: number }
  /** SIGTERM, and another start when it has ended. */
  | { what: 'terminate'; dispatcher: number; downMs: number }
  /** All its database sessions are terminated. */
  | { what: 'cut sessions'; dispatcher: number }

export function disturbances(
  random: Random,
  untilMs: number,
  threads: readonly PlannedThread[],
  { dispatchers, pace }: Scale,
): Disturbance[] {
  const ms = (atLeast: number, atMost: number) =>
    Math.round((atLeast + random.next() * (atMost - atLeast)) * pace)
  const every = (pause: () => number, next: (atMs: number) => Disturbance): Disturbance[] => {
    const all: Disturbance[] = []
    for (let atMs = pause(); atMs < untilMs; atMs += pause()) all.push(next(atMs))
    return all
  }
  /** Of the lines that are in use by then. */
  const threadAt = (atMs: number, among = threads) => {
    const about = Math.floor((atMs / untilMs) * among.length)
    const reach = Math.ceil(among.length / 6)
    return random.of(among.slice(Math.max(0, about - reach), about + reach)) as PlannedThread
  }
  const visited = threads.filter((thread) => thread.visited)
  const toDispatcher = (dispatcher: number): FleetDisturbance =>
    random.of<() => FleetDisturbance>([
      () => ({ what: 'kill', dispatcher, downMs: ms(200, 6_000) }),
      () => ({ what: 'kill', dispatcher, downMs: ms(200, 6_000) }),
      () => ({ what: 'stop', dispatcher, ms: ms(300, 8_000) }),
      () => ({ what: 'stop', dispatcher, ms: ms(16_000, 30_000) }),
      () => ({ what: 'terminate', dispatcher, downMs: ms(0, 3_000) }),
      () => ({ what: 'cut sessions', dispatcher }),
    ])()
  return [
    ...Array.from({ length: dispatchers }, (_, dispatcher) =>
      // Longer than a stop, so that one is over before the next begins.
      every(
        () => ms(31_000, 60_000),
        (atMs) => ({ atMs, ...toDispatcher(dispatcher) }),
      ),
    ).flat(),
    ...every(
      () => ms(60_000, 150_000),
      (atMs) => ({
        atMs,
        what: 'restart database',
        mode: random.of(['immediate', 'fast']),
        downMs: ms(0, 4_000),
      }),
    ),
    ...every(
      () => ms(50_000, 120_000),
      (atMs) => ({ atMs, what: 'take connections', ms: ms(2_000, 12_000) }),
    ),
    ...every(
      () => ms(8_000, 30_000),
      (atMs) => ({
        atMs,
        what: 'hold rows',
        of: random.of(['operations', 'operations', 'thread', 'dispatchers']),
        thread: threadAt(atMs).id,
        ms: ms(1_000, 40_000),
      }),
    ),
    ...every(
      () => ms(3_000, 12_000),
      (atMs) => {
        const { id: thread, provider } = threadAt(atMs, visited)
        const speaks = provider === 'responses' || random.chance(0.5)
        return { atMs, what: 'foreign run', thread, ms: ms(500, 15_000), speaks }
      },
    ),
    ...every(
      () => ms(8_000, 30_000),
      (atMs) => {
        const { id: thread, provider } = threadAt(atMs, visited)
        const speaks = provider === 'responses' || random.chance(0.5)
        return { atMs, what: 'hold', thread, ms: ms(300, 3_000), speaks }
      },
    ),
  ].sort((a, b) => a.atMs - b.atMs)
}
