import type pg from 'pg'
import { describe, expect } from 'vitest'
import type { Point } from '../../src/model/point.ts'
import { providerNames } from '../../src/model/thread.ts'
import { test as base } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { CrashFleet } from './crash-fleet.ts'
import { earlier } from './crash-scenarios.ts'

const test = base.extend('fleet', { scope: 'file' }, async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs: 5_000 })
  onCleanup(() => fleet.close())
  return fleet
})

type Kind = { operation: 'delete_thread' | 'expire_thread'; data: object }

const kinds: Kind[] = [
  { operation: 'delete_thread', data: { archive: true } },
  { operation: 'expire_thread', data: {} },
]

/** One place to die at, on a thread of its own. */
type Cell = Kind & { thread: string; point: Point; occurrence: number }

/** Nothing was written for so long that reads may be believed: else there would be more points on the way. */
const isQuiet = (pool: pg.Pool) =>
  waitFor(
    async () =>
      (
        await pool.query(
          `select from thread_operations where finished_at > clock_timestamp() - interval '1 second'`,
        )
      ).rowCount === 0,
    { message: 'nothing was written for a second' },
  )

const insert = async (pool: pg.Pool, thread: string, operation: string, data: object) =>
  (
    await pool.query(
      'insert into thread_operations (thread_id, operation, data) values ($1, $2, $3) returning id',
      [thread, operation, data],
    )
  ).rows[0].id as number

describe.each(providerNames)('a dispatcher that dies while it deletes on "%s"', (provider) => {
  test('leaves it to the next one, which deletes all of it and nothing else', {
    timeout: 240_000,
  }, async ({ fleet, pool }) => {
    await pool.query(
      `insert into thread_policies (name, absolute_ttl) values ('short', '1 ms') on conflict do nothing`,
    )
    const open = async (threads: string[]) => {
      await fleet.createThreads(
        provider,
        threads.map((thread) => ({ thread, scenario: { ...earlier, ...continued } })),
      )
      await fleet.drained()
      await pool.query(`update threads set policy = 'short' where id = any ($1)`, [threads])
    }
    const reached: Array<{ id: number; point: Point }> = []
    const first = await fleet.survivor((point, { id }) => reached.push({ id, point }))
    const cells: Cell[] = []
    try {
      for (const kind of kinds) {
        const thread = `${provider}: ${kind.operation}, undisturbed`
        await open([thread])
        await isQuiet(pool)
        const id = await insert(pool, thread, kind.operation, kind.data)
        await fleet.drained()
        const path = reached.flatMap((step) => (step.id === id ? [step.point] : []))
        cells.push(...cellsOf(provider, kind, path))
      }
      await open(cells.map(({ thread }) => thread))
    } finally {
      await first.stop()
    }
    expect(cells.length).toBeGreaterThan(10)

    const ids = new Map<string, number>()
    for (const { thread, operation, data, point, occurrence } of cells) {
      const id = await insert(pool, thread, operation, data)
      ids.set(thread, id)
      await fleet.crash(provider, { operationId: id, point, occurrence })
    }
    const survivor = await fleet.survivor()
    try {
      await fleet.drained()
    } finally {
      await survivor.stop()
    }
    for (const { thread, operation } of cells) {
      const { rows } = await pool.query(
        `select o.status, o.error, o.result, t.provider_thread_id, t.deleted_at, g.provider_thread_id as gone, g.ended_by, g.proof,
                (select count(*)::int from archived_messages m join thread_archives a on a.id = m.archive_id where a.thread_id = t.id) as archived
           from thread_operations o join threads t on t.id = o.thread_id join thread_generations g on g.thread_id = t.id where o.id = $1`,
        [ids.get(thread)],
      )
      expect(rows, thread).toHaveLength(1)
      const [row] = rows
      expect(row, thread).toMatchObject({
        status: 'completed',
        provider_thread_id: null,
        ended_by: operation === 'delete_thread' ? 'deleted' : 'expired',
        proof: { gone_at: expect.any(String) },
        archived: 2,
        result: { archive_id: expect.any(Number), deleted: [{ generation: 1 }] },
      })
      expect(row.deleted_at === null, thread).toBe(operation === 'expire_thread')
      expect(() => fleet.emulators[provider].history(row.gone), thread).toThrow('no thread')
    }
    expect(fleet.emulators[provider].keptItems()).toEqual([])
    await expectHealthy(pool)
  })
})

const continued = { name: 'continued', continued: true, status: 'completed' } as const

const cellsOf = (provider: string, kind: Kind, path: readonly Point[]): Cell[] =>
  path.map((point, i) => {
    const occurrence = path.slice(0, i + 1).filter((other) => other === point).length
    return {
      ...kind,
      thread: `${provider}: ${kind.operation}: ${point} ${occurrence}`,
      point,
      occurrence,
    }
  })
