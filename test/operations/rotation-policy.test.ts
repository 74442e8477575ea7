import type pg from 'pg'
import { describe, expect } from 'vitest'
import { providerNames } from '../../src/model/thread.ts'
import { requestRotations } from '../../src/store/rotation.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { generations, history, turn } from './copies.ts'
import { type Line, startLine } from './line.ts'

/** A policy for threads that name it, which other tests do not. */
const policy = (pool: pg.Pool, name: string, columns: Record<string, unknown>) =>
  pool.query(
    `insert into thread_policies (name, ${Object.keys(columns).join(', ')})
     values ($1, ${Object.keys(columns).map((_, i) => `$${i + 2}`)})`,
    [name, ...Object.values(columns)],
  )

const under = (pool: pg.Pool, thread: string, name: string) =>
  pool.query(
    `insert into threads (id, policy) values ($1, $2)
         on conflict (id) do update set policy = excluded.policy`,
    [thread, name],
  )

const rotationsOf = async (pool: pg.Pool, thread: string) =>
  (
    await pool.query(
      `select * from thread_operations where thread_id = $1 and operation = 'rotate_thread' order by id`,
      [thread],
    )
  ).rows

/** What each provider thread of a thread holds, without what it began with. */
async function added(pool: pg.Pool, line: Line, thread: string): Promise<string[][]> {
  const rows = await generations(pool, thread)
  return rows.map(({ provider_thread_id, carried_over }) =>
    history(line, provider_thread_id).slice(carried_over),
  )
}

/** Nothing is in line, and nothing more is asked for. */
const isQuiet = (pool: pg.Pool, thread: string) =>
  waitFor(
    async () => {
      const { rowCount } = await pool.query(
        `select from thread_operations where thread_id = $1 and finished_at is null`,
        [thread],
      )
      return rowCount === 0
    },
    { message: `${thread} is quiet`, timeoutMs: 60_000 },
  )

