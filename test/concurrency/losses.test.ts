import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { createPool } from '../../src/db/pool.ts'
import { relayTo } from '../support/database-relay.ts'
import { completed, HandDriven } from '../support/hand-driven.ts'
import { insertRow, readRow } from '../support/line.ts'
import { completes, hangs, type Script, Scripted, test } from '../support/scripted.ts'
import { waitFor } from '../support/wait-for.ts'

const thread = { thread_id: 't' }

const isOver = async (pool: pg.Pool) =>
  (await pool.query('select from thread_operations where finished_at is null')).rowCount === 0

const turns = async (pool: pg.Pool) =>
  (await pool.query('select id, turn, status from thread_operations order by turn')).rows

describe('a dispatcher that died', () => {
  test('loses what it held after a lease, to one that goes on where it was', async ({
    pool,
    connected,
    start,
  }) => {
    const dead = await HandDriven.signOn(await connected(), 'dead', { leaseMs: 300 })
    const { id } = await insertRow(pool, thread)
    const next = await insertRow(pool, thread)
    await dead.claimOnly()
    const line = await start(completes, { heartbeatMs: 100 })
    await waitFor(() => isOver(pool))
    expect(line.claims.map(({ operation }) => [operation.id, operation.attempts])).toEqual([
      [id, 2],
      [next.id, 1],
    ])
  })
})

