import type pg from 'pg'
import { expect } from 'vitest'
import { defaultLimits, examine, type Question } from '../../src/store/doctor/examine.ts'

/** What is broken, a line per row: `first_is_marked: 7 of user:42: first of its line, …`. */
export async function findBroken(
  pool: pg.Pool,
  question: Partial<Question> = {},
): Promise<string[]> {
  const findings = await examine(pool, { ...defaultLimits, ...question })
  return findings.flatMap(({ invariant, offenders }) =>
    offenders.map(({ id, thread, detail }) => `${invariant.name}: ${id} of ${thread}: ${detail}`),
  )
}

/**
 * Every invariant of the line holds. For the end of tests; `without` names invariants that the test's
 * own rows break, as results do where nothing but the line was at work.
 */
export async function expectHealthy(
  pool: pg.Pool,
  { without = [], ...question }: Partial<Question> & { without?: readonly string[] } = {},
): Promise<void> {
  const broken = await findBroken(pool, question)
  const counted = broken.filter((line) => !without.includes(line.split(':')[0] as string))
  expect(counted, 'what inturn doctor finds').toEqual([])
}
