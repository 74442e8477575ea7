import { setTimeout as takes } from 'node:timers/promises'
import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { connect } from '../../src/db/connect.ts'
import { createPool } from '../../src/db/pool.ts'
import { test } from '../support/own-database.ts'
import { restartableServer } from '../support/restartable-server.ts'
import { waitFor } from '../support/wait-for.ts'
import { Fleet } from './fleet.ts'

const slow = { latency: { queuedMs: 5, thinkMs: 40, perTokenMs: 0 } }

/** A server of the test's own, with dispatchers on it and connections for the test itself. */
async function onOwnServer(settings: Record<string, string> = {}) {
  const server = await restartableServer(settings)
  const pool = createPool(server.url, { max: 3, applicationName: 'inturn test' })
  onTestFinished(() => pool.end())
  const fleet = await Fleet.start({ databaseUrl: server.url, pool, emulator: slow })
  return { server, pool, fleet }
}

/** Resolves when `count` more operations are final than now. */
async function progress(fleet: Fleet, count: number): Promise<void> {
  const before = await fleet.finished()
  await waitFor(async () => (await fleet.finished()) >= before + count)
}

const longerThanTheLeaseMs = 2_000
const isLoss = (message: string) => message.endsWith('everything is called off')

const terminateDispatchers = (pool: pg.Pool) =>
  pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name like 'inturn dispatch%'`,
  )

describe('the database', () => {
  test.for(['fast', 'immediate'] as const)(
    'restarted under load (%s) loses and repeats nothing',
    { timeout: 60_000 },
    async (mode) => {
      const { server, fleet } = await onOwnServer()
      const threads = await fleet.open(6)
      for (let round = 0; round < 2; round++) {
        for (const thread of threads) await fleet.insert(thread, 4)
        await progress(fleet, 6)
        await server.restart(mode, async () => {})
      }
      await fleet.isOver(30_000)
      await fleet.expectOneEffectEach()
    },
  )

  test('away for longer than the lease, with calls under way: what ended meanwhile is found', {
    timeout: 60_000,
  }, async () => {
    const { server, fleet } = await onOwnServer()
    const threads = await fleet.open(6)
    for (const thread of threads) await fleet.insert(thread, 3)
    await waitFor(() => fleet.emulator.runs().some(({ endedAt }) => endedAt === null))
    await server.restart('fast', async () => {
      await waitFor(() => fleet.messages.some(isLoss))
      await takes(longerThanTheLeaseMs)
      await waitFor(() => fleet.emulator.runs().every(({ endedAt }) => endedAt !== null))
    })
    await fleet.isOver(30_000)
    await fleet.expectOneEffectEach()
  })

  test('that has no connection left for the dispatchers is waited for', {
    timeout: 60_000,
  }, async () => {
    const { server, pool, fleet } = await onOwnServer({ max_connections: '30' })
    const threads = await fleet.open(4)
    for (const thread of threads) await fleet.insert(thread, 3)
    await progress(fleet, 4)
    const others: pg.Client[] = []
    onTestFinished(async () => {
      await Promise.all(others.map((client) => client.end()))
    })
    // Whatever the dispatchers let go of, somebody else takes.
    const exhaust = async () => {
      for (;;) {
        const client = await connect(server.url).catch(() => undefined)
        if (client === undefined) return
        others.push(client)
      }
    }
    for (const thread of threads) await fleet.insert(thread, 3)
    await waitFor(async () => {
      await exhaust()
      await terminateDispatchers(pool)
      await exhaust()
      return fleet.messages.some(isLoss)
    })
    for (const client of others.splice(0)) await client.end()
    await fleet.isOver(30_000)
    await fleet.expectOneEffectEach()
  })
})

test('dispatchers whose backends are terminated again and again lose and repeat nothing', {
  timeout: 60_000,
}, async ({ pool, url }) => {
  const fleet = await Fleet.start({ databaseUrl: url, pool, emulator: slow })
  const threads = await fleet.open(6)
  for (let round = 0; round < 6; round++) {
    for (const thread of threads) await fleet.insert(thread)
    await progress(fleet, 3)
    await terminateDispatchers(pool)
  }
  await fleet.isOver(30_000)
  await fleet.expectOneEffectEach()
})

describe("a user's transaction that is left idle for longer than the lease", () => {
  test.for([
    ['on an operation that is being served', `status = 'processing'`],
    ['on an operation that waits', `status = 'pending'`],
  ] as const)('%s stalls its own line at most', async ([, which], { pool, url, connected }) => {
    const fleet = await Fleet.start({ databaseUrl: url, pool, emulator: slow })
    const [held, ...others] = await fleet.open(5)
    await fleet.isOver()
    await fleet.insert(held as string, 4)
    const user = await connected()
    await waitFor(async () => {
      await user.query('begin')
      const { rowCount } = await user.query(
        `select from thread_operations where thread_id = $1 and ${which} order by id limit 1 for update skip locked`,
        [held],
      )
      if (rowCount === 1) return true
      await user.query('rollback')
      return false
    })
    for (const thread of others) await fleet.insert(thread, 3)
    await waitFor(async () => (await unfinished(pool, others)) === 0)
    await takes(longerThanTheLeaseMs)
    expect(await unfinished(pool, [held as string])).toBeGreaterThan(0)
    for (const thread of others) await fleet.insert(thread)
    await waitFor(async () => (await unfinished(pool, others)) === 0)
    await user.query('rollback')
    await fleet.isOver()
    await fleet.expectOneEffectEach()
  })

  test('on the row of a thread stalls its own line at most', async ({ pool, url, connected }) => {
    const fleet = await Fleet.start({ databaseUrl: url, pool, emulator: slow })
    const [held, ...others] = await fleet.open(5)
    await fleet.isOver()
    const user = await connected()
    await user.query('begin')
    await user.query('select from threads where id = $1 for update', [held])
    for (const thread of [held as string, ...others]) await fleet.insert(thread, 3)
    await waitFor(async () => (await unfinished(pool, others)) === 0)
    await takes(longerThanTheLeaseMs)
    for (const thread of others) await fleet.insert(thread)
    await waitFor(async () => (await unfinished(pool, others)) === 0)
    await user.query('rollback')
    await fleet.isOver()
    await fleet.expectOneEffectEach()
  })

  test.for([
    ['on the row of one dispatcher', 1],
    ['on the rows of all dispatchers', 2],
  ] as const)('%s stalls what it holds at most', async ([, count], { pool, url, connected }) => {
    const long = { latency: { queuedMs: 0, thinkMs: 3_000, perTokenMs: 0 } }
    const fleet = await Fleet.start({ databaseUrl: url, pool, emulator: long })
    // More than one dispatcher has slots for.
    const threads = await fleet.open(16)
    for (const thread of threads) await fleet.say(thread, 'add_message_and_run')
    const holders = async (): Promise<Array<{ id: string; held: string[] }>> => {
      const { rows } = await pool.query(
        `select claimed_by as id, array_agg(thread_id) as held from thread_operations
          where progress ? 'run_id' and claimed_by is not null group by claimed_by`,
      )
      return rows
    }
    await waitFor(async () => (await holders()).flatMap(({ held }) => held).length === 16)
    const locked = (await holders()).slice(0, count)
    const user = await connected()
    await user.query('begin')
    await user.query('select from dispatchers where id = any ($1) for update', [
      locked.map(({ id }) => id),
    ])
    await waitFor(() => fleet.messages.filter(isLoss).length >= count)
    const free = threads.filter((thread) => !locked.some(({ held }) => held.includes(thread)))
    const opened = await fleet.open(2, 'later')
    for (const thread of [...free, ...opened]) await fleet.say(thread, 'add_message')
    await waitFor(async () => (await unfinished(pool, [...free, ...opened])) === 0)
    await user.query('rollback')
    await fleet.isOver()
    await fleet.expectOneEffectEach()
  })
})

async function unfinished(pool: pg.Pool, threads: readonly string[]): Promise<number> {
  const { rowCount } = await pool.query(
    'select from thread_operations where thread_id = any ($1) and finished_at is null',
    [threads],
  )
  return rowCount ?? 0
}
