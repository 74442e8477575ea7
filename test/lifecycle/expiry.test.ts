import { describe, expect } from 'vitest'
import { expireThreads } from '../../src/store/expiry.ts'
import { explain, workOf } from '../support/explained.ts'
import { completed, failed, HandDriven } from '../support/hand-driven.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { askedToExpire, insertIdleThreads, setPolicy } from './idle-threads.ts'

const everything = { priorities: null }

describe('whose time is over', () => {
  test('nobody, where no policy says so', async ({ pool }) => {
    await insertIdleThreads(pool, { count: 3, idleFor: '20 years' })
    await setPolicy(pool, 'other', { pattern: 'user', idle_ttl: '1 day' })
    await setPolicy(pool, 'no times', { pattern: 'none', max_messages: 10 })
    expect(await expireThreads(pool, 200)).toEqual({ requested: 0, released: 0, waiting: 0 })
  })

  test('those that are idle for longer than their policy allows, the longest first', async ({
    pool,
  }) => {
    await setPolicy(pool, 'short', { pattern: 'none', idle_ttl: '1 day' })
    await insertIdleThreads(pool, { name: 'b', idleFor: '25 hours' })
    await insertIdleThreads(pool, { name: 'a', idleFor: '3 days' })
    await insertIdleThreads(pool, { name: 'active', idleFor: '23 hours', oldFor: '9 days' })
    expect(await expireThreads(pool, 200)).toEqual({ requested: 2, released: 0, waiting: 2 })
    expect(await askedToExpire(pool)).toEqual(['a 1', 'b 1'])
    const { rows } = await pool.query(
      `select o.priority, o.status, t.lifecycle_operation_id = o.id as noted
         from thread_operations o join threads t on t.id = o.thread_id`,
    )
    expect(rows).toEqual(Array(2).fill({ priority: -50, status: 'pending', noted: true }))
    expect(await expireThreads(pool, 200)).toEqual({ requested: 0, released: 0, waiting: 2 })
  })

  test('those that are too old, however active', async ({ pool }) => {
    await setPolicy(pool, 'old', { pattern: 'none', absolute_ttl: '30 days' })
    await insertIdleThreads(pool, { name: 'old', idleFor: '1 minute', oldFor: '31 days' })
    await insertIdleThreads(pool, { name: 'young', idleFor: '29 days' })
    await insertRow(pool, { thread_id: 'old 1' })
    await expireThreads(pool, 200)
    expect(await askedToExpire(pool)).toEqual(['old 1'])
  })

  test('by the policy that they name, else that of their keys, else that of any', async ({
    pool,
  }) => {
    await setPolicy(pool, 'everybody', { pattern: 'any', idle_ttl: '10 days' })
    await setPolicy(pool, 'users', { pattern: 'user+topic', idle_ttl: '1 day' })
    await setPolicy(pool, 'sessions', { pattern: 'session' })
    await setPolicy(pool, 'chosen', { idle_ttl: '1 hour' })
    const keys = { user_id: '1', topic: 'x' }
    await insertIdleThreads(pool, { name: 'no keys' })
    await insertIdleThreads(pool, { name: 'no keys, long', idleFor: '11 days' })
    await insertIdleThreads(pool, { name: 'user and topic', columns: keys })
    await insertIdleThreads(pool, { name: 'user', columns: { user_id: '1' } })
    await insertIdleThreads(pool, {
      name: 'for ever',
      columns: { session_id: '1' },
      idleFor: '1 year',
    })
    const named = { ...keys, policy: 'chosen' }
    await insertIdleThreads(pool, { name: 'named', columns: named, idleFor: '2 hours' })
    await expireThreads(pool, 200)
    expect((await askedToExpire(pool)).toSorted()).toEqual([
      'named 1',
      'no keys, long 1',
      'user and topic 1',
    ])
  })

  test('a policy that is added, changed or removed counts from the next pass on', async ({
    pool,
  }) => {
    await insertIdleThreads(pool, { name: 'first' })
    await insertIdleThreads(pool, { name: 'second', idleFor: '36 hours' })
    await insertIdleThreads(pool, { name: 'third', idleFor: '12 hours' })
    const requested = async () => (await expireThreads(pool, 200)).requested
    expect(await requested()).toBe(0)
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '40 hours' })
    expect(await requested()).toBe(1)
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '30 hours' })
    expect(await requested()).toBe(1)
    await pool.query(`delete from thread_policies where name = 'p'`)
    await setPolicy(pool, 'q', { pattern: 'session', idle_ttl: '1 hour' })
    expect(await requested()).toBe(0)
    expect(await askedToExpire(pool)).toEqual(['first 1', 'second 1'])
  })

  test('nobody in whose line somebody stands, or who was served since; in a halted line, nobody', async ({
    pool,
    connected,
  }) => {
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
    await insertIdleThreads(pool, { name: 'waiting' })
    await insertIdleThreads(pool, { name: 'served' })
    await insertIdleThreads(pool, { name: 'halted', onFailure: 'halt' })
    await insertIdleThreads(pool, { name: 'goes on', onFailure: 'halt' })
    const dispatcher = await HandDriven.signOn(await connected())
    await insertRow(pool, { thread_id: 'served 1' })
    await insertRow(pool, { thread_id: 'halted 1' })
    const claimed = await dispatcher.claim(everything)
    expect(claimed).toHaveLength(2)
    await dispatcher.settle(claimed, failed)
    await insertRow(pool, { thread_id: 'waiting 1' })
    await expireThreads(pool, 200)
    expect(await askedToExpire(pool)).toEqual(['goes on 1'])
  })

  test('whatever the thread does with messages that find it busy', async ({ pool, connected }) => {
    await setPolicy(pool, 'p', { pattern: 'any', absolute_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 6 })
    const strategies = ['enqueue', 'reject', 'interrupt', 'latest', 'merge', 'interrupt+merge']
    await pool.query(
      `update threads set if_busy = ($1::text[])[split_part(id, ' ', 2)::int], debounce_ms = 1000`,
      [strategies],
    )
    const dispatcher = await HandDriven.signOn(await connected(), 'd1', { concurrency: 100 })
    for (let n = 1; n <= 6; n++) {
      await pool.query(
        `insert into thread_operations (thread_id, operation, data) values ($1, 'update_thread', '{"metadata": {"a": "b"}}')`,
        [`idle ${n}`],
      )
    }
    expect(await dispatcher.claim()).toHaveLength(6)
    expect(await expireThreads(pool, 200)).toMatchObject({ requested: 6 })
    const { rows } = await pool.query(
      `select status, debounce_ms from thread_operations where operation = 'expire_thread'`,
    )
    expect(rows).toEqual(Array(6).fill({ status: 'pending', debounce_ms: null }))
  })

  test('nobody whose row is held by a transaction, which delays nobody else', async ({
    pool,
    connected,
  }) => {
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 3 })
    const somebody = await connected()
    await somebody.query(`begin; update threads set labels = '{"a": 1}' where id = 'idle 1'`)
    expect(await expireThreads(pool, 200)).toMatchObject({ requested: 2 })
    await somebody.query('commit')
    expect(await expireThreads(pool, 200)).toMatchObject({ requested: 1 })
    expect(await askedToExpire(pool)).toEqual(['idle 2', 'idle 3', 'idle 1'])
  })
})

