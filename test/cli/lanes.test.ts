import { expect } from 'vitest'
import { laneKey } from '../../src/model/lane.ts'
import { limitLane, pauseLane } from '../../src/store/lanes.ts'
import { test } from '../support/own-database.ts'
import { inturn } from './cli.ts'

const key = laneKey('sk-1')
const whole = { provider: 'responses', key, model: '' } as const
const noQuota = { reason: 'insufficient_quota', untilProof: true }
const rateLimit = { reason: 'rate_limited', untilProof: false, retryAfterMs: 3_600_000 }

test('lanes shows how each stands, and never a key', async ({ url, pool }) => {
  const none = await inturn(['lanes'], { databaseUrl: url })
  expect(none.stdout).toBe('No lane was ever paused or given a maximum: all are open.\n')

  await pauseLane(pool, whole, noQuota)
  await pauseLane(pool, { ...whole, model: 'gpt-5' }, rateLimit)
  await limitLane(pool, { ...whole, provider: 'assistants' }, 3)
  const env = { OPENAI_API_KEY: 'sk-1' }
  const { code, stdout } = await inturn(['lanes'], { databaseUrl: url, env })
  expect(code).toBe(0)
  expect(stdout).toMatch(/^PROVIDER +KEY +MODEL +STATE +RUNS +AT MOST +WAITING +RESTS$/m)
  expect(stdout).toMatch(new RegExp(`^assistants +${key} +open +0 +3 +0 +-$`, 'm'))
  expect(stdout).toMatch(
    /resting +- +- +0 +until a probe succeeds or it is resumed \(insufficient_quota\)$/m,
  )
  expect(stdout).toMatch(/gpt-5 +resting +- +- +0 +until \d{4}-.* UTC \(rate_limited\)$/m)
  expect(stdout).not.toContain('sk-1')
})

test('lanes --json gives the same to programs', async ({ url, pool }) => {
  await pauseLane(pool, whole, noQuota)
  await pauseLane(pool, { ...whole, model: 'gpt-5' }, rateLimit)
  const { stdout } = await inturn(['lanes', '--json'], { databaseUrl: url })
  expect(JSON.parse(stdout)).toMatchObject([
    { provider: 'responses', key, model: '', state: 'resting', paused_until: null },
    { provider: 'responses', key, model: 'gpt-5', reason: 'rate_limited', max_runs: null },
  ])
})

test('status mentions the lanes that rest, and no other', async ({ url, pool }) => {
  await pauseLane(pool, { ...whole, model: 'gpt-5' }, rateLimit)
  await limitLane(pool, { ...whole, provider: 'assistants' }, 3)
  const { stdout } = await inturn(['status'], { databaseUrl: url })
  expect(stdout).toMatch(/^RESTING LANE +KEY\/MODEL +WAITING +RESTS$/m)
  expect(stdout).toMatch(new RegExp(`^responses +${key}/gpt-5 +0 +until`, 'm'))
  expect(stdout).not.toContain('assistants')
})

test('lanes resume has a lane served again', async ({ url, pool }) => {
  await pauseLane(pool, whole, noQuota)
  await pauseLane(pool, { ...whole, model: 'gpt-5' }, rateLimit)
  const resume = ['lanes', 'resume', 'responses']
  const states = async () =>
    (await pool.query('select state from lane_states order by model')).rows.map(
      ({ state }) => state,
    )
  // The only key there is.
  const resumed = await inturn([...resume, '--model', 'gpt-5'], { databaseUrl: url })
  expect(resumed.stdout).toBe(`resumed responses ${key}/gpt-5\n`)
  expect(await states()).toEqual(['resting', 'open'])
  const byKey = await inturn([...resume, '--key', key], { databaseUrl: url })
  expect(byKey.stdout).toBe(`resumed responses ${key}\n`)
  expect(await states()).toEqual(['open', 'open'])
  const again = await inturn([...resume, '--key', key], { databaseUrl: url })
  expect(again).toMatchObject({ code: 0, stdout: `responses ${key} did not rest\n` })
})

test('lanes limit sets a maximum and takes it away', async ({ url, pool }) => {
  const limit = ['lanes', 'limit', 'responses']
  const which = ['--key', key, '--model', 'gpt-5']
  const maxima = async () => (await pool.query('select max_runs from lanes')).rows
  await inturn([...limit, '7', ...which], { databaseUrl: url })
  expect(await maxima()).toEqual([{ max_runs: 7 }])
  const none = await inturn([...limit, 'none', ...which], { databaseUrl: url })
  expect(none.stdout).toBe(`responses ${key}/gpt-5: no maximum\n`)
  expect(await maxima()).toEqual([{ max_runs: null }])
})

test('without --key, the key of the environment is meant', async ({ url }) => {
  const env = { OPENAI_API_KEY: 'sk-1' }
  const limit = await inturn(['lanes', 'limit', 'assistants', '3'], { databaseUrl: url, env })
  expect(limit.stdout).toBe(`assistants ${key}: at most 3 at once\n`)
})

test.for([
  [['resume', 'openai'], 'Write responses or assistants, not openai.'],
  [['limit', 'responses', '0', '--key', key], 'Write a number from 1, or none'],
  [['limit', 'responses', 'many', '--key', key], 'Write a whole number.'],
  [['limit', 'responses', '5', '--key', 'sk-1'], '--key must be 12 hexadecimal digits'],
  [['limit', 'responses', '5'], 'Which key of responses is meant? Write --key.'],
  [['resume', 'responses', '--key', key], `There is no lane responses ${key}.`],
] as const)('lanes %o is refused with what to write', async ([args, words], { url, pool }) => {
  const { code, stdout, stderr } = await inturn(['lanes', ...args], { databaseUrl: url })
  expect(stderr).toContain(words)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect((await pool.query('select from lanes')).rowCount).toBe(0)
})

test('where several keys were used, one must be named', async ({ url, pool }) => {
  const other = laneKey('sk-2')
  await pauseLane(pool, whole, noQuota)
  await pauseLane(pool, { ...whole, key: other }, noQuota)
  const { code, stderr } = await inturn(['lanes', 'resume', 'responses'], { databaseUrl: url })
  expect(code).toBe(2)
  for (const one of [key, other]) expect(stderr).toContain(one)
})
