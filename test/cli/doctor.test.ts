import { expect } from 'vitest'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { damage, serveLines } from '../support/served-lines.ts'
import { inturn } from './cli.ts'

const losesMark = `update thread_operations set ready_at = null where thread_id = 'waiting'`
const losesResult = `update thread_operations set result = null where thread_id = 'served' and turn = 1`
const quick = ['--sweep-ms', '10']

test('doctor goes through every invariant of a healthy database', async ({
  url,
  pool,
  connected,
}) => {
  await serveLines(pool, await connected())
  const { code, stdout } = await inturn(['doctor'], { databaseUrl: url })
  expect(stdout).toMatch(/^✓ one_active_operation +No thread has two active operations\.$/m)
  expect(stdout).toMatch(/^healthy: \d+ invariants checked in \d+ ms\n$/m)
  expect(stdout).not.toContain('✗')
  expect(code).toBe(0)
})

test('what is broken is named, with whom it concerns and what to do', async ({
  url,
  pool,
  connected,
}) => {
  await serveLines(pool, await connected())
  await damage(url, `${losesMark}; ${losesResult}`)
  const { code, stdout } = await inturn(['doctor', ...quick], { databaseUrl: url })
  expect(code).toBe(1)
  expect(stdout).toMatch(
    /^✗ first_is_marked .*\n {4}operation \d+ of waiting: first of its line, .*\n {2}→ .*\n {2}→ "inturn doctor --fix" repairs it\.$/m,
  )
  expect(stdout).toMatch(
    /^✗ results_are_there .*\n {4}operation \d+ of served: add_message is completed without result\.message_id\n {2}→ /m,
  )
  expect(stdout).toMatch(/^2 broken: /m)
})

test('--fix repairs what is safe, says so, and leaves the rest to people', async ({
  url,
  pool,
  connected,
}) => {
  await serveLines(pool, await connected())
  await damage(url, `${losesMark}; ${losesResult}`)
  const first = await inturn(['doctor', '--fix', ...quick], { databaseUrl: url })
  expect(first.stdout).toMatch(/^fixed first_is_marked: marked 1 head$/m)
  expect(first.stdout).toMatch(/^✓ first_is_marked /m)
  expect(first.stdout).toMatch(/^✗ results_are_there /m)
  expect(first.code).toBe(1)
  const second = await inturn(['doctor', '--fix', '--json', ...quick], { databaseUrl: url })
  expect(JSON.parse(second.stdout)).toMatchObject({ healthy: false, repairs: [] })
})

test('--fix that heals everything is a success', async ({ url, pool, connected }) => {
  await serveLines(pool, await connected())
  await damage(url, losesMark)
  const { code, stdout } = await inturn(['doctor', '--fix', '--json', ...quick], {
    databaseUrl: url,
  })
  expect(JSON.parse(stdout)).toMatchObject({
    healthy: true,
    repairs: [{ name: 'first_is_marked', done: 'marked 1 head' }],
  })
  expect(code).toBe(0)
})

test('--json tells the same to programs, and no more than 20 offenders each', async ({
  url,
  pool,
}) => {
  for (let i = 0; i < 25; i++) await insertRow(pool, { thread_id: `many:${i}` })
  await damage(url, `update thread_operations set ready_at = null`)
  const { code, stdout } = await inturn(['doctor', '--json', ...quick], { databaseUrl: url })
  expect(code).toBe(1)
  const checkup = JSON.parse(stdout)
  expect(checkup).toMatchObject({ healthy: false, took_ms: expect.any(Number) })
  const broken = checkup.invariants.filter((found: { broken: number }) => found.broken > 0)
  expect(broken).toMatchObject([
    { name: 'first_is_marked', broken: 25, fixable: true, advice: expect.any(String) },
  ])
  expect(broken[0].offenders).toHaveLength(20)
})

test('--thread looks at one thread, and knows when there is none', async ({
  url,
  pool,
  connected,
}) => {
  await serveLines(pool, await connected())
  await damage(url, `${losesMark}; ${losesResult}`)
  const healthy = await inturn(['doctor', '--thread', 'withdrawn'], { databaseUrl: url })
  expect(healthy.code).toBe(0)
  const ill = await inturn(['doctor', '--thread', 'served', '--json'], { databaseUrl: url })
  expect(ill.code).toBe(1)
  const broken = JSON.parse(ill.stdout).invariants.filter((found: any) => found.broken > 0)
  expect(broken.map(({ name }: { name: string }) => name)).toEqual(['results_are_there'])

  const unknown = await inturn(['doctor', '--thread', 'nobody'], { databaseUrl: url })
  expect(unknown.code).toBe(1)
  expect(unknown.stderr).toMatch(/There is nothing of thread nobody\.\nhint: /)
})