describe.each(providerNames)('a policy on "%s"', (name) => {
  test('rotates a thread that is full, before those who wait, and loses no message', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:full`
    const [most, count, carry_over] = [10, name === 'responses' ? 50 : 24, 1]
    await policy(pool, thread, { max_messages: most, carry_over })
    await under(pool, thread, thread)
    const sent: string[] = []
    const inserting = Array.from({ length: count }, async (_, n) => {
      sent.push(`user: message ${n}`)
      // Two thirds are there at once, and the others come while it rotates.
      if (n % 3 === 2) await waitFor(async () => (await line.thread(thread))?.generation > 1)
      await line.insert(thread, 'add_message', { message: `message ${n}` })
    })
    await Promise.all(inserting)
    await isQuiet(pool, thread)
    const all = await added(pool, line, thread)
    expect(all.flat().toSorted()).toEqual(sent.toSorted())
    expect(all.length).toBeGreaterThan(2)
    const { rows } = await pool.query(
      `select 'user: ' || (data ->> 'message') as said from thread_operations
        where thread_id = $1 and operation = 'add_message' order by turn`,
      [thread],
    )
    expect(all.flat()).toEqual(rows.map(({ said }) => said))
    // Those that were started while it was asked for go to the old one.
    for (const one of all) expect(one.length + carry_over).toBeLessThanOrEqual(most + 5)
    await waitFor(async () => (await line.thread(thread)).lifecycle_operation_id === null)
    for (const row of await rotationsOf(pool, thread)) expect(row.status).toBe('completed')
    await expectHealthy(pool)
  })

  test('lets the next generation grow as the first did, by messages and by tokens', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    await policy(pool, `${name}:tokens`, { max_tokens: 1 })
    await policy(pool, `${name}:turns`, { max_messages: 4 })
    for (const [thread, turns] of [
      [`${name}:tokens`, 1],
      [`${name}:turns`, 2],
    ] as const) {
      await under(pool, thread, thread)
      for (const [i, answer] of ['one', 'two', 'three', 'four'].entries()) {
        await line.do(thread, 'add_message_and_run', turn(answer))
        const generation = 1 + Math.floor((i + 1) / turns)
        await waitFor(async () => (await line.thread(thread)).generation === generation)
      }
      await isQuiet(pool, thread)
      expect(await rotationsOf(pool, thread)).toHaveLength(4 / turns)
    }
    const all = await added(pool, line, `${name}:turns`)
    expect(all.map((one) => one.length)).toEqual([4, 4, 0])
  })
})

test('a policy counts from the moment it is written, and not once it is taken away', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses')
  const thread = 'now'
  await line.do(thread, 'add_message', { message: 'a' })
  expect(await rotationsOf(pool, thread)).toEqual([])
  await policy(pool, thread, { max_messages: 1 })
  await under(pool, thread, thread)
  await line.do(thread, 'add_message', { message: 'b' })
  await waitFor(async () => {
    const { generation } = await line.thread(thread)
    return generation > 1 && (await line.said(thread)).length === 0
  })
  const { generation } = await line.thread(thread)
  await under(pool, thread, null as unknown as string)
  await line.do(thread, 'add_message', { message: 'c' })
  await line.do(thread, 'add_message', { message: 'd' })
  expect(await requestRotations(pool, 'd', [thread])).toEqual({ rotates: true, ready: false })
  expect(await line.said(thread)).toEqual(['user: c', 'user: d'])
  expect(await line.thread(thread)).toMatchObject({ generation })
})

test('a provider thread that is too old is rotated after the next operation', async ({ pool }) => {
  const line = await startLine(pool, 'responses')
  await policy(pool, 'old', { max_age: '1 hour' })
  await under(pool, 'old', 'old')
  await line.do('old', 'add_message', { message: 'a' })
  await pool.query(
    `update threads set generation_since = clock_timestamp() - interval '2 hours' where id = 'old'`,
  )
  await line.do('old', 'add_message', { message: 'b' })
  await waitFor(async () => (await line.thread('old')).generation === 2)
})

test('a rotation that failed is not asked for again before an hour', async ({ pool }) => {
  const line = await startLine(pool, 'responses', { maxAttempts: 1 })
  const thread = 'refused'
  await policy(pool, thread, { max_messages: 1, carry_over: 0 })
  await under(pool, thread, thread)
  line.emulator.setFaults([{ name: 'server_error_before_commit', on: 'items.list' }])
  await line.do(thread, 'add_message', { message: 'a' })
  await waitFor(async () => (await rotationsOf(pool, thread))[0]?.status === 'failed')
  await line.do(thread, 'add_message', { message: 'b' })
  const ask = () => requestRotations(pool, 'd', [thread])
  expect(await ask()).toEqual({ rotates: true, ready: false })
  line.emulator.setFaults([])
  await pool.query(
    `begin; set local session_replication_role = replica;
     update thread_operations set finished_at = finished_at - interval '61 minutes'
      where thread_id = 'refused' and operation = 'rotate_thread'; commit`,
  )
  await line.do(thread, 'add_message', { message: 'c' })
  await waitFor(async () => (await line.thread(thread)).generation === 2)
  expect(await rotationsOf(pool, thread)).toHaveLength(2)
})

test('a closed thread, one in somebody’s transaction and one below its limits are left alone', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses')
  await policy(pool, 'two', { max_messages: 2 })
  for (const thread of ['closed', 'held', 'below'])
    await line.do(thread, 'add_message', { message: 'a' })
  for (const thread of ['closed', 'held']) await line.do(thread, 'add_message', { message: 'b' })
  await pool.query(`update threads set policy = 'two' where id in ('closed', 'held', 'below')`)
  await pool.query(`update threads set closed_at = clock_timestamp() where id = 'closed'`)
  const client = await pool.connect()
  await client.query('begin')
  await client.query(`select from threads where id = 'held' for update`)
  const ask = () => requestRotations(pool, 'd', ['closed', 'held', 'below', 'unknown'])
  expect(await ask()).toEqual({ rotates: true, ready: false })
  await client.query('rollback')
  client.release()
  expect(await ask()).toEqual({ rotates: true, ready: true })
  expect(await ask()).toEqual({ rotates: true, ready: false })
  await waitFor(async () => (await line.thread('held')).generation === 2)
  for (const thread of ['closed', 'below']) expect(await rotationsOf(pool, thread)).toEqual([])
})