describe('how many at once', () => {
  test('a quarter of all slots, then as many as have ended', async ({ pool, connected }) => {
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 100 })
    const dispatcher = await HandDriven.signOn(await connected(), 'd1', { concurrency: 20 })
    expect(await expireThreads(pool, 200)).toEqual({ requested: 5, released: 0, waiting: 5 })
    expect(await expireThreads(pool, 200)).toEqual({ requested: 0, released: 0, waiting: 5 })
    const claimed = await dispatcher.claim(everything)
    expect(claimed.map(({ operation }) => operation)).toEqual(Array(5).fill('expire_thread'))
    expect(await expireThreads(pool, 200)).toMatchObject({ requested: 0 })
    await dispatcher.settle(claimed.slice(0, 3))
    expect(await expireThreads(pool, 200)).toEqual({ requested: 3, released: 0, waiting: 5 })
    expect(await askedToExpire(pool)).toEqual(Array.from({ length: 8 }, (_, i) => `idle ${i + 1}`))
  })

  test('never more than asked for, whatever the slots', async ({ pool, connected }) => {
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day', absolute_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 60 })
    await HandDriven.signOn(await connected(), 'd1', { concurrency: 1000 })
    expect(await expireThreads(pool, 50)).toMatchObject({ requested: 50 })
    expect(await expireThreads(pool, 50)).toMatchObject({ requested: 0, waiting: 50 })
  })

  test('two passes at once ask once', async ({ pool, connected }) => {
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 50 })
    const other = await connected()
    await other.query('begin')
    await other.query('select expire_threads(30)')
    expect(await expireThreads(pool, 30)).toEqual({ requested: 0, released: 0, waiting: 0 })
    await other.query('commit')
    expect(await askedToExpire(pool)).toHaveLength(30)
  })

  test('live operations are served first, and who comes back is not passed by everybody', async ({
    pool,
    connected,
  }) => {
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 2 })
    const dispatcher = await HandDriven.signOn(await connected(), 'd1', { concurrency: 20 })
    await expireThreads(pool, 200)
    for (let n = 0; n < 3; n++) await insertRow(pool, { thread_id: `live ${n}` })
    const first = await dispatcher.claim({ ...everything, free: 3 })
    expect(first.map(({ thread_id }) => thread_id).toSorted()).toEqual([
      'live 0',
      'live 1',
      'live 2',
    ])
    const back = await insertRow(pool, { thread_id: 'idle 2' })
    await expireThreads(pool, 200)
    const { rows } = await pool.query(
      `select thread_id, priority from thread_operations where operation = 'expire_thread' order by id`,
    )
    expect(rows).toEqual([
      { thread_id: 'idle 1', priority: -50 },
      { thread_id: 'idle 2', priority: 0 },
    ])
    const next = await dispatcher.claimOnly({ ...everything, free: 1 })
    expect(next).toMatchObject({ thread_id: 'idle 2', operation: 'expire_thread' })
    await dispatcher.settle(next, completed)
    const claimed = await dispatcher.claimOnly({ ...everything, free: 1 })
    expect(claimed.id).toBe(back.id)
  })

  test('what stands behind others takes no slot from the rest', async ({ pool, connected }) => {
    await setPolicy(pool, 'p', { pattern: 'any', absolute_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 8 })
    const dispatcher = await HandDriven.signOn(await connected(), 'd1', { concurrency: 8 })
    for (const n of [1, 2]) await insertRow(pool, { thread_id: `idle ${n}` })
    await dispatcher.claim(everything)
    expect(await expireThreads(pool, 200)).toMatchObject({ requested: 2 })
    expect(await expireThreads(pool, 200)).toMatchObject({ requested: 2, waiting: 2 })
  })
})

