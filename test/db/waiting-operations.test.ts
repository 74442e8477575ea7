import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow, moveTo } from '../support/line.ts'

describe('waiting_operations', () => {
  const waiting = async (pool: pg.Pool, threadId: string) =>
    (
      await pool.query(
        `select *, extract(epoch from waited_for_thread)::float as for_thread,
                extract(epoch from waited_as_head)::float as as_head
           from waiting_operations where thread_id = $1 order by position`,
        [threadId],
      )
    ).rows

  const reason = async (pool: pg.Pool, threadId: string) =>
    (await waiting(pool, threadId))[0].waits_for as string

  const dispatcher = (pool: pg.Pool, providers: string[]) =>
    pool.query(
      `insert into dispatchers (id, host, pid, concurrency, providers, grace_ms, lease_ms) values ('d1', 'here', 1, 1, $1, 1500, 14000)
       on conflict (id) do update set providers = $1`,
      [providers],
    )

  test('numbers what waits, and splits the wait in two', async ({ pool }) => {
    const thread = { thread_id: 'numbered' }
    const ids = []
    for (let i = 0; i < 3; i++) ids.push((await insertRow(pool, thread)).id)
    const [head, ...others] = await waiting(pool, 'numbered')
    expect([head, ...others].map(({ id, position }) => [id, position])).toEqual([
      [ids[0], 1],
      [ids[1], 2],
      [ids[2], 3],
    ])
    expect(head).toMatchObject({ for_thread: 0, as_head: expect.any(Number), attempts: 0 })
    for (const other of others) expect(other).toMatchObject({ as_head: null, ready_at: null })

    await moveTo(pool, ids[0] as number, 'cancelled')
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [ids[1]])
    const [last] = await waiting(pool, 'numbered')
    expect(last).toMatchObject({ id: ids[2], position: 1 })
    expect(last.for_thread).toBeGreaterThan(0)
    expect(last.as_head).toBeGreaterThanOrEqual(0)
  })

  test('says behind which operation it waits', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'behind' })
    await insertRow(pool, { thread_id: 'behind' })
    const [, second] = await waiting(pool, 'behind')
    expect(second.waits_for).toBe('behind the operations before it')
    await moveTo(pool, id, 'processing')
    expect(await reason(pool, 'behind')).toMatch(
      new RegExp(`^behind operation ${id}, processing since \\d{4}-`),
    )
  })

  test('says when the next attempt is due, and why there is one', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'due' })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'pending', {
      error: { code: 'rate_limited' },
      ready_at: '2999-01-01T00:00:00Z',
    })
    expect((await waiting(pool, 'due'))[0]).toMatchObject({
      waits_for: expect.stringMatching(/^attempt 2 is due at (2999|2998)-.* \(rate_limited\)$/),
      last_error_code: 'rate_limited',
      attempts: 1,
    })
  })

  test('says which dispatcher is missing, or that all slots are taken', async ({ pool }) => {
    await insertRow(pool, { thread_id: 'any provider' })
    const assistants = `thread_${'a'.repeat(24)}`
    await insertRow(pool, { thread_id: assistants })

    expect(await reason(pool, 'any provider')).toBe('no dispatcher is running')
    expect(await reason(pool, assistants)).toBe('no dispatcher serves the provider assistants')
    await dispatcher(pool, ['responses'])
    expect(await reason(pool, 'any provider')).toBe('ready: waits for a free slot')
    expect(await reason(pool, assistants)).toBe('no dispatcher serves the provider assistants')
    await dispatcher(pool, ['responses', 'assistants'])
    expect(await reason(pool, assistants)).toBe('ready: waits for a free slot')

    await pool.query(
      `insert into lanes (provider, key, paused_at, paused_until, reason)
       values ('assistants', '0123456789ab', now(), never(), 'insufficient_quota')`,
    )
    const rests = 'ready: waits for a free slot; a key of its provider rests (insufficient_quota)'
    expect(await reason(pool, assistants)).toBe(rests)
    expect(await reason(pool, 'any provider')).toBe(rests)
    await pool.query(`update lanes set provider = 'responses'`)
    expect(await reason(pool, assistants)).toBe('ready: waits for a free slot')
    await pool.query('delete from lanes')
  })

  test('says that an operator must decide, and about which operation', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'held' })
    await insertRow(pool, { thread_id: 'held' })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'pending', {
      error: { code: 'outcome_unknown' },
      ready_at: '9999-01-01T00:00:00Z',
    })
    const reasons = async (thread: string) =>
      (await waiting(pool, thread)).map(({ waits_for }) => waits_for)
    expect(await reasons('held')).toEqual([
      'held for an operator: outcome_unknown',
      `behind operation ${id}, which is held for an operator`,
    ])

    await pool.query(`insert into threads (id, on_failure) values ('halted', 'halt')`)
    const { id: failed } = await insertRow(pool, { thread_id: 'halted' })
    await moveTo(pool, failed, 'processing')
    await moveTo(pool, failed, 'failed')
    for (let i = 0; i < 2; i++) await insertRow(pool, { thread_id: 'halted' })
    const halted = `halted since operation ${failed} failed: resume_thread or retry_operation`
    expect(await reasons('halted')).toEqual([halted, halted])
  })

  test('shows nothing that is active or final', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'gone' })
    await moveTo(pool, id, 'processing')
    expect(await waiting(pool, 'gone')).toEqual([])
    await moveTo(pool, id, 'requires_action')
    expect(await waiting(pool, 'gone')).toEqual([])
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'completed')
    expect(await waiting(pool, 'gone')).toEqual([])
  })
})
