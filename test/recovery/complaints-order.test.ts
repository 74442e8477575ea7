import type pg from 'pg'
import { describe, expect } from 'vitest'
import { completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow } from '../support/line.ts'
import { completes, type Script, type Scripted, test } from '../support/scripted.ts'
import { waitFor } from '../support/wait-for.ts'
import { watched } from './watched.ts'

const lines = { without: ['results_are_there'] }

const isOver = async (pool: pg.Pool) =>
  (await pool.query('select from thread_operations where finished_at is null')).rowCount === 0

/** Ids by thread, in the order of their inserts. */
async function insertEach(pool: pg.Pool, threads: number, count: number) {
  const ids = new Map<string, number[]>()
  for (let i = 0; i < threads * count; i++) {
    const thread = `t${i % threads}`
    const { id } = await insertRow(pool, { thread_id: thread })
    ids.set(thread, [...(ids.get(thread) ?? []), id])
  }
  return ids
}

describe('one at a time', () => {
  test('a dispatcher that fetches many heads at once never runs two of one thread', async ({
    pool,
    start,
  }) => {
    const ids = await insertEach(pool, 5, 10)
    const seen = watched(2)
    await start(seen.script, { concurrency: 50 })
    await waitFor(() => isOver(pool))
    expect(seen.most.ofOneThread).toBe(1)
    expect(seen.most.together).toBeGreaterThan(1)
    expect(seen.started).toEqual(ids)
    await expectHealthy(pool, lines)
  })

  test('limit one never runs two, however many dispatchers pounce on the line', async ({
    pool,
    start,
  }) => {
    const ids = await insertEach(pool, 2, 40)
    const seen = watched(1)
    await Promise.all(Array.from({ length: 11 }, () => start(seen.script, { sweepMs: 20 })))
    await waitFor(() => isOver(pool))
    expect(seen.most.ofOneThread).toBe(1)
    expect(seen.started).toEqual(ids)
    await expectHealthy(pool, lines)
  })

  test('limit one never runs two while lines fill and empty at every moment', async ({
    pool,
    start,
  }) => {
    const seen = watched(0)
    await Promise.all(Array.from({ length: 4 }, () => start(seen.script, { pollMs: 10 })))
    const write = async () => {
      for (let i = 0; i < 60; i++) await insertRow(pool, { thread_id: 'busy' })
    }
    await Promise.all([write(), write(), write()])
    await waitFor(() => isOver(pool))
    expect(seen.most.ofOneThread).toBe(1)
    expect(seen.started.get('busy')).toHaveLength(180)
    await expectHealthy(pool, lines)
  })
})

describe('in the order of the inserts', () => {
  test('a thread is served as it was written, without any setting and one at a time overall', async ({
    pool,
    start,
  }) => {
    const ids = await insertEach(pool, 3, 8)
    const seen = watched(0)
    await start(seen.script, { concurrency: 1 })
    await waitFor(() => isOver(pool))
    expect(seen.started).toEqual(ids)
  })

  test.for<[string, Script]>([
    ['that failed', ({ operation }) => fails(operation.attempts, true)],
    ['that met a rate limit', ({ operation }) => fails(operation.attempts, false)],
    [
      'that nobody knows the outcome of',
      ({ operation }) => (operation.attempts < 2 ? null : completed),
    ],
  ])('an attempt %s does not go to the back of its line', async ([, script], { pool, start }) => {
    const [a, b, c] = (await insertEach(pool, 1, 3)).get('t0') as [number, number, number]
    const line = await start(script)
    await waitFor(() => isOver(pool))
    const order = line.started.filter((id, i) => id !== line.started[i - 1])
    expect(order).toEqual([a, b, c])
    await expectHealthy(pool, lines)
  })

  test('an attempt whose dispatcher died does not go to the back of its line', async ({
    pool,
    connected,
    start,
  }) => {
    const dead = await HandDriven.signOn(await connected(), 'dead', { leaseMs: 300 })
    const ids = (await insertEach(pool, 1, 3)).get('t0')
    await dead.claimOnly()
    const line = await start(completes)
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual(ids)
    await expectHealthy(pool, { ...lines })
  })

  test('a lower id that commits later overtakes nobody who has started, and is not lost', async ({
    pool,
    connected,
    start,
  }) => {
    const writer = await connected()
    await writer.query('begin')
    const lower = await insertRow(writer, { thread_id: 't' })
    const higher = await insertRow(pool, { thread_id: 't' })
    const mayEnd = Promise.withResolvers<typeof completed>()
    const script: Script = ({ operation }) =>
      operation.id === higher.id && operation.attempts === 1
        ? mayEnd.promise.then(() => retryIn(50))
        : completed
    const line = await start(script)
    await waitFor(() => line.started.length === 1)
    await writer.query('commit')
    mayEnd.resolve(completed)
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual([higher.id, higher.id, lower.id])
    expect(lower.id).toBeLessThan(higher.id)
    await expectHealthy(pool, lines)
  })

  test('what had committed before an INSERT began is started first, whichever connection wrote it', async ({
    pool,
    connected,
    start,
  }) => {
    const writers = [await connected(), await connected(), await connected()]
    const ids: number[] = []
    for (let i = 0; i < 30; i++) {
      const writer = writers[i % writers.length] as pg.PoolClient
      ids.push((await insertRow(writer, { thread_id: 't' })).id)
    }
    const [one, two] = await Promise.all([start(completes), start(completes)])
    await waitFor(() => isOver(pool))
    const { rows } = await pool.query('select id from thread_operations order by turn')
    expect(rows.map(({ id }) => id)).toEqual(ids)
    expect((one as Scripted).started.length + (two as Scripted).started.length).toBe(30)
  })

  test('rows of one statement are served in the order in which it wrote them', async ({
    pool,
    start,
  }) => {
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select 't', 'add_message', jsonb_build_object('message', n::text) from generate_series(1, 50) n`,
    )
    const line = await start(completes)
    await waitFor(() => isOver(pool))
    const said = line.claims.map(({ operation }) => operation.data.message)
    expect(said).toEqual(Array.from({ length: 50 }, (_, i) => String(i + 1)))
  })
})

/** Two attempts that do not succeed, then one that does. */
const fails = (attempt: number, burnsAttempt: boolean) =>
  attempt < 3 ? { ...retryIn(10), burnsAttempt } : completed
