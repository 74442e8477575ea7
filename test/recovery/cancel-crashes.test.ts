import type pg from 'pg'
import { describe, expect } from 'vitest'
import type { Point } from '../../src/model/point.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { test as base } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { CrashFleet } from './crash-fleet.ts'
import { type Scenario, scenarioNamed } from './crash-scenarios.ts'

/** Where a dispatcher dies, on a thread of its own: before the cancel_run is inserted, or while it acts on it. */
type Cell = {
  thread: string
  scenario: Scenario
  point: Point
  occurrence: number
  asked: 'afterwards' | 'before'
}

const talk = scenarioNamed('add_message_and_run')
const scenarios = [talk, scenarioNamed('add_message'), scenarioNamed('update_thread')]

const cancel = (pool: pg.Pool, thread: string) =>
  pool.query(`insert into thread_operations (thread_id, operation) values ($1, 'cancel_run')`, [
    thread,
  ])

const hasRun = (pool: pg.Pool, id: number) =>
  waitFor(
    async () => {
      const { rows } = await pool.query(
        `select from thread_operations where id = $1 and progress ? 'run_id'`,
        [id],
      )
      return rows.length === 1
    },
    { message: `operation ${id} has a run` },
  )

const isOver = (pool: pg.Pool, ids: readonly number[]) =>
  waitFor(
    async () =>
      (
        await pool.query(
          'select from thread_operations where id = any ($1) and finished_at is null',
          [ids],
        )
      ).rowCount === 0,
    { timeoutMs: 60_000, message: 'the cancelled operations are over' },
  )

const cells = (scenario: Scenario, asked: Cell['asked'], path: readonly Point[]): Cell[] =>
  path.map((point, i) => {
    const occurrence = path.slice(0, i + 1).filter((other) => other === point).length
    return {
      thread: `${scenario.name}: ${point} ${occurrence}, ${asked}`,
      scenario,
      point,
      occurrence,
      asked,
    }
  })

/** All points on the way of each scenario; of those that are cancelled, only what comes after their runs were named. */
async function findCells(fleet: CrashFleet, pool: pg.Pool, provider: ProviderName) {
  const reached: Array<{ id: number; point: Point }> = []
  const pathOf = (id: number) => reached.flatMap((step) => (step.id === id ? [step.point] : []))
  const dispatcher = await fleet.survivor((point, { id }) => reached.push({ id, point }))
  try {
    const undisturbed = scenarios.map((scenario) => ({
      thread: `${provider}, ${scenario.name}: undisturbed`,
      scenario,
    }))
    const stopped = { thread: `${provider}: undisturbed cancel`, scenario: talk }
    await fleet.createThreads(provider, [...undisturbed, stopped])
    await fleet.drained()
    const found: Cell[] = []
    for (const { thread, scenario } of undisturbed) {
      const id = await fleet.insert(thread, scenario)
      await fleet.drained()
      found.push(...cells(scenario, 'afterwards', pathOf(id).slice(0, -1)))
    }
    const goOn = fleet.keepThinking()
    const id = await fleet.insert(stopped.thread, talk)
    await hasRun(pool, id)
    await cancel(pool, stopped.thread)
    await isOver(pool, [id])
    goOn()
    await fleet.drained()
    const path = pathOf(id)
    // Behind the note of the run's id.
    found.push(...cells(talk, 'before', path).slice(path.indexOf('run_named') + 2))
    const own = found.map((cell) => ({ ...cell, thread: `${provider}, ${cell.thread}` }))
    await fleet.createThreads(provider, own)
    await fleet.drained()
    return own
  } finally {
    await dispatcher.stop()
  }
}

const withFleet = base.extend('fleet', { scope: 'file' }, async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs: 3_000 })
  onCleanup(() => fleet.close())
  return fleet
})

type Died = Cell & { id: number }