describe('afterwards', () => {
  test('a failed or cancelled request is not repeated before an hour, a completed one in a minute', async ({
    pool,
    connected,
  }) => {
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
    await insertIdleThreads(pool, { count: 3 })
    const dispatcher = await HandDriven.signOn(await connected(), 'd1', { concurrency: 100 })
    await expireThreads(pool, 200)
    const [one, two, three] = await dispatcher.claim(everything)
    await dispatcher.settle(one as never, failed)
    await dispatcher.settle(two as never, {
      status: 'cancelled',
      error: { code: 'no', message: 'No.' },
    })
    await dispatcher.settle(three as never, completed)
    expect(await expireThreads(pool, 200)).toEqual({ requested: 0, released: 0, waiting: 0 })
    const overSince = (interval: string) =>
      pool.query(`begin; set local session_replication_role = replica;
                  update thread_operations set finished_at = clock_timestamp() - interval '${interval}'; commit`)
    await overSince('2 minutes')
    expect(await expireThreads(pool, 200)).toEqual({ requested: 1, released: 1, waiting: 1 })
    await overSince('61 minutes')
    expect(await expireThreads(pool, 200)).toMatchObject({ requested: 2 })
    expect(await askedToExpire(pool)).toEqual([
      ...['idle 1', 'idle 2', 'idle 3'],
      three?.thread_id,
      ...[one?.thread_id, two?.thread_id].toSorted(),
    ])
  })

  test('a thread whose request was deleted is free again', async ({ pool }) => {
    await insertIdleThreads(pool)
    await pool.query('update threads set lifecycle_operation_id = 4711')
    expect(await expireThreads(pool, 200)).toMatchObject({ released: 1 })
  })
})

test('among 100,000 threads a pass looks at an index and at few pages, and asks for few', async ({
  pool,
  connected,
}) => {
  await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day', absolute_ttl: '10 days' })
  await setPolicy(pool, 'users', { pattern: 'user', idle_ttl: '30 days' })
  await insertIdleThreads(pool, { count: 50_000, name: 'over', idleFor: '3 days' })
  await insertIdleThreads(pool, { count: 50_000, name: 'user', columns: { user_id: '1' } })
  await pool.query('vacuum analyze threads')
  const client = await connected()
  await explain(client)
  const pass = async () => {
    let requested = 0
    const work = await workOf(client, async () => {
      requested = (await expireThreads(client as never, 200)).requested
    })
    return { ...work, requested }
  }
  for (let n = 1; n <= 2; n++) {
    const { requested, pages, scans, largest } = await pass()
    expect(requested).toBe(n === 1 ? 200 : 0)
    expect(scans.filter((scan) => /^Seq Scan threads?(_operations)?$/.test(scan))).toEqual([])
    expect(pages, largest.join('\n')).toBeLessThan(20_000)
  }
  expect(await askedToExpire(pool)).toHaveLength(200)
})
