import { z } from 'zod'
import { InturnError } from '../../errors.ts'
import { nearest } from '../../model/nearest.ts'
import { type CheckedFault, type FaultName, faultNames, knobs } from './knobs.ts'

/** What a faulty plan is refused with; `message` lists every problem at once. */
export class FaultsError extends InturnError {
  constructor(problems: readonly string[]) {
    super('faults_invalid', problems.join('\n'))
  }
}

/** What is wrong where, and what to write instead; an empty path means the whole. */
export type Problem = { path: string; text: string }

export const worded = ({ path, text }: Problem): string => (path ? `${path}: ${text}` : text)

/** The faults with their defaults. `place` says in a message where a fault, or a part of it, stands. */
export function checkFaults(
  faults: readonly unknown[],
  place = (index: number, path: string) => `faults[${index}]${path && `.${path}`}`,
): CheckedFault[] {
  const problems: string[] = []
  const checked = faults.flatMap((fault, index) => {
    const result = check(fault)
    if ('fault' in result) return [result.fault]
    problems.push(
      ...result.problems.map(({ path, text }) => worded({ path: place(index, path), text })),
    )
    return []
  })
  if (problems.length > 0) throw new FaultsError(problems)
  return checked
}

function check(fault: unknown): { fault: CheckedFault } | { problems: Problem[] } {
  if (fault === null || typeof fault !== 'object' || Array.isArray(fault))
    return { problems: [{ path: '', text: 'write an object like {"name": "overloaded"}' }] }
  const { name, ...said } = fault as { name?: unknown }
  const names = `write one of ${faultNames.join(', ')}`
  if (typeof name !== 'string') return { problems: [{ path: 'name', text: names }] }
  if (!Object.hasOwn(knobs, name)) {
    const alike = faultNames.filter((known) => name !== '' && known.includes(name))
    const meant = alike.length > 0 ? alike.join(' or ') : nearest(name, faultNames)
    const text = `'${name}' is no fault: did you mean ${meant}? Otherwise ${names}`
    return { problems: [{ path: 'name', text }] }
  }
  const { schema } = knobs[name as FaultName]
  const result = (schema as z.ZodObject).safeParse(said)
  if (!result.success) return { problems: problemsOf(result.error, schema.shape) }
  const crossed = crossProblem(result.data)
  if (crossed) return { problems: [crossed] }
  return { fault: { name, ...result.data } as CheckedFault }
}

/** What zod found; the names that may be used are those of `shape`. */
export function problemsOf({ issues }: z.ZodError, shape: object): Problem[] {
  const known = Object.keys(shape)
  return issues.flatMap((issue) => {
    if (issue.code !== 'unrecognized_keys')
      return [{ path: issue.path.join('.'), text: issue.message }]
    const text = `there is no such setting: write ${known.join(', ')}`
    return issue.keys.map((key) => ({ path: key, text }))
  })
}

function crossProblem(said: Record<string, unknown>): Problem | undefined {
  const { retryAfter, retryAfterMs, atLeastMs = 0, ms = Infinity } = said
  if (retryAfter !== undefined && retryAfterMs !== undefined)
    return { path: '', text: 'write retryAfter or retryAfterMs, not both' }
  if (Number(atLeastMs) > Number(ms))
    return { path: 'atLeastMs', text: `write at most ${ms}, the longest delay` }
  return undefined
}

const planSchema = z.strictObject(
  {
    faults: z.array(z.unknown(), 'write a list of faults, like [{"name": "overloaded"}]'),
    seed: z.int('write a whole number').optional(),
  },
  {
    error: ({ code }) => (code === 'invalid_type' ? 'write {"faults": […], "seed": 1}' : undefined),
  },
)

/** The body of `PUT /emulator/faults`. */
export function checkPlan(body: unknown): { faults: CheckedFault[]; seed?: number } {
  const result = planSchema.safeParse(body)
  if (!result.success) throw new FaultsError(problemsOf(result.error, planSchema.shape).map(worded))
  return { ...result.data, faults: checkFaults(result.data.faults) }
}
