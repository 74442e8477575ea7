import { z } from 'zod'
import { nearest } from '../../model/nearest.ts'
import { kindsOf, type RouteChoice, type RouteKind, routeKinds } from '../route-kinds.ts'

/** A fault that can be chosen: what it does, where it can strike, and what may be said about it. */
export type Knob<Shape extends z.ZodRawShape = z.ZodRawShape> = {
  /** What happens, in a sentence or two. */
  text: string
  /** The requests that it can strike; without `on` it strikes them all. */
  kinds: readonly RouteKind[]
  schema: z.ZodObject<Filters & Shape, z.core.$strict>
}

const probability = 'write a number above 0 and up to 1'
const count = 'write a whole number from 1'

/** What every fault can say. */
const filters = {
  thread: z
    .string('write the id of a thread or conversation')
    .optional()
    .describe('strikes on this thread or conversation alone'),
  probability: z
    .number(probability)
    .gt(0, probability)
    .max(1, probability)
    .default(1)
    .describe('how likely it strikes'),
  times: z
    .int(count)
    .min(1, count)
    .optional()
    .describe('how often it strikes at most; default: without end'),
}
type Filters = typeof filters & {
  on: z.ZodOptional<z.ZodType<RouteChoice | RouteChoice[], RouteChoice | RouteChoice[]>>
}

export function knob<const Shape extends z.ZodRawShape = Record<never, never>>(
  kinds: readonly RouteKind[],
  text: string,
  own: Shape = {} as Shape,
): Knob<Shape> {
  const schema = z.strictObject({ on: choices(kinds), ...filters, ...own })
  return { text, kinds, schema: schema as unknown as Knob<Shape>['schema'] }
}

/** Milliseconds up to one hour. */
export function duration() {
  const error = 'write milliseconds, a whole number from 0 to 3600000'
  return z.int(error).min(0, error).max(3_600_000, error)
}

/** Route kinds, nouns or verbs, of which each must name something that the fault can strike. */
function choices(kinds: readonly RouteKind[]): Filters['on'] {
  const words = [...new Set([...kinds, ...kinds.flatMap((kind) => kind.split('.'))])]
  const offered =
    kinds.length === routeKinds.length ? 'runs.create, runs, create, …' : kinds.join(', ')
  const check = (word: unknown, context: z.core.$RefinementCtx) => {
    if (typeof word === 'string' && words.includes(word)) return
    const message =
      typeof word !== 'string'
        ? 'write the name of a route kind, or several in a list'
        : kindsOf(word).length > 0
          ? `it cannot strike '${word}': write ${offered}`
          : `'${word}' is no route kind: did you mean '${nearest(word, words)}'? Write ${offered}`
    context.addIssue({ code: 'custom', message })
  }
  return z
    .any()
    .superRefine((value, context) => {
      if (Array.isArray(value) && value.length === 0) check(undefined, context)
      for (const word of Array.isArray(value) ? value : [value]) check(word, context)
    })
    .optional()
    .describe(
      'the requests that it strikes: a kind (runs.create), a noun (runs), a verb (list), or a list of these',
    )
}
