import type { Seen, Sighting } from './dispatchers.ts'

/** Somebody whose beat has not changed for long. */
export type Silent = {
  dispatcher: Seen
  /** Dead whatever its session lock says; before, only if that is free. */
  leaseIsOver: boolean
}

type Watched = { dispatcher: Seen; since: number }

/**
 * Tells who beats no more, by watching: what counts is how long a beat has not changed before this
 * watcher's own eyes and by its own monotonic clock. So nobody's clock has to agree with another's, and
 * one that jumps makes nobody dead. All times are in milliseconds, `now` as performance.now() has it.
 */
export class Watch {
  readonly #longestGapMs: number
  #watched = new Map<string, Watched>()
  #serverStart = ''
  #lookedAt = 0

  /**
   * Who has not looked for longer than `longestGapMs` begins anew: what kept it from looking, such as
   * a database that was away, may have kept the others from beating.
   */
  constructor(longestGapMs: number) {
    this.#longestGapMs = longestGapMs
  }

  saw({ serverStart, dispatchers }: Sighting, now: number): void {
    const isAnew = serverStart !== this.#serverStart || now - this.#lookedAt > this.#longestGapMs
    const before = isAnew ? new Map<string, Watched>() : this.#watched
    this.#watched = new Map(
      dispatchers.map((dispatcher) => {
        const known = before.get(dispatcher.id)
        const isSame = known?.dispatcher.beat === dispatcher.beat
        return [dispatcher.id, { dispatcher, since: isSame ? known.since : now }]
      }),
    )
    this.#serverStart = serverStart
    this.#lookedAt = now
  }

  /** Those whose lease is over, and the direct ones whose grace is; nobody when the last look is too old. */
  silent(now: number): Silent[] {
    if (now - this.#lookedAt > this.#longestGapMs) return []
    return [...this.#watched.values()].flatMap(({ dispatcher, since }) => {
      const leaseIsOver = now - since >= dispatcher.lease_ms
      const graceIsOver = dispatcher.direct && now - since >= dispatcher.grace_ms
      return leaseIsOver || graceIsOver ? [{ dispatcher, leaseIsOver }] : []
    })
  }

  /** Until the next grace or lease is over, should nobody beat; null where there is none to wait for. */
  untilNext(now: number): number | null {
    const rests = [...this.#watched.values()].flatMap(({ dispatcher, since }) => [
      ...(dispatcher.direct ? [since + dispatcher.grace_ms - now] : []),
      since + dispatcher.lease_ms - now,
    ])
    const ahead = rests.filter((rest) => rest > 0)
    return ahead.length === 0 ? null : Math.min(...ahead)
  }
}
