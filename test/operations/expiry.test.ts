import type pg from 'pg'
import { describe, expect } from 'vitest'
import type { Provider } from '../../src/provider/provider.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, startLine, who } from './line.ts'

/** A thread with this policy and a message in its conversation. */
async function begin(
  pool: pg.Pool,
  line: Line,
  thread: string,
  policy: { idle_ttl?: string; absolute_ttl?: string; on_expiry?: string },
): Promise<string> {
  const { idle_ttl = null, absolute_ttl = null, on_expiry = 'delete' } = policy
  await pool.query(
    `insert into thread_policies (name, idle_ttl, absolute_ttl, on_expiry) values ($1, $2, $3, $4)`,
    [thread, idle_ttl, absolute_ttl, on_expiry],
  )
  await line.do(thread, 'add_message', { message: 'Hi' })
  await pool.query('update threads set policy = $1 where id = $1', [thread])
  return (await line.thread(thread)).provider_thread_id
}

const nothing = { status: 'completed', result: { outcome: 'nothing_to_do' } }
const knows = (line: Line, id: string): boolean => {
  try {
    line.emulator.history(id)
    return true
  } catch {
    return false
  }
}

describe.each(['responses', 'assistants'] as const)('expire_thread on "%s"', (name) => {
  test('ends a conversation that was idle for long enough, and the next one begins anew', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:idle`
    const id = await begin(pool, line, thread, {
      idle_ttl: '300 ms',
      on_expiry: 'archive_and_delete',
    })
    const row = await waitFor(async () => {
      const row = await line.do(thread, 'expire_thread', {})
      return row.result.outcome === 'expired' && row
    })
    expect(row.result).toMatchObject({
      archive_id: expect.any(Number),
      deleted: [{ generation: 1, provider_thread_id: id }],
    })
    expect(knows(line, id)).toBe(false)
    expect(line.emulator.keptItems()).toEqual([])
    const { rows } = await pool.query(
      'select ended_by, archive_id, proof from thread_generations where thread_id = $1',
      [thread],
    )
    expect(rows).toMatchObject([
      {
        ended_by: 'expired',
        archive_id: row.result.archive_id,
        proof: { gone_at: expect.any(String) },
      },
    ])
    expect(await line.do(thread, 'expire_thread', {})).toMatchObject(nothing)
    const next = await line.do(thread, 'add_message', { message: 'Anew' })
    expect(next.status).toBe('completed')
    expect(await line.said(thread)).toEqual(['user: Anew'])
    expect(await line.thread(thread)).toMatchObject({ generation: 2, closed_at: null })
    await expectHealthy(pool)
  })

  test.for([
    ['without a policy', {}],
    ['whose times are not over', { idle_ttl: '1 hour', absolute_ttl: '1 day' }],
  ] as const)('leaves a conversation alone %s', async ([what, policy], { pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:${what}`
    const id = await begin(pool, line, thread, policy)
    expect(await line.do(thread, 'expire_thread', {})).toMatchObject(nothing)
    expect(knows(line, id)).toBe(true)
  })

  test('counts what is served and what waits as activity, but not against the absolute time', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const [idle, absolute] = [`${name}:active`, `${name}:absolute`]
    await begin(pool, line, idle, { idle_ttl: '1 ms' })
    await begin(pool, line, absolute, { absolute_ttl: '1 ms', on_expiry: 'archive' })
    for (const thread of [idle, absolute]) {
      const hold = await line.insert(thread, 'hold', {})
      await waitFor(async () => ((await line.row(hold)) as { held_until?: Date }).held_until)
      const expiry = await line.insert(thread, 'expire_thread', {})
      const waiting = await line.insert(thread, 'add_message', { message: 'Waiting' })
      await pool.query('select release_hold($1)', [hold])
      expect((await line.end(expiry)).result.outcome).toBe(
        thread === idle ? 'nothing_to_do' : 'expired',
      )
      expect((await line.end(waiting)).status).toBe('completed')
    }
    expect(await line.said(idle)).toEqual(['user: Hi', 'user: Waiting'])
    expect(await line.said(absolute)).toEqual(['user: Waiting'])
    expect((await line.thread(absolute)).generation).toBe(2)
  })

  test('only archives where the policy says so, and asks it at its turn', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:changed`
    const id = await begin(pool, line, thread, { idle_ttl: '1 hour' })
    expect(await line.do(thread, 'expire_thread', {})).toMatchObject(nothing)
    await pool.query(
      `update thread_policies set idle_ttl = '1 ms', on_expiry = 'archive' where name = $1`,
      [thread],
    )
    const row = await line.do(thread, 'expire_thread', {})
    expect(row.result).toEqual({ outcome: 'expired', archive_id: expect.any(Number) })
    expect(knows(line, id)).toBe(true)
    expect((await line.thread(thread)).provider_thread_id).toBeNull()
  })

  test('of a thread that is called as its conversation was', async ({ pool }) => {
    const line = await startLine(pool, name)
    const options = { signal: AbortSignal.timeout(5_000), timeoutMs: 1_000 }
    const { id } = await (line.providers[name] as Provider).createThread({}, options)
    await begin(pool, line, id, { absolute_ttl: '1 ms' })
    expect((await line.do(id, 'expire_thread', {})).result.outcome).toBe('expired')
    const next = await line.do(id, 'add_message', { message: 'Anew' })
    expect(next).toMatchObject({ status: 'completed' })
    expect(next.result.provider_thread_id).not.toBe(id)
  })

  test('that fails halts no line, and no message comes into what is left; sent back, it goes on', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { maxAttempts: 1 })
    const thread = `${name}:failing`
    const id = await begin(pool, line, thread, { idle_ttl: '1 ms' })
    await pool.query(`update threads set on_failure = 'halt' where id = $1`, [thread])
    line.emulator.setFaults([
      {
        name: 'server_error_before_commit',
        on: name === 'responses' ? 'conversations.delete' : 'threads.delete',
      },
    ])
    const row = await line.do(thread, 'expire_thread', {})
    expect(row.status).toBe('failed')
    line.emulator.setFaults([])
    const next = await line.do(thread, 'add_message', { message: 'Served' })
    expect(next.status).toBe('completed')
    expect(next.result.provider_thread_id).not.toBe(id)
    expect(knows(line, id)).toBe(true)
    await pool.query(`select retry_operation($1, 'tail')`, [row.id])
    expect(await line.end(row.id)).toMatchObject({
      status: 'completed',
      result: { outcome: 'expired', deleted: [{ generation: 1, provider_thread_id: id }] },
    })
    expect(knows(line, id)).toBe(false)
    expect(await line.said(thread)).toEqual(['user: Served'])
  })

  test('is cancelled for a run of somebody else that goes on', async ({ pool }) => {
    const line = await startLine(pool, name, { foreignRunMs: 200 })
    const thread = `${name}:foreign`
    const id = await begin(pool, line, thread, { absolute_ttl: '1 ms' })
    line.emulator.foreignRun(id, { ms: 3_600_000 })
    const row = await line.do(thread, 'expire_thread', {})
    expect(row).toMatchObject({ status: 'cancelled', error: { code: 'foreign_run_timeout' } })
    expect(knows(line, id)).toBe(true)
  })

  test('races with messages, and every one of them is in one conversation', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:racing`
    await begin(pool, line, thread, { absolute_ttl: '200 ms', on_expiry: 'archive_and_delete' })
    const ids: number[] = []
    for (let n = 0; n < 6; n++) {
      const kind = n % 3 === 2 ? ('expire_thread' as const) : 'add_message_and_run'
      ids.push(
        await line.insert(
          thread,
          kind,
          kind === 'expire_thread' ? {} : { message: `n ${n}`, ...who },
        ),
      )
    }
    const rows = await Promise.all(ids.map((id) => line.end(id)))
    expect(rows.map(({ status }) => status)).toEqual(ids.map(() => 'completed'))
    const { rows: kept } = await pool.query(
      `select m.text from archived_messages m join thread_archives a on a.id = m.archive_id
        where a.thread_id = $1 and m.role = 'user' and m.text like 'n %' order by a.generation, m.position`,
      [thread],
    )
    const { provider_thread_id: id } = await line.thread(thread)
    const left =
      id === null ? [] : (await line.said(thread)).filter((text) => text.startsWith('user: n '))
    expect([...kept.map(({ text }) => `user: ${text}`), ...left]).toEqual(
      [0, 1, 3, 4].map((n) => `user: n ${n}`),
    )
    expect(line.emulator.keptItems()).toEqual([])
    await expectHealthy(pool)
  })
})
