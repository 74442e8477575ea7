import { describe, expect } from 'vitest'
import { type Point, points } from '../../src/model/point.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { test as base } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { effectsOn, promisedEffects } from './crash-effects.ts'
import { CrashFleet } from './crash-fleet.ts'
import { type Scenario, scenarios } from './crash-scenarios.ts'

/** One place to die at, on a thread of its own. */
type Cell = {
  thread: string
  provider: ProviderName
  scenario: Scenario
  point: Point
  occurrence: number
}

/** All points that each scenario reaches when nothing happens, so that none can be forgotten. */
async function findCells(fleet: CrashFleet): Promise<Cell[]> {
  const reached: Array<{ id: number; point: Point }> = []
  const dispatcher = await fleet.survivor((point, { id }) => reached.push({ id, point }))
  try {
    const cells: Cell[] = []
    for (const provider of providerNames) {
      const undisturbed = scenarios.map((scenario) => ({
        thread: `${provider}: ${scenario.name}, undisturbed`,
        scenario,
      }))
      await fleet.createThreads(provider, undisturbed)
      const ids = await Promise.all(
        undisturbed.map(({ thread, scenario }) => fleet.insert(thread, scenario)),
      )
      await fleet.drained()
      for (const [i, scenario] of scenarios.entries()) {
        const path = reached.filter(({ id }) => id === ids[i]).map(({ point }) => point)
        cells.push(...cellsOf(provider, scenario, path))
      }
    }
    for (const provider of providerNames) {
      await fleet.createThreads(
        provider,
        cells.filter((cell) => cell.provider === provider),
      )
    }
    await fleet.drained()
    return cells
  } finally {
    await dispatcher.stop()
  }
}

function cellsOf(provider: ProviderName, scenario: Scenario, path: readonly Point[]): Cell[] {
  const cells = path.map((point, i) => {
    const occurrence = path.slice(0, i + 1).filter((other) => other === point).length
    const thread = `${provider}: ${scenario.name}: ${point} ${occurrence}`
    return { thread, provider, scenario, point, occurrence }
  })
  // Once the provider thread is known, a new thread is like any other.
  const created = scenario.beginsThread ? path.indexOf('after_thread_note') : path.length
  return cells.slice(0, created + 1)
}

// A fixture of its own, because one that throws is not cleaned up.
const withFleet = base.extend('fleet', { scope: 'file' }, async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs: 5_000 })
  onCleanup(() => fleet.close())
  return fleet
})

/** `cells`: after each has died in its place, and all that was left has been taken over. */
const test = withFleet.extend('cells', { scope: 'file' }, async ({ fleet }): Promise<Cell[]> => {
  const cells = await findCells(fleet)
  const missed: Cell[] = []
  const crashAll = async (provider: ProviderName) => {
    const own = cells.filter((cell) => cell.provider === provider)
    // Those last whose call is still young when somebody comes, who then has to wait.
    own.sort((a, b) => Number(a.point === 'before_send') - Number(b.point === 'before_send'))
    for (const cell of own) {
      const { thread, scenario, point, occurrence } = cell
      const operationId = await fleet.insert(thread, scenario)
      if (!(await fleet.crash(provider, { operationId, point, occurrence }))) missed.push(cell)
    }
  }
  await Promise.all(providerNames.map(crashAll))
  const survivor = await fleet.survivor()
  await fleet.drained().finally(() => survivor.stop())
  // A machine that is busy for a moment has more waits in the undisturbed run than there are otherwise.
  expect(missed.length, missed.map(({ thread }) => thread).join('; ')).toBeLessThan(5)
  return cells
})

const timeout = { timeout: 600_000 }

test('every point is reached by some operation', timeout, ({ cells }) => {
  const reached = new Set(cells.map(({ point }) => point))
  expect([...reached].sort()).toEqual([...points].sort())
})

describe.each(providerNames)('of "%s"', (provider) => {
  test.for(scenarios)(
    '$name takes effect once and in turn, wherever its dispatcher died',
    timeout,
    async (scenario, { fleet, cells, pool }) => {
      const threads = cells
        .filter((cell) => cell.provider === provider && cell.scenario === scenario)
        .map(({ thread }) => thread)
      expect(threads).not.toEqual([])
      const found = threads.map((thread) => effectsOn(thread, provider, { fleet, pool }))
      expect(await Promise.all(found)).toEqual(
        threads.map((thread) => promisedEffects(thread, scenario)),
      )
    },
  )
})

test(
  'nobody met a conflict, and the doctor finds nothing',
  timeout,
  async ({ cells, fleet, pool }) => {
    expect(cells).not.toEqual([])
    for (const provider of providerNames) expect(fleet.emulators[provider].stats.conflicts).toBe(0)
    await expectHealthy(pool)
  },
)
