import type pg from 'pg'
import { expect } from 'vitest'
import type { Point } from '../../src/model/point.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { test as base } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { CrashFleet } from './crash-fleet.ts'
import { earlier, followUp, type Scenario } from './crash-scenarios.ts'

const kinds = ['rotate_thread', 'fork_thread', 'restore_thread'] as const
type Kind = (typeof kinds)[number]
type Cell = { thread: string; kind: Kind; point: Point; occurrence: number }

const timeout = { timeout: 600_000 }
const forkOf = (thread: string) => `${thread}, forked`

/** The operation, on a thread that has had a turn before. */
const scenarioOf = (kind: Kind, thread: string, archive_id = 1): Scenario => ({
  name: kind,
  operation: kind,
  data: {
    rotate_thread: { carry_over: 2 },
    fork_thread: { to: forkOf(thread) },
    restore_thread: { archive_id },
  }[kind],
  continued: true,
  status: 'completed',
  adds: [],
})

const test = base.extend('fleet', { scope: 'file' }, async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs: 3_000 })
  onCleanup(() => fleet.close())
  return fleet
})

const rowOf = async (pool: pg.Pool, id: number) =>
  (await pool.query('select * from thread_operations where id = $1', [id])).rows[0]

/** An archive of a turn, and where on its way each kind of operation can die. */
async function findCells(fleet: CrashFleet, pool: pg.Pool, provider: ProviderName) {
  const reached: Array<{ id: number; point: Point }> = []
  const dispatcher = await fleet.survivor((point, { id }) => reached.push({ id, point }))
  try {
    const archived = `${provider}: archived`
    const archive: Scenario = {
      ...scenarioOf('rotate_thread', archived),
      operation: 'archive_thread',
      data: {},
    }
    await fleet.createThreads(provider, [{ thread: archived, scenario: archive }])
    const archiveId = await fleet.insert(archived, archive)
    await fleet.drained()
    const { archive_id } = (await rowOf(pool, archiveId)).result
    const cells: Cell[] = []
    for (const kind of kinds) {
      const thread = `${provider}: ${kind}, undisturbed`
      const scenario = scenarioOf(kind, thread, archive_id)
      await fleet.createThreads(provider, [{ thread, scenario }])
      const id = await fleet.insert(thread, scenario)
      await fleet.drained()
      const path = reached.filter((one) => one.id === id).map(({ point }) => point)
      // What comes before the copy is begun, others try.
      const first = path.indexOf('before_intent')
      for (let i = first; i < path.length; i++) {
        const point = path[i] as Point
        const occurrence = path.slice(0, i + 1).filter((other) => other === point).length
        cells.push({
          thread: `${provider}: ${kind}: ${point} ${occurrence}`,
          kind,
          point,
          occurrence,
        })
      }
    }
    await fleet.createThreads(
      provider,
      cells.map(({ thread, kind }) => ({ thread, scenario: scenarioOf(kind, thread) })),
    )
    await fleet.drained()
    return { cells, archive_id }
  } finally {
    await dispatcher.stop()
  }
}

/** What the thread holds at the provider. */
async function said(fleet: CrashFleet, pool: pg.Pool, provider: ProviderName, thread: string) {
  const { rows } = await pool.query('select provider_thread_id from threads where id = $1', [
    thread,
  ])
  return fleet.emulators[provider]
    .history(rows[0].provider_thread_id)
    .map(({ role, text }) => `${role}: ${text}`)
}

test.for(providerNames)(
  'a copy on "%s" is made once and given to its thread once, wherever its dispatcher died',
  timeout,
  async (provider, { fleet, pool }) => {
    const { cells, archive_id } = await findCells(fleet, pool, provider)
    expect(cells.length).toBeGreaterThan(20)
    for (const { thread, kind, point, occurrence } of cells) {
      const operationId = await fleet.insert(thread, scenarioOf(kind, thread, archive_id))
      expect(await fleet.crash(provider, { operationId, point, occurrence })).toBe(true)
    }
    const survivor = await fleet.survivor()
    await fleet.drained().finally(() => survivor.stop())
    for (const { thread, kind } of cells) {
      const whole = [...earlier.adds, ...followUp.adds]
      expect(await said(fleet, pool, provider, thread), thread).toEqual(whole)
      const { rows } = await pool.query(
        'select status, operation from thread_operations where thread_id = $1 order by turn',
        [thread],
      )
      expect(rows, thread).toEqual(
        [earlier.operation, kind, followUp.operation].map((operation) => ({
          operation,
          status: 'completed',
        })),
      )
      const copy = kind === 'fork_thread' ? forkOf(thread) : thread
      if (kind === 'fork_thread')
        expect(await said(fleet, pool, provider, copy), copy).toEqual(earlier.adds)
      const generations = await pool.query(
        'select generation, carried_over from thread_generations where thread_id = $1 order by generation',
        [copy],
      )
      expect(generations.rows.at(-1), copy).toEqual({
        generation: kind === 'fork_thread' ? 1 : 2,
        carried_over: 2,
      })
      expect(generations.rowCount).toBe(kind === 'fork_thread' ? 1 : 2)
    }
    // Of those whose creation nobody has heard of, one each is left, and empty.
    const emulator = fleet.emulators[provider]
    const noun = provider === 'responses' ? 'conversations' : 'threads'
    const created = emulator.requests({ kind: `${noun}.create` as 'threads.create' }).length
    const deleted = new Set(
      emulator.requests({ kind: `${noun}.delete` as 'threads.delete' }).map(({ path }) => path),
    ).size
    const lost = cells.filter(({ point, occurrence }) => point === 'after_send' && occurrence === 1)
    const { rows } = await pool.query(
      'select count(*)::int as kept from thread_generations where provider = $1',
      [provider],
    )
    expect(created - deleted).toBe(rows[0].kept + lost.length)
    expect(emulator.stats.conflicts).toBe(0)
    await expectHealthy(pool)
  },
)

test(
  'a rotation that is cancelled when its dispatcher is dead leaves no copy behind',
  timeout,
  async ({ fleet, pool }) => {
    for (const provider of providerNames) {
      const thread = `${provider}: cancelled`
      const scenario = scenarioOf('rotate_thread', thread)
      const before = await fleet.survivor()
      await fleet.createThreads(provider, [{ thread, scenario }])
      await fleet.drained().finally(() => before.stop())
      const operationId = await fleet.insert(thread, scenario)
      // Of the first call that copies, the answer is known and not written down.
      expect(await fleet.crash(provider, { operationId, point: 'after_send', occurrence: 2 })).toBe(
        true,
      )
      await pool.query(
        `insert into thread_operations (thread_id, operation) values ($1, 'cancel_run')`,
        [thread],
      )
      const survivor = await fleet.survivor()
      await fleet.drained().finally(() => survivor.stop())
      const row = await rowOf(pool, operationId)
      expect(row).toMatchObject({ status: 'cancelled', progress: { copying: null } })
      await waitFor(async () => (await said(fleet, pool, provider, thread)).length === 4)
      expect(await said(fleet, pool, provider, thread)).toEqual([...earlier.adds, ...followUp.adds])
      expect(fleet.emulators[provider].keptItems()).toEqual([])
    }
  },
)
