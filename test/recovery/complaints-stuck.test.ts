import { setTimeout as takes } from 'node:timers/promises'
import type pg from 'pg'
import { describe, expect } from 'vitest'
import type { Outcome } from '../../src/model/outcome.ts'
import { signOff } from '../../src/store/dispatchers.ts'
import { releaseLostOperations } from '../../src/store/release.ts'
import { completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow } from '../support/line.ts'
import { completes, hangs, type Script, test } from '../support/scripted.ts'
import { damage } from '../support/served-lines.ts'
import { waitFor } from '../support/wait-for.ts'

const thread = { thread_id: 't' }
const never = 60_000
const quick = { heartbeatMs: 100, graceMs: 300, leaseMs: 400 }
/** Long enough that a busy machine does not look dead. */
const steady = { heartbeatMs: 100, graceMs: 1_000, leaseMs: 1_500 }
const lines = { without: ['results_are_there'] }

const isOver = async (pool: pg.Pool) =>
  (await pool.query('select from thread_operations where finished_at is null')).rowCount === 0

const stateOf = async (pool: pg.Pool, id: string) =>
  (await pool.query('select state from thread_states where thread_id = $1', [id])).rows[0]?.state

describe('after a crash', () => {
  test('all that a dead dispatcher held is served again, however much and however long ago', async ({
    pool,
    url,
    connected,
    start,
  }) => {
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select 't' || i % 300, 'add_message', '{"message": "Hi"}' from generate_series(1, 600) i`,
    )
    const dead = await HandDriven.signOn(await connected(), 'dead', quick)
    expect(await dead.claim({ free: 300 })).toHaveLength(300)
    await damage(
      url,
      `update thread_operations set created_at = created_at - interval '91 days',
              started_at = started_at - interval '91 days', updated_at = updated_at - interval '91 days'
        where status = 'processing';
       update dispatchers set beat_at = beat_at - interval '91 days'`,
    )
    const line = await start(completes, quick)
    await waitFor(() => isOver(pool))
    expect(line.started).toHaveLength(600)
    await expectHealthy(pool, { without: [...lines.without, 'started_at_follows_the_turns'] })
  })

  test('an operation whose dispatcher is on no list is served again', async ({
    pool,
    connected,
    start,
  }) => {
    const orphaned = await HandDriven.signOn(await connected(), 'orphaned')
    const { id } = await insertRow(pool, thread)
    await orphaned.claimOnly()
    await pool.query('delete from dispatchers')
    const line = await start(completes, { leaseMs: 600_000, heartbeatMs: 1_000 })
    await waitFor(() => isOver(pool))
    expect(line.claims).toMatchObject([{ operation: { id, attempts: 2 } }])
  })

  test('a thread is not busy for ever, and needs no hand to repair it', async ({
    pool,
    connected,
    start,
  }) => {
    const dead = await HandDriven.signOn(await connected(), 'dead', quick)
    await insertRow(pool, thread)
    await insertRow(pool, thread)
    await dead.claimOnly()
    expect(await stateOf(pool, 't')).toBe('active')
    await start(completes, quick)
    await waitFor(async () => (await stateOf(pool, 't')) === 'idle')
    const { rowCount } = await pool.query('select from waiting_operations')
    expect(rowCount).toBe(0)
    await expectHealthy(pool, lines)
  })

  test('a restarted dispatcher is not blocked by the lease of the one it was', async ({
    pool,
    connected,
    start,
  }) => {
    const before = await HandDriven.signOn(await connected(), 'before')
    const held = await insertRow(pool, { thread_id: 'held' })
    await before.claimOnly()
    const line = await start(completes, { leaseMs: never, heartbeatMs: 1_000 })
    for (let i = 0; i < 5; i++) await insertRow(pool, { thread_id: `t${i}` })
    await waitFor(() => line.claims.length === 5)
    expect((await readRow(pool, held.id)).status).toBe('processing')
  })

  test('of a dispatcher that said goodbye nobody waits for its lease', async ({ pool, start }) => {
    const { id } = await insertRow(pool, thread)
    const before = await start(hangs, { shutdownMs: 0, leaseMs: never })
    await waitFor(() => before.claims.length === 1)
    await before.stop()
    const after = await start(completes, { leaseMs: never })
    await waitFor(() => isOver(pool))
    expect(after.started).toEqual([id])
  })

  test('an idle transaction on one of its lines holds up no other', async ({
    pool,
    connected,
    start,
  }) => {
    const dead = await HandDriven.signOn(await connected(), 'dead', quick)
    const user = await connected()
    const held = await insertRow(pool, { thread_id: 'held' })
    for (let i = 0; i < 5; i++) await insertRow(pool, { thread_id: `t${i}` })
    expect(await dead.claim()).toHaveLength(6)
    await user.query('begin')
    await user.query('select from thread_operations where id = $1 for update', [held.id])
    const line = await start(completes, quick)
    await waitFor(() => line.claims.length === 5)
    expect((await readRow(pool, held.id)).status).toBe('processing')
    await user.query('rollback')
    await waitFor(() => isOver(pool))
    expect(line.started.at(-1)).toBe(held.id)
    await expectHealthy(pool, lines)
  })
})

describe('while its dispatcher lives', () => {
  test('a long handler never loses its claim', async ({ pool, start }) => {
    const { id } = await insertRow(pool, thread)
    const script: Script = async () => {
      await takes(2 * steady.leaseMs)
      return completed
    }
    const [one, two] = [await start(script, steady), await start(script, steady)]
    await waitFor(() => isOver(pool))
    expect([...one.claims, ...two.claims]).toMatchObject([{ operation: { id, attempts: 1 } }])
    expect([...one.claims, ...two.claims].map(({ signal }) => signal.aborted)).toEqual([false])
    await expectHealthy(pool, lines)
  })

  test('age alone never makes a running operation count as lost', async ({ pool, url, start }) => {
    const { id } = await insertRow(pool, thread)
    const answer = Promise.withResolvers<Outcome>()
    const one = await start(
      ({ operation }) => (operation.id === id ? answer.promise : completed),
      steady,
    )
    await waitFor(() => one.claims.length === 1)
    await damage(
      url,
      `update thread_operations set started_at = started_at - interval '91 days',
              updated_at = updated_at - interval '91 days'`,
    )
    await start(completes, steady)
    // Both have swept since, several times.
    for (let i = 0; i < 10; i++) {
      const { id: between } = await insertRow(pool, { thread_id: `other ${i}` })
      await waitFor(async () => (await readRow(pool, between)).status === 'completed')
    }
    expect(await readRow(pool, id)).toMatchObject({ status: 'processing', attempts: 1 })
    answer.resolve(completed)
    await waitFor(() => isOver(pool))
    expect(await readRow(pool, id)).toMatchObject({ status: 'completed', attempts: 1 })
  })

  test('its slots are all free again, whatever became of the attempts', async ({ pool, start }) => {
    const ends: Array<Outcome | null> = [
      completed,
      { status: 'failed', error: { code: 'invalid_request', message: 'No.' } },
      { status: 'cancelled', error: { code: 'run_cancelled', message: 'By somebody else.' } },
      retryIn(5),
      null,
    ]
    for (let i = 0; i < 15; i++) await insertRow(pool, { thread_id: `t${i % 5}` })
    let holds = false
    const script: Script = (claim) => {
      if (holds) return hangs(claim)
      const { id, attempts } = claim.operation
      return attempts > 1 ? completed : (ends[id % ends.length] as Outcome | null)
    }
    const line = await start(script, { concurrency: 3, shutdownMs: 0 })
    await waitFor(() => isOver(pool))
    holds = true
    const served = line.claims.length
    for (let i = 0; i < 5; i++) await insertRow(pool, { thread_id: `last ${i}` })
    await waitFor(() => line.claims.length === served + 3)
  })
})

describe('a rescuer that comes late', () => {
  test('cannot overwrite a result that is being recorded', async ({ pool, connected }) => {
    const client = await connected()
    const d = await HandDriven.signOn(client)
    const { id } = await insertRow(pool, thread)
    const claimed = await d.claimOnly()
    await signOff(pool, d.id)
    await client.query('begin')
    expect((await d.settle(claimed)).late).toBe(0)
    expect(await releaseLostOperations(pool, 'rescuer')).toEqual([])
    await client.query('commit')
    expect(await releaseLostOperations(pool, 'rescuer')).toEqual([])
    expect(await readRow(pool, id)).toMatchObject({ status: 'completed', attempts: 1 })
  })

  test('and the one it gave up, in whatever order they write, leave one result', async ({
    pool,
    connected,
  }) => {
    const client = await connected()
    const rescuer = await HandDriven.signOn(await connected(), 'rescuer')
    const winners = new Set<boolean>()
    for (let i = 0; i < 40; i++) {
      const d = await HandDriven.signOn(client, `d${i}`)
      const { id } = await insertRow(pool, thread)
      const claimed = await d.claimOnly()
      await signOff(pool, d.id)
      const settle = () => d.settle(claimed)
      const release = () => releaseLostOperations(pool, 'rescuer')
      const [first, second] = i % 2 === 0 ? [settle, release] : [release, settle]
      // The second begins up to 4 ms later, so that each of them is the faster one at times.
      const later = async () => {
        await takes(Math.floor(i / 2) % 5)
        await second()
      }
      await Promise.all([first(), later()])
      const row = await readRow(pool, id)
      winners.add(row.status === 'completed')
      if (row.status === 'completed') expect(row.attempts).toBe(1)
      else await rescuer.settle(await rescuer.claimOnly())
      const { rows } = await pool.query(
        'select to_status from operation_events where operation_id = $1 order by id',
        [id],
      )
      const ends = rows.filter(({ to_status }) => to_status === 'completed')
      expect(ends).toHaveLength(1)
      expect(rows.at(-1)).toEqual(ends[0])
    }
    expect(winners.size, 'each of them came first at times').toBe(2)
    await expectHealthy(pool, lines)
  })
})

describe('cancelling what waits does not strand its line', () => {
  const cancel = (pool: pg.Pool, id: number) =>
    pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])

  test.for([
    ['the first', 0],
    ['one in the middle', 1],
    ['the last', 2],
  ] as const)('%s of a line that nobody serves yet', async ([, nth], { pool, start }) => {
    const ids = []
    for (let i = 0; i < 3; i++) ids.push((await insertRow(pool, thread)).id)
    await cancel(pool, ids[nth] as number)
    const line = await start(completes)
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual(ids.toSpliced(nth, 1))
    await expectHealthy(pool, lines)
  })

  test('the next one, at the moment at which the one before it ends', async ({ pool, start }) => {
    const line = await start(completes)
    for (let i = 0; i < 40; i++) {
      const ids = []
      for (let n = 0; n < 3; n++) ids.push((await insertRow(pool, thread)).id)
      // Refused where it has started by then.
      await cancel(pool, ids[1] as number).catch(() => {})
    }
    await waitFor(() => isOver(pool))
    expect(line.claims.length).toBeGreaterThanOrEqual(80)
    await expectHealthy(pool, lines)
  })

  test('one that waits for its next attempt', async ({ pool, start }) => {
    const first = await insertRow(pool, thread)
    const next = await insertRow(pool, thread)
    const line = await start(({ operation }) =>
      operation.id === first.id ? retryIn(never) : completed,
    )
    await waitFor(async () => (await readRow(pool, first.id)).error !== null)
    await cancel(pool, first.id)
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual([first.id, next.id])
    await expectHealthy(pool, lines)
  })

  test('all of it, and what is inserted afterwards is served', async ({ pool, start }) => {
    const held = await start(hangs, { shutdownMs: 0, providers: ['assistants'] })
    const ids = []
    for (let i = 0; i < 3; i++) ids.push((await insertRow(pool, thread)).id)
    for (const id of ids) await cancel(pool, id)
    expect(held.claims).toEqual([])
    const { id } = await insertRow(pool, thread)
    const line = await start(completes)
    await waitFor(() => isOver(pool))
    expect(line.started).toEqual([id])
    await expectHealthy(pool, lines)
  })
})

test('a message that comes between the last look at a line and its release is served', async ({
  pool,
  connected,
  start,
}) => {
  const writer = await connected()
  const line = await start(completes, { sweepMs: never, pollMs: 50 })
  for (let i = 0; i < 60; i++) {
    await insertRow(pool, thread)
    await writer.query('begin')
    const { id } = await insertRow(writer, thread)
    // Some commit before the line is empty, some at that moment, some after it.
    if (i % 3 > 0) await waitFor(() => line.claims.length >= 2 * i + 1)
    if (i % 3 > 1) await waitFor(async () => (await readRow(pool, id - 1)).status === 'completed')
    await writer.query('commit')
    await waitFor(async () => (await readRow(pool, id)).status === 'completed')
  }
  expect(line.claims).toHaveLength(120)
  await expectHealthy(pool, lines)
})
