import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { createPool } from '../../src/db/pool.ts'
import { relayTo } from '../support/database-relay.ts'
import { completed, HandDriven } from '../support/hand-driven.ts'
import { insertRow, readRow } from '../support/line.ts'
import { completes, hangs, Scripted, test } from '../support/scripted.ts'
import { damage } from '../support/served-lines.ts'
import { waitFor } from '../support/wait-for.ts'
import { untilBeatenTwice, untilSeen } from './processes.ts'

const thread = { thread_id: 't' }
/** Death after a second where the connection has ended for certain, after three where not. */
const quick = { heartbeatMs: 50, graceMs: 1_000, leaseMs: 3_000, sweepMs: 50, shutdownMs: 0 }

const sessionLocks = async (pool: pg.Pool): Promise<number> => {
  const { rows } = await pool.query(
    `select count(*) from pg_locks where locktype = 'advisory'
        and database = (select oid from pg_database where datname = current_database())`,
  )
  return rows[0].count
}

/** A dispatcher on a pool of its own. */
async function startOn(
  url: string,
  script: Parameters<typeof Scripted.start>[1],
): Promise<Scripted & { pool: pg.Pool }> {
  const pool = createPool(url, { max: 4, queryTimeoutMs: quick.leaseMs })
  const line = await Scripted.start(pool, script, quick)
  onTestFinished(async () => {
    await line.stop()
    await pool.end()
  })
  return Object.assign(line, { pool })
}

