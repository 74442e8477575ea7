import { describe, expect } from 'vitest'
import { retryPolicyProblem } from '../../src/model/retry.ts'
import { test } from '../support/database.ts'
import { insertRow, readRow, refusal } from '../support/line.ts'

/** A policy, and the name in it that is wrong; null where nothing is. */
const cases: Array<[policy: unknown, wrong: string | null]> = [
  [{}, null],
  [{ max_attempts: 1 }, null],
  [{ max_attempts: 1000, base_ms: 86_400_000, max_ms: 1 }, null],
  [{ run: {} }, null],
  [{ connection: { base_ms: 1 }, server: { max_ms: 5 }, internal: { max_attempts: 2 } }, null],
  [{ max_attempts: 0 }, 'max_attempts'],
  [{ max_attempts: 1001 }, 'max_attempts'],
  [{ max_attempts: -1 }, 'max_attempts'],
  [{ max_attempts: 2.5 }, 'max_attempts'],
  [{ max_attempts: '3' }, 'max_attempts'],
  [{ max_attempts: true }, 'max_attempts'],
  [{ max_attempts: null }, 'max_attempts'],
  [{ max_attempts: [3] }, 'max_attempts'],
  [{ base_ms: 0 }, 'base_ms'],
  [{ max_ms: 86_400_001 }, 'max_ms'],
  [{ max_ms: {} }, 'max_ms'],
  [{ max_attemps: 3 }, 'max_attemps'],
  [{ maxAttempts: 3 }, 'maxAttempts'],
  [{ network: { max_attempts: 3 } }, 'network'],
  [{ run: 3 }, 'run'],
  [{ run: null }, 'run'],
  [{ run: [] }, 'run'],
  [{ run: 'x' }, 'run'],
  [{ run: { max_attempts: 0 } }, 'run.max_attempts'],
  [{ run: { tries: 1 } }, 'run.tries'],
  [{ run: { server: {} } }, 'run.server'],
  [[], 'retry'],
  [3, 'retry'],
  ['{}', 'retry'],
]
const shown = (policy: unknown) => JSON.stringify(policy)
const insert = (policy: unknown) => ({ thread_id: 'retry', retry: JSON.stringify(policy) })

describe('the INSERT and zod agree on a retry policy', () => {
  for (const [policy, wrong] of cases) {
    test(`${shown(policy)}: ${wrong ?? 'fine'}`, async ({ pool }) => {
      const problem = retryPolicyProblem(policy)
      if (wrong === null) {
        expect(problem).toBeNull()
        const { id } = await insertRow(pool, insert(policy))
        expect((await readRow(pool, id)).retry).toEqual(policy)
        return
      }
      expect(problem).toContain(`"${wrong}"`)
      expect(await refusal(insertRow(pool, insert(policy)))).toEqual({
        code: '23514',
        constraint: 'retry_policy_is_valid',
        message: expect.stringContaining(`"${wrong}"`),
        hint: expect.stringContaining('{"max_attempts": 5,'),
      })
    })
  }
})

test.for([
  [{ max_attempts: 0 }, '"max_attempts" must be a whole number from 1 to 1000'],
  [{ run: { base_ms: 'x' } }, '"run.base_ms" must be a whole number from 1 to 86400000'],
  [{ run: 3 }, '"run" must be an object'],
  [[], '"retry" must be an object'],
] as const)('both say the same of %o', async ([policy, words], { pool }) => {
  expect(retryPolicyProblem(policy)).toBe(words)
  expect((await refusal(insertRow(pool, insert(policy)))).message).toBe(words)
})

test('a misspelt key is told with the one that was probably meant', () => {
  expect(retryPolicyProblem({ max_attemps: 3 })).toContain('did you mean "max_attempts"?')
  expect(retryPolicyProblem({ run: { max: 3 } })).toContain('"run.max": did you mean "max_ms"?')
  expect(retryPolicyProblem({ servers: {} })).toContain('did you mean "server"?')
})

test('a policy cannot be changed afterwards', async ({ pool }) => {
  const { id } = await insertRow(pool, insert({ max_attempts: 3 }))
  const update = pool.query(`update thread_operations set retry = '{}' where id = $1`, [id])
  expect((await refusal(update)).constraint).toBe('line_column_is_guarded')
})

test('an operation without one has none', async ({ pool }) => {
  const { id } = await insertRow(pool, { thread_id: 'retry' })
  expect((await readRow(pool, id)).retry).toBeNull()
})
