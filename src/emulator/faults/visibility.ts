import { nounOf, type RouteKind, routeKinds, verbOf } from '../route-kinds.ts'
import type { FaultPlan } from './plan.ts'

type Shade = { kinds: readonly RouteKind[]; until: number; generation: number }
type Noun = 'threads' | 'messages' | 'runs' | 'conversations' | 'items' | 'responses'

const readsOf = (noun: Noun): RouteKind[] =>
  routeKinds.filter((kind) => nounOf(kind) === noun && /list|retrieve/.test(verbOf(kind)))

/** Which objects reads do not see yet; writes see everything at once. */
export class Visibility {
  readonly #plan: FaultPlan
  readonly #shades = new WeakMap<object, Shade[]>()

  constructor(plan: FaultPlan) {
    this.#plan = plan
  }

  /** Lets the plan hide `objects`, now that they are written, all for the same time: what came together shows together. */
  written(noun: Noun, objects: readonly object[], threadId: string | null): void {
    const hidings = this.#plan.hide(readsOf(noun), threadId)
    if (hidings.length === 0) return
    const now = performance.now()
    const { generation } = this.#plan
    const shades = hidings.map(({ kinds, ms }) => ({ kinds, until: now + ms, generation }))
    for (const object of objects) this.#shades.set(object, shades)
  }

  /** Whether a request of this kind sees `object`. */
  sees(object: object, kind: RouteKind): boolean {
    const now = performance.now()
    const { generation } = this.#plan
    return !this.#shades
      .get(object)
      ?.some(
        (shade) =>
          shade.kinds.includes(kind) && shade.until > now && shade.generation === generation,
      )
  }
}