describe('a dispatcher that lives', () => {
  test('goes on under the same id when its backends are terminated, and calls nothing off', async ({
    pool,
    connected,
    start,
  }) => {
    const { id } = await insertRow(pool, thread)
    const answer = Promise.withResolvers<typeof completed>()
    // The dispatchers use the test's pool: who watches them is spared.
    const watching = await connected()
    const line = await start(() => answer.promise, quick)
    const other = await start(completes, quick)
    await waitFor(() => line.claims.length + other.claims.length === 1)
    const before = [line.dispatcher.id, other.dispatcher.id]
    for (let n = 0; n < 3; n++) {
      for (const dispatcher of before) await untilBeatenTwice(watching, dispatcher)
      await watching.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()`,
      )
    }
    for (const dispatcher of before) await untilBeatenTwice(watching, dispatcher)
    answer.resolve(completed)
    await waitFor(async () => (await readRow(watching, id)).status === 'completed')
    expect([line.dispatcher.id, other.dispatcher.id]).toEqual(before)
    expect((await readRow(watching, id)).attempts).toBe(1)
    await waitFor(async () => (await sessionLocks(pool)) === 2, { message: 'both locks are held' })
  })

  test('beats on while all of its pool is busy', async ({ pool, url }) => {
    const line = await startOn(url, completes)
    const before = line.dispatcher.id
    const busy = await Promise.all([1, 2, 3].map(() => line.pool.connect()))
    const waiting = line.pool.connect() // the loop has the fourth
    for (let n = 0; n < 10; n++) await untilBeatenTwice(pool, before)
    for (const client of busy) client.release()
    const last = await waiting
    last.release()
    expect(line.dispatcher.id).toBe(before)
  })

  test('is not made dead by a clock that jumps, in either direction', async ({
    pool,
    url,
    start,
  }) => {
    const { id } = await insertRow(pool, thread)
    const answer = Promise.withResolvers<typeof completed>()
    const line = await start(() => answer.promise, quick)
    const other = await start(completes, quick)
    await waitFor(() => line.claims.length + other.claims.length === 1)
    const before = [line.dispatcher.id, other.dispatcher.id]
    for (const jump of ['- 1 day', '+ 1 day', '- 100 days']) {
      await damage(
        url,
        `update dispatchers set beat_at = beat_at ${jump.replace(/(\d.*)/, "interval '$1'")};
         update thread_operations set updated_at = updated_at ${jump.replace(/(\d.*)/, "interval '$1'")}`,
      )
      for (const dispatcher of before) await untilBeatenTwice(pool, dispatcher)
    }
    answer.resolve(completed)
    await waitFor(async () => (await readRow(pool, id)).status === 'completed')
    expect([line.dispatcher.id, other.dispatcher.id]).toEqual(before)
    expect((await readRow(pool, id)).attempts).toBe(1)
  })

  test('may call as long as its lease is certain: not before it begins, nor after it ends', async ({
    start,
    pool,
  }) => {
    const line = await start(completes, quick)
    expect(line.dispatcher.mayCall).toBe(true)
    await line.stop()
    expect(line.dispatcher.mayCall).toBe(false)
    expect((await pool.query('select from dispatchers')).rowCount).toBe(0)
  })

  test('knows after a pause of its process that it may not call, before any timer has run', async ({
    start,
    pool,
  }) => {
    await insertRow(pool, thread)
    const line = await start(hangs, quick)
    await waitFor(() => line.claims.length === 1)
    const before = line.dispatcher.id
    // Nothing of this process runs meanwhile, as if it had been stopped.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, quick.graceMs)
    expect(line.dispatcher.mayCall).toBe(false)
    expect(line.claims[0]?.signal.aborted).toBe(true)
    await waitFor(() => line.dispatcher.id !== before && line.dispatcher.mayCall)
    await waitFor(() => line.claims.length === 2)
    expect(line.claims[1]?.dispatcherId).toBe(line.dispatcher.id)
  })
})

describe('a dispatcher that is dead', () => {
  test('is found dead also when its last beat lies in the future, by a clock that was set back', async ({
    pool,
    url,
    connected,
    start,
  }) => {
    const dead = await HandDriven.signOn(await connected(), 'dead', { leaseMs: 500 })
    const { id } = await insertRow(pool, thread)
    await dead.claimOnly()
    await damage(url, `update dispatchers set beat_at = beat_at + interval '1 year'`)
    const line = await start(completes, quick)
    await waitFor(() => line.claims.length === 1)
    expect(line.claims[0]?.operation).toMatchObject({ id, attempts: 2 })
  })

  test('is given its whole lease behind a pooler, where one with a direct connection gets only its grace', async ({
    pool,
    url,
    start,
  }) => {
    const direct = await relayTo(url)
    const pooler = await relayTo(url, { announcing: 7 })
    const [near, far] = [await startOn(direct.url, hangs), await startOn(pooler.url, hangs)]
    await untilSeen(pool, near.dispatcher.id)
    await untilBeatenTwice(pool, far.dispatcher.id)
    const { rows } = await pool.query('select id, direct from dispatchers')
    expect(new Map(rows.map(({ id, direct }) => [id, direct]))).toEqual(
      new Map([
        [near.dispatcher.id, true],
        [far.dispatcher.id, false],
      ]),
    )
    expect(await sessionLocks(pool)).toBe(1)
    expect(far.messages.filter((message) => message.startsWith('there is a pooler'))).toHaveLength(
      1,
    )

    // One operation each.
    while (near.claims.length === 0 || far.claims.length === 0) {
      await insertRow(pool, { thread_id: `t${near.claims.length}:${far.claims.length}` })
      const held = near.claims.length + far.claims.length
      await waitFor(() => near.claims.length + far.claims.length > held)
    }
    const witness = await start(hangs, quick)
    await untilBeatenTwice(pool, witness.dispatcher.id)
    direct.die()
    pooler.die()
    const heldByNear = near.claims.map(({ operation }) => operation.id)
    const heldByFar = far.claims.map(({ operation }) => operation.id)
    // A witness that is held up itself for a moment starts them once more.
    const taken = () => [...new Set(witness.started)]
    await waitFor(() => taken().length === heldByNear.length + heldByFar.length)
    expect(taken().slice(0, heldByNear.length).sort()).toEqual(heldByNear.sort())
    expect(taken().slice(heldByNear.length).sort()).toEqual(heldByFar.sort())
  })

  test('to the network but not to the server keeps its session lock, and so its whole lease', async ({
    pool,
    url,
    start,
  }) => {
    const relay = await relayTo(url)
    const line = await startOn(relay.url, hangs)
    const { id } = line.dispatcher
    await start(completes, quick)
    await untilSeen(pool, id)
    relay.goSilent()
    await waitFor(async () => {
      const { rows } = await pool.query(
        `select clock_timestamp() - beat_at > $2 * interval '1 millisecond' as silent
           from dispatchers where id = $1`,
        [id, quick.graceMs * 2],
      )
      return rows[0]?.silent
    })
    expect(line.dispatcher.mayCall).toBe(false)
    await waitFor(
      async () => (await pool.query('select from dispatchers where id = $1', [id])).rowCount === 0,
    )
    relay.comeBack()
    await waitFor(() => line.dispatcher.mayCall)
    expect(line.dispatcher.id).not.toBe(id)
  })
})
