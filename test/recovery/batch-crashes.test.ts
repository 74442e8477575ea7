import type pg from 'pg'
import { expect } from 'vitest'
import type { Point } from '../../src/model/point.ts'
import { test as base } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { CrashFleet } from './crash-fleet.ts'
import { scenarioNamed } from './crash-scenarios.ts'

const provider = 'responses'
const size = 3

/** Who dies where: the dispatcher of the batch's first message, or of the second that was sent along. */
type Cell = { thread: string; member: 0 | 1; point: Point; occurrence: number }

/** Neighbours that all say the same, as does what stands before them. */
async function insertBatch(pool: pg.Pool, thread: string): Promise<number[]> {
  const { rows } = await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     select $1, 'add_message', '{"message": "ok"}' from generate_series(1, $2) returning id`,
    [thread, size],
  )
  return rows.map(({ id }) => id)
}

async function findCells(fleet: CrashFleet, pool: pg.Pool): Promise<Cell[]> {
  const scenario = scenarioNamed('add_message')
  const reached: Array<{ id: number; point: Point }> = []
  const dispatcher = await fleet.survivor((point, { id }) => reached.push({ id, point }))
  try {
    await fleet.createThreads(provider, [{ thread: 'undisturbed', scenario }])
    await fleet.drained()
    const ids = await insertBatch(pool, 'undisturbed')
    await fleet.drained()
    const cells = ([0, 1] as const).flatMap((member) => {
      const path = reached.filter(({ id }) => id === ids[member]).map(({ point }) => point)
      return path.map((point, i): Cell => {
        const occurrence = path.slice(0, i + 1).filter((other) => other === point).length
        return { thread: `${member}: ${point} ${occurrence}`, member, point, occurrence }
      })
    })
    await fleet.createThreads(
      provider,
      cells.map(({ thread }) => ({ thread, scenario })),
    )
    await fleet.drained()
    return cells
  } finally {
    await dispatcher.stop()
  }
}

const test = base.extend('fleet', { scope: 'file' }, async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs: 2_000 })
  onCleanup(() => fleet.close())
  return fleet
})

test('neighbouring messages are there once and in turn, wherever the dispatcher of one of them died', {
  timeout: 600_000,
}, async ({ fleet, pool }) => {
  const cells = await findCells(fleet, pool)
  expect(new Set(cells.map(({ point }) => point))).toContain('before_send')
  // Those last whose call is still young when somebody comes, who then has to wait.
  cells.sort((a, b) => Number(a.point === 'before_send') - Number(b.point === 'before_send'))
  for (const { thread, member, point, occurrence } of cells) {
    const ids = await insertBatch(pool, thread)
    const operationId = ids[member] as number
    expect(await fleet.crash(provider, { operationId, point, occurrence })).toBe(true)
  }
  const survivor = await fleet.survivor()
  await fleet.drained().finally(() => survivor.stop())

  const { history } = fleet.emulators[provider]
  const { rows } = await pool.query(
    `select t.id as thread, t.provider_thread_id, array_agg(o.result ->> 'message_id' order by o.turn)
                filter (where o.operation = 'add_message') as messages
         from threads t join thread_operations o on o.thread_id = t.id where o.status = 'completed' group by t.id`,
  )
  expect(rows).toHaveLength(cells.length + 1)
  for (const { thread, provider_thread_id, messages } of rows) {
    const added = history(provider_thread_id).slice(2)
    expect(
      added.map(({ text }) => text),
      thread,
    ).toEqual(Array(size).fill('ok'))
    expect(messages, thread).toEqual(added.map(({ id }) => id))
  }
  expect(fleet.emulators[provider].stats.conflicts).toBe(0)
  await expectHealthy(pool)
})