describe('a lost connection', () => {
  test('costs nothing that was known: outcomes are settled on the next one', async ({
    pool,
    start,
  }) => {
    for (let i = 0; i < 5; i++) await insertRow(pool, { thread_id: `t${i}` })
    const answer = Promise.withResolvers<typeof completed>()
    const line = await start(() => answer.promise)
    await waitFor(() => line.claims.length === 5)
    await terminateAll(pool)
    answer.resolve(completed)
    await waitFor(() => isOver(pool))
    expect(line.claims).toHaveLength(5)
  })

  test('again and again, in the middle of rounds, loses and repeats no turn', async ({
    pool,
    connected,
    start,
  }) => {
    const client = await connected()
    const line = await start(completes, { concurrency: 5 })
    const terminate = async () => {
      await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid() and query like '%settle_and_claim%'`,
      )
    }
    for (let i = 0; i < 20; i++) {
      await client.query(
        `insert into thread_operations (thread_id, operation, data)
         select 't' || i % 10, 'add_message', '{"message": "Hi"}' from generate_series(1, 20) i`,
      )
      await waitFor(() => line.claims.length > 0) // its rounds have begun
      await terminate()
    }
    await waitFor(() => isOver(pool), { timeoutMs: 15_000 })
    const { rows } = await client.query(
      `select thread_id, array_agg(turn order by id) as turns from thread_operations group by 1`,
    )
    for (const row of rows) expect(row.turns).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
    expect(line.messages.some((message) => message.startsWith('round failed'))).toBe(true)
  })

  test('that takes the answer to a claim with it: what nobody knows to be held is given back', async ({
    pool,
    url,
  }) => {
    const relay = await relayTo(url)
    const line = await startBehind(relay.url, completes)
    const lost = relay.loseAnswer({ told: '"thread_id":"t"' })
    const { id } = await insertRow(pool, thread)
    await lost
    expect((await readRow(pool, id)).status).toBe('processing')
    await insertRow(pool, thread)
    await waitFor(() => isOver(pool))
    expect(await turns(pool)).toMatchObject([{ turn: 1 }, { turn: 2 }])
    expect(line.messages.some((message) => message.startsWith('released lost'))).toBe(true)
  })

  test('that takes the answer to a settle with it: it is settled once', async ({ pool, url }) => {
    const relay = await relayTo(url)
    const answer = Promise.withResolvers<typeof completed>()
    const line = await startBehind(relay.url, () => answer.promise)
    const { id } = await insertRow(pool, thread)
    await waitFor(() => line.claims.length === 1)
    const lost = relay.loseAnswer({ asked: '"status":"completed"' })
    answer.resolve(completed)
    await lost
    await insertRow(pool, { thread_id: 'another' })
    await waitFor(() => isOver(pool))
    const { rows } = await pool.query(
      `select to_status from operation_events where operation_id = $1 order by id`,
      [id],
    )
    expect(rows.map((row) => row.to_status)).toEqual(['processing', 'completed'])
  })
})

describe('a lease that is lost', () => {
  const quick = { heartbeatMs: 50, graceMs: 400, leaseMs: 600, sweepMs: 50 }

  test('calls off all that runs; the dispatcher goes on under a new id', async ({
    pool,
    connected,
    start,
  }) => {
    const user = await connected()
    const { id } = await insertRow(pool, thread)
    const script: Script = (claim) => (claim.operation.attempts === 1 ? hangs(claim) : completed)
    const line = await start(script, quick)
    await waitFor(() => line.claims.length === 1)
    const before = line.dispatcher.id
    await user.query('begin')
    await user.query('select 1 from dispatchers for update') // no beat gets through

    await waitFor(() => line.claims[0]?.signal.aborted)
    expect((await readRow(pool, id)).status).toBe('processing')
    await user.query('rollback')
    await waitFor(() => isOver(pool))
    expect(line.dispatcher.id).not.toBe(before)
    expect(line.claims[1]).toMatchObject({
      dispatcherId: line.dispatcher.id,
      operation: { id, attempts: 2, turn: 1 },
    })
    expect(line.claims[1]?.signal.aborted).toBe(false)
    const { rows } = await pool.query('select id from dispatchers')
    expect(rows).toEqual([{ id: line.dispatcher.id }])
  })

  test('does not lose an outcome that is known by then', async ({ pool, connected, start }) => {
    const user = await connected()
    const { id } = await insertRow(pool, thread)
    // It ends, with an outcome, at the moment at which it is called off.
    const script: Script = (claim) => {
      claim.sent = true
      return new Promise((resolve) => {
        claim.signal.addEventListener('abort', () => resolve(completed))
      })
    }
    const line = await start(script, quick)
    await waitFor(() => line.claims.length === 1)
    await user.query('begin')
    await user.query('select 1 from dispatchers for update')
    await waitFor(() => line.claims[0]?.signal.aborted)
    await waitFor(() => isOver(pool))
    await user.query('rollback')
    expect(await readRow(pool, id)).toMatchObject({ status: 'completed', attempts: 1 })
  })

  test('is noticed also where the network goes silent, and when it comes back all goes on', async ({
    pool,
    url,
  }) => {
    const relay = await relayTo(url)
    const { id } = await insertRow(pool, thread)
    const script: Script = (claim) => (claim.operation.attempts === 1 ? hangs(claim) : completed)
    const line = await startBehind(relay.url, script, quick)
    await waitFor(() => line.claims.length === 1)
    relay.goSilent()
    await waitFor(() => line.claims[0]?.signal.aborted)
    relay.comeBack()
    await waitFor(() => isOver(pool))
    expect(await readRow(pool, id)).toMatchObject({ status: 'completed', attempts: 2, turn: 1 })
  })

  test('and taken over meanwhile: what the old id still says changes nothing', async ({
    pool,
    url,
    start,
  }) => {
    const relay = await relayTo(url)
    const { id } = await insertRow(pool, thread)
    const late = Promise.withResolvers<typeof completed>()
    const line = await startBehind(relay.url, () => late.promise, quick)
    await waitFor(() => line.claims.length === 1)
    relay.goSilent()
    const other = await start(hangs, { ...quick, shutdownMs: 0 })
    await waitFor(() => other.claims.length === 1)
    expect(line.claims[0]?.signal.aborted).toBe(true)
    late.resolve(completed)
    relay.comeBack()
    await waitFor(() => line.messages.some((message) => message.includes('too late')))
    expect(await readRow(pool, id)).toMatchObject({
      status: 'processing',
      claimed_by: other.dispatcher.id,
    })
  })
})

/** A dispatcher on a pool of its own, behind a relay. */
async function startBehind(
  url: string,
  script: Script,
  options: Parameters<typeof Scripted.start>[2] = {},
): Promise<Scripted> {
  const pool = createPool(url, { max: 5, queryTimeoutMs: options.leaseMs })
  const line = await Scripted.start(pool, script, { shutdownMs: 0, ...options })
  onTestFinished(async () => {
    await line.stop()
    await pool.end()
  })
  return line
}

/** Ends every other connection to the database. */
async function terminateAll(pool: pg.Pool): Promise<void> {
  await pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`,
  )
}
