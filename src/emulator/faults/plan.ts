import { randomInt } from 'node:crypto'
import { pause, unlessAborted } from '../clock.ts'
import { kindsOf, type RouteKind } from '../route-kinds.ts'
import { chance } from './chance.ts'
import { type CheckedFault, type CheckedFaultOf, type FaultName, knobs } from './knobs.ts'

/** Where a fault may strike: at a request, or at what a request set going. */
export type Place = {
  kind: RouteKind
  threadId: string | null
  key?: string | undefined
  model?: string | undefined
}

/** What is planned, and how often each fault struck. */
export type FaultReport = { seed: number; faults: Array<CheckedFault & { fired: number }> }

type Entry = { fault: CheckedFault; kinds: ReadonlySet<RouteKind>; draws: number; fired: number }

/**
 * The faults in force. Of those that fit a place, the first whose draw says so strikes. Seed and plan
 * decide every draw: the n-th place that fits a fault is struck in each repetition, or in none.
 */
export class FaultPlan {
  readonly firedByName: Partial<Record<FaultName, number>> = {}
  /** Counts the replacements. */
  generation = 0
  #seed = 0
  #entries: Entry[] = []
  #replaced = Promise.withResolvers<void>()

  constructor(faults: readonly CheckedFault[], seed: number = randomInt(1_000_000_000)) {
    this.replace(faults, seed)
  }

  /** A new plan draws from the start, and releases the runs and objects that the old one holds back. */
  replace(faults: readonly CheckedFault[], seed: number = this.#seed): void {
    this.generation++
    this.#seed = seed
    this.#entries = faults.map((fault) => ({ fault, kinds: struckBy(fault), draws: 0, fired: 0 }))
    this.#replaced.resolve()
    this.#replaced = Promise.withResolvers()
  }

  get report(): FaultReport {
    return {
      seed: this.#seed,
      faults: this.#entries.map(({ fault, fired }) => ({ ...fault, fired })),
    }
  }

  /** The fault among `names` that strikes here and now; it counts as fired. */
  strike<N extends FaultName>(names: readonly N[], place: Place): CheckedFaultOf<N> | undefined {
    const struck = this.#entries.find(
      (entry, index) =>
        names.includes(entry.fault.name as N) && fits(entry, place) && this.#drawn(entry, index),
    )
    return struck?.fault as CheckedFaultOf<N> | undefined
  }

  /** What each `read_lag` hides of an object just written: from which reads, for how many milliseconds. */
  hide(reads: readonly RouteKind[], threadId: string | null): Array<Hiding> {
    return this.#entries.flatMap((entry, index) => {
      const { fault } = entry
      const kinds = reads.filter((kind) => entry.kinds.has(kind))
      const fitting =
        fault.name === 'read_lag' && kinds.some((kind) => fits(entry, { kind, threadId }))
      if (!fitting || !this.#drawn(entry, index)) return []
      const { ms, atLeastMs = ms } = fault
      // The last draw decided whether; how long is drawn apart from it.
      const share = chance(this.#seed, index, -entry.draws)
      return [{ kinds, ms: atLeastMs + share * (ms - atLeastMs) }]
    })
  }

  /** Waits `ms`, or without it for ever: until the plan is replaced or `signal` aborts, which rejects. */
  async hold(ms: number | undefined, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const released = this.#replaced.promise
    const over = ms === undefined ? released : Promise.race([pause(ms, signal), released])
    await unlessAborted(over, signal)
  }

  #drawn(entry: Entry, index: number): boolean {
    const { probability, times = Infinity, name } = entry.fault
    if (entry.fired >= times) return false
    if (chance(this.#seed, index, ++entry.draws) >= probability) return false
    entry.fired++
    this.firedByName[name] = (this.firedByName[name] ?? 0) + 1
    return true
  }
}

export type Hiding = { kinds: readonly RouteKind[]; ms: number }

function struckBy({ name, on }: CheckedFault): ReadonlySet<RouteKind> {
  const { kinds } = knobs[name]
  if (on === undefined) return new Set(kinds)
  const chosen = [on].flat().flatMap(kindsOf)
  return new Set(kinds.filter((kind) => chosen.includes(kind)))
}

/** A key or model that the fault names must be the request's own. */
function fits({ fault, kinds }: Entry, place: Place): boolean {
  if (!kinds.has(place.kind)) return false
  const wanted = fault as { thread?: string; key?: string; model?: string }
  return (
    (wanted.thread === undefined || wanted.thread === place.threadId) &&
    (wanted.key === undefined || wanted.key === place.key) &&
    (wanted.model === undefined || wanted.model === place.model)
  )
}
