import type pg from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { connect } from '../../src/db/connect.ts'
import { createPool } from '../../src/db/pool.ts'
import { completed, HandDriven } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow } from '../support/line.ts'
import { restartableServer } from '../support/restartable-server.ts'
import { completes, hangs, type Script, Scripted } from '../support/scripted.ts'
import { waitFor } from '../support/wait-for.ts'
import { untilBeatenTwice } from './processes.ts'

const thread = { thread_id: 't' }
const isDone = async (pool: pg.Pool, id: number) => (await readRow(pool, id)).status === 'completed'

function poolOn(url: string): pg.Pool {
  const pool = createPool(url, { max: 4 })
  onTestFinished(() => pool.end())
  return pool
}

async function startOn(
  url: string,
  script: Script,
  options: Partial<Parameters<typeof Scripted.start>[2]> = {},
): Promise<Scripted> {
  const pool = createPool(url, { max: 4 })
  const line = await Scripted.start(pool, script, { shutdownMs: 0, ...options })
  onTestFinished(async () => {
    await line.stop()
    await pool.end()
  })
  return line
}

const back = (pool: pg.Pool) =>
  waitFor(() => pool.query('select 1').then(Boolean, () => false), {
    message: 'the server is back',
  })

test('a restart of the database within the grace costs a living dispatcher nothing', async () => {
  const server = await restartableServer()
  const { url } = server
  const pool = poolOn(url)
  const patient = { heartbeatMs: 100, graceMs: 15_000, leaseMs: 20_000 }
  const answer = Promise.withResolvers<typeof completed>()
  const { id } = await insertRow(pool, thread)
  const line = await startOn(url, () => answer.promise, patient)
  await waitFor(() => line.claims.length === 1)
  const other = await startOn(url, completes, patient)
  const before = [line.dispatcher.id, other.dispatcher.id]
  await server.restart('fast', async () => {})
  await back(pool)
  for (const dispatcher of before) await untilBeatenTwice(pool, dispatcher)
  answer.resolve(completed)
  await waitFor(() => isDone(pool, id))
  expect([line.dispatcher.id, other.dispatcher.id]).toEqual(before)
  expect(await readRow(pool, id)).toMatchObject({ attempts: 1 })
  await expectHealthy(pool, { without: ['results_are_there'] })
}, 40_000)

test('a database that is away for longer: everything is called off, and goes on when it is back', async () => {
  const server = await restartableServer()
  const { url } = server
  const pool = poolOn(url)
  const quick = { heartbeatMs: 100, graceMs: 600, leaseMs: 2_000 }
  const { id } = await insertRow(pool, thread)
  const script: Script = (claim) => (claim.operation.attempts === 1 ? hangs(claim) : completed)
  const line = await startOn(url, script, quick)
  await waitFor(() => line.claims.length === 1)
  const before = line.dispatcher.id
  await server.restart('fast', async () => {
    await waitFor(() => line.claims[0]?.signal.aborted)
    expect(line.dispatcher.mayCall).toBe(false)
  })
  await waitFor(() => line.dispatcher.mayCall)
  await waitFor(() => isDone(pool, id))
  expect(await readRow(pool, id)).toMatchObject({ attempts: 2, turn: 1 })
  expect(line.dispatcher.id).not.toBe(before)
}, 40_000)

test('who was dead before a restart is found dead after it', async () => {
  const server = await restartableServer()
  const { url } = server
  const pool = poolOn(url)
  const client = await connect(url)
  onTestFinished(() => client.end())
  const dead = await HandDriven.signOn(client, 'dead', { leaseMs: 1_000 })
  const { id } = await insertRow(pool, thread)
  await dead.claimOnly()
  const line = await startOn(url, completes, { heartbeatMs: 50, graceMs: 600 })
  await server.restart('fast', async () => {})
  await back(pool)
  await waitFor(() => isDone(pool, id))
  expect(line.started).toEqual([id])
}, 40_000)

test('with all connections of the server taken, the lease goes on; one that must connect anew gives up in time, and comes back', async () => {
  const { url } = await restartableServer({
    max_connections: '15',
    superuser_reserved_connections: '0',
  })
  const pool = poolOn(url)
  const { id } = await insertRow(pool, thread)
  const answer = Promise.withResolvers<typeof completed>()
  const script: Script = (claim) => (claim.operation.attempts === 1 ? answer.promise : completed)
  const quick = { heartbeatMs: 50, graceMs: 600, leaseMs: 2_000 }
  const line = await startOn(url, script, quick)
  await waitFor(() => line.claims.length === 1)
  const before = line.dispatcher.id
  const greedy = new Set<pg.Client>()
  onTestFinished(async () => {
    for (const client of greedy) await client.end()
  })
  let refused = 0
  const take = async () => {
    const client = await connect(url).catch(() => null)
    if (client) greedy.add(client)
    else refused += 1
  }
  while (refused === 0) await take()
  const [witness] = greedy
  if (witness === undefined) throw new Error('no connection was free')
  for (let n = 0; n < 10; n++) await untilBeatenTwice(witness as unknown as pg.Pool, before)
  expect(line.dispatcher.id).toBe(before)

  // Its connection breaks, and somebody else takes the place that this frees.
  const taking = { goesOn: true }
  const taken = (async () => {
    while (taking.goesOn) await take()
  })()
  onTestFinished(() => {
    taking.goesOn = false
  })
  await witness.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%lease'`,
  )
  await waitFor(() => line.claims[0]?.signal.aborted)
  expect(line.dispatcher.mayCall).toBe(false)
  taking.goesOn = false
  await taken
  for (const client of greedy) {
    await client.end()
    greedy.delete(client)
  }
  await waitFor(() => line.dispatcher.mayCall)
  expect(line.dispatcher.id).not.toBe(before)
  answer.resolve(completed)
  await waitFor(() => isDone(pool, id))
}, 40_000)