/** After each has died in its place, and all that was left has been taken over. */
const test = withFleet.extend('died', { scope: 'file' }, async ({ fleet, pool }) => {
  const own = {} as Record<ProviderName, Cell[]>
  for (const provider of providerNames) own[provider] = await findCells(fleet, pool, provider)
  const died = { responses: [] as Died[], assistants: [] as Died[] }
  const crashAll = async (provider: ProviderName, asked: Cell['asked']) => {
    for (const cell of own[provider].filter((cell) => cell.asked === asked)) {
      const { thread, scenario, point, occurrence } = cell
      const id = await fleet.insert(thread, scenario)
      const crash = fleet.crash(provider, { operationId: id, point, occurrence })
      if (asked === 'before') {
        await hasRun(pool, id)
        await cancel(pool, thread)
      }
      expect(await crash).toBe(true)
      if (asked === 'afterwards') await cancel(pool, thread)
      died[provider].push({ ...cell, id })
    }
  }
  await Promise.all(providerNames.map((provider) => crashAll(provider, 'afterwards')))
  const goOn = fleet.keepThinking()
  await Promise.all(providerNames.map((provider) => crashAll(provider, 'before')))
  const survivor = await fleet.survivor()
  try {
    const stopped = Object.values(died).flatMap((all) =>
      all.filter((one) => one.asked === 'before'),
    )
    await isOver(
      pool,
      stopped.map(({ id }) => id),
    )
    goOn()
    await fleet.drained()
  } finally {
    await survivor.stop()
  }
  return died
})

const timeout = { timeout: 600_000 }

describe.each(providerNames)('of "%s"', (provider) => {
  const outcomesOf = async (pool: pg.Pool, ids: readonly number[]) =>
    (
      await pool.query(
        `select o.id, o.thread_id, o.status, o.error ->> 'code' as code, c.result ->> 'outcome' as told, t.provider_thread_id
           from thread_operations o
           join threads t on t.id = o.thread_id
           left join thread_operations c on c.thread_id = o.thread_id and c.operation = 'cancel_run'
          where o.id = any ($1) order by o.id`,
        [ids],
      )
    ).rows

  test(
    'a run that is being cancelled is cancelled once, wherever its dispatcher died',
    timeout,
    async ({ died, fleet, pool }) => {
      const cells = died[provider].filter(({ asked }) => asked === 'before')
      expect(cells.map(({ point }) => point)).toEqual(
        expect.arrayContaining(['before_intent', 'before_send', 'after_send', 'before_settle']),
      )
      const rows = await outcomesOf(
        pool,
        cells.map(({ id }) => id),
      )
      const { runs } = fleet.emulators[provider]
      expect(
        rows.map(({ thread_id, status, code, told, provider_thread_id: id }) => ({
          thread_id,
          status,
          code,
          told,
          runs: runs(id).map((run) => run.status),
        })),
      ).toEqual(
        rows.map(({ thread_id }) => ({
          thread_id,
          status: 'cancelled',
          code: 'cancelled',
          told: 'cancelled',
          // The turn before, the one that was cancelled, the one behind it.
          runs: ['completed', 'cancelled', 'completed'],
        })),
      )
    },
  )

  test(
    'an operation that is cancelled after its dispatcher died is what the provider says it is',
    timeout,
    async ({ died, fleet, pool }) => {
      const cells = died[provider].filter(({ asked }) => asked === 'afterwards')
      const rows = await outcomesOf(
        pool,
        cells.map(({ id }) => id),
      )
      const emulator = fleet.emulators[provider]
      const found = rows.map((row, i) => {
        const { adds, operation } = cells[i]?.scenario as Scenario
        const { id, provider_thread_id } = row
        const said = emulator
          .history(provider_thread_id)
          .map(({ role, text }) => `${role}: ${text}`)
        // Between the turn before and the one behind it.
        const added = said.slice(2, -2)
        const run = emulator
          .runs(provider_thread_id)
          .find(({ metadata }) => metadata.inturn_operation === String(id))
        const isDone =
          operation === 'add_message' ? added.length === 1 : run?.status === 'completed'
        const story = { thread: row.thread_id, status: row.status, told: row.told }
        if (operation === 'update_thread') return { ...story, expected: row.status }
        if (isDone) expect(added, row.thread_id).toEqual(adds)
        else expect(added, row.thread_id).not.toContain(adds[1] ?? adds[0])
        return { ...story, expected: isDone ? 'completed' : 'cancelled' }
      })
      expect(found).toEqual(
        found.map((one) => ({ ...one, status: one.expected, told: one.expected })),
      )
      expect(new Set(found.map(({ status }) => status))).toEqual(
        new Set(['completed', 'cancelled']),
      )
    },
  )
})

test(
  'no run goes on, nobody met a conflict, and the doctor finds nothing',
  timeout,
  async ({ died, fleet, pool }) => {
    expect(died).not.toEqual({})
    for (const provider of providerNames) {
      const { runs, conflicts } = fleet.emulators[provider]
      expect(runs().filter(({ endedAt }) => endedAt === null)).toEqual([])
      expect(conflicts().filter(({ probe }) => !probe)).toEqual([])
    }
    await expectHealthy(pool)
  },
)
