import type pg from 'pg'
import { expect } from 'vitest'
import type { Point } from '../../src/model/point.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { test as base } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { CrashFleet } from './crash-fleet.ts'
import { earlier, followUp, scenarioNamed } from './crash-scenarios.ts'

type Cell = { thread: string; point: Point; occurrence: number }

const talk = scenarioNamed('add_message_and_run that merges equal messages')
const timeout = { timeout: 600_000 }

const rowOf = async (pool: pg.Pool, id: number) =>
  (await pool.query('select status, error, progress from thread_operations where id = $1', [id]))
    .rows[0]

/** Interrupts the operation once its run goes on. */
async function interrupt(pool: pg.Pool, id: number): Promise<void> {
  await waitFor(async () => (await rowOf(pool, id)).progress?.run_id, {
    message: `operation ${id} has a run`,
  })
  await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     select thread_id, 'cancel_run', jsonb_build_object('operation_id', id, 'interrupted_by', id + 1)
       from thread_operations where id = $1`,
    [id],
  )
}

const isOver = (pool: pg.Pool, id: number) =>
  waitFor(async () => (await rowOf(pool, id)).status === 'cancelled', {
    message: `operation ${id} is cancelled`,
  })

/** All points on the way of an interrupted operation behind the note of its run's id. */
async function findCells(fleet: CrashFleet, pool: pg.Pool, provider: ProviderName) {
  const path: Point[] = []
  let watched = 0
  const dispatcher = await fleet.survivor((point, { id }) => {
    if (id === watched || watched === 0) path.push(point)
  })
  try {
    const thread = `${provider}: undisturbed`
    await fleet.createThreads(provider, [{ thread, scenario: talk }])
    await fleet.drained()
    path.length = 0
    const goOn = fleet.keepThinking()
    watched = await fleet.insert(thread, talk)
    await interrupt(pool, watched)
    await isOver(pool, watched)
    goOn()
    const cells = path.map((point, i): Cell => {
      const occurrence = path.slice(0, i + 1).filter((other) => other === point).length
      return { thread: `${provider}: ${point} ${occurrence}`, point, occurrence }
    })
    const own = cells.slice(path.indexOf('run_named') + 2)
    await fleet.createThreads(
      provider,
      own.map(({ thread }) => ({ thread, scenario: talk })),
    )
    await fleet.drained()
    return own
  } finally {
    await dispatcher.stop()
  }
}

const test = base.extend('fleet', { scope: 'file' }, async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs: 3_000 })
  onCleanup(() => fleet.close())
  return fleet
})

test(
  'who is interrupted keeps its messages, each once, wherever its dispatcher died',
  timeout,
  async ({ fleet, pool }) => {
    const died = new Map<string, number>()
    const cells = {} as Record<ProviderName, Cell[]>
    for (const provider of providerNames) cells[provider] = await findCells(fleet, pool, provider)
    const goOn = fleet.keepThinking()
    const crashAll = async (provider: ProviderName) => {
      for (const { thread, point, occurrence } of cells[provider]) {
        const operationId = await fleet.insert(thread, talk)
        const crash = fleet.crash(provider, { operationId, point, occurrence })
        await interrupt(pool, operationId)
        expect(await crash).toBe(true)
        died.set(thread, operationId)
      }
    }
    await Promise.all(providerNames.map(crashAll))
    const survivor = await fleet.survivor()
    try {
      for (const id of died.values()) await isOver(pool, id)
      goOn()
      await fleet.drained()
    } finally {
      await survivor.stop()
    }

    for (const provider of providerNames) {
      const emulator = fleet.emulators[provider]
      const found = cells[provider].map(async ({ thread }) => {
        const { error } = await rowOf(pool, died.get(thread) as number)
        const { rows } = await pool.query('select provider_thread_id from threads where id = $1', [
          thread,
        ])
        const said = emulator.history(rows[0].provider_thread_id)
        return [thread, error.code, ...said.map(({ role, text }) => `${role}: ${text}`)]
      })
      const kept = talk.adds.filter((text) => text.startsWith('user'))
      expect(await Promise.all(found)).toEqual(
        cells[provider].map(({ thread }) => [
          thread,
          'interrupted',
          ...earlier.adds,
          ...kept,
          ...followUp.adds,
        ]),
      )
      expect(emulator.conflicts().filter(({ probe }) => !probe)).toEqual([])
    }
    await expectHealthy(pool)
  },
)
