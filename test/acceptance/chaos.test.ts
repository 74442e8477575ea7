import { expect, test } from 'vitest'
import { reportText } from '../../chaos/report.ts'
import { runChaos } from '../../chaos/run.ts'
import { short } from '../../chaos/scale.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const seconds = 40

test(`nothing is lost, doubled or out of order in a minute of chaos (SEED=${seed})`, {
  timeout: 180_000,
}, async ({ signal }) => {
  const result = await runChaos({ seed, seconds, scale: short(seconds), signal })
  const report = reportText(result)
  expect(result.offenders, report).toEqual([])
  expect(result.counts.kill).toBeGreaterThan(0)
  expect(result.counts.restarts).toBeGreaterThan(0)
})
