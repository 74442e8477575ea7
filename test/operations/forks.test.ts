import { describe, expect } from 'vitest'
import { providerNames } from '../../src/model/thread.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import {
  copied,
  copiesPath,
  generations,
  history,
  providerThreads,
  spoken,
  turn,
} from './copies.ts'
import { type Line, loseFirstAnswer, startLine } from './line.ts'

/** A thread with a turn for each answer. */
async function begin(line: Line, thread: string, ...answers: string[]): Promise<string> {
  await line.do(thread, 'create_thread', { metadata: { team: 'red' } })
  for (const answer of answers) await line.do(thread, 'add_message_and_run', turn(answer))
  return (await line.thread(thread)).provider_thread_id
}

describe.each(providerNames)('fork_thread on "%s"', (name) => {
  test('copies what stands there at its turn, and both threads go on by themselves', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const [thread, to] = [`${name}:source`, `${name}:fork`]
    const from = await begin(line, thread)
    await pool.query(
      `update threads set user_id = 'u', topic = 't', labels = '{"plan": "pro"}' where id = $1`,
      [thread],
    )
    await line.insert(thread, 'add_message_and_run', turn('one'))
    const id = await line.insert(thread, 'fork_thread', { to })
    const behind = await line.insert(thread, 'add_message_and_run', turn('two'))
    const { status, error, result } = await line.end(id)
    expect({ status, error }).toEqual({ status: 'completed', error: null })
    await line.end(behind)
    const forked = await line.thread(to)
    const { provider_thread_id } = forked
    expect(result).toEqual({ thread: to, provider_thread_id, items: 2, left_out: 0 })
    expect(forked).toMatchObject({
      provider: name,
      generation: 1,
      metadata: { team: 'red' },
      labels: { plan: 'pro' },
      user_id: null,
      topic: null,
    })
    const [generation] = await generations(pool, to)
    expect(generation).toMatchObject({ carried_over: 2, copied_from: from, messages_before: 0 })
    const signal = AbortSignal.timeout(5_000)
    const options = { signal, timeoutMs: 5_000 }
    const found = await line.providers[name]?.retrieveThread(provider_thread_id, options)
    expect(found?.metadata).toEqual({ team: 'red', forked_from: from })
    await line.do(to, 'add_message_and_run', turn('three'))
    expect(history(line, provider_thread_id)).toEqual(spoken('one', 'three'))
    expect(history(line, from)).toEqual(spoken('one', 'two'))
    await expectHealthy(pool)
  })

  test('copies the last messages only where it is told how many', async ({ pool }) => {
    const line = await startLine(pool, name)
    const [thread, to] = [`${name}:long`, `${name}:short`]
    await begin(line, thread, 'one', 'two')
    const { result } = await line.do(thread, 'fork_thread', { to, last: 2 })
    expect(result).toMatchObject({ items: 2 })
    expect(await line.said(to)).toEqual(spoken('two'))
  })

  test('of an empty thread is an empty thread', async ({ pool }) => {
    const line = await startLine(pool, name)
    const to = `${name}:empty fork`
    const row = await line.do(`${name}:never used`, 'fork_thread', { to })
    expect(row).toMatchObject({ status: 'completed', result: { thread: to, items: 0 } })
    expect(await line.said(to)).toEqual([])
    expect((await generations(pool, to))[0]).toMatchObject({ copied_from: null })
    await expectHealthy(pool)
  })

  test('is refused where the target was used, and leaves it and nothing else behind', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:refused`
    const to = `${name}:used`
    await begin(line, thread, 'one')
    await begin(line, to, 'two')
    const threads = providerThreads(line)
    const row = await line.do(thread, 'fork_thread', { to })
    expect(row).toMatchObject({ status: 'failed', error: { code: 'fork_target_in_use' } })
    expect(row.error.message).toContain('has a conversation of its own: fork to an id')
    expect(await line.said(to)).toEqual(spoken('two'))
    expect(providerThreads(line)).toBe(threads)
    const shapes = { assistants: `thread_${'a'.repeat(24)}`, responses: `conv_${'0'.repeat(32)}` }
    for (const [target, code, words] of [
      [thread, 'fork_target_invalid', 'the thread itself'],
      ['x'.repeat(256), 'fork_target_invalid', '1 to 255 characters, not 256'],
      [' ', 'fork_target_invalid', '1 to 255 characters, not 0'],
      [shapes[name], 'fork_target_in_use', 'the id of a provider thread'],
    ] as const) {
      const { status, error } = await line.do(thread, 'fork_thread', { to: target })
      expect([status, error.code]).toEqual(['failed', code])
      expect(error.message).toContain(words)
    }
    await pool.query(`insert into threads (id, closed_at) values ($1, clock_timestamp())`, [
      `${name}:closed`,
    ])
    const closed = await line.do(thread, 'fork_thread', { to: `${name}:closed` })
    expect(closed.error.message).toContain('is closed')
    expect(providerThreads(line)).toBe(threads)
  })

  test('is refused where the target is used while it copies, and the copy is deleted again', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { settleMs: 60_000 })
    const [thread, to] = [`${name}:slow`, `${name}:quick`]
    await begin(line, thread, 'one')
    const lists = name === 'responses' ? 'items.list' : 'messages.list'
    line.emulator.setFaults([{ name: 'read_lag', on: lists, ms: 60_000 }])
    const id = await line.insert(thread, 'fork_thread', { to })
    await copied(line, id, 2)
    await line.do(to, 'add_message', { message: 'mine' })
    line.emulator.setFaults([])
    expect(await line.end(id)).toMatchObject({
      status: 'failed',
      error: { code: 'fork_target_in_use' },
    })
    expect(await line.said(to)).toEqual(['user: mine'])
    expect(providerThreads(line)).toBe(2)
    expect(line.emulator.keptItems()).toEqual([])
    await expectHealthy(pool)
  })

  test('has all that was added, although the provider lists it late', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 3_000 })
    const [thread, to] = [`${name}:late`, `${name}:complete`]
    await begin(line, thread)
    // Some of it shows at once, some after a while.
    line.emulator.setFaults([{ name: 'read_lag', ms: 900, atLeastMs: 0 }], { seed: 7 })
    await line.insert(thread, 'add_message_and_run', turn('one'))
    await line.insert(thread, 'add_message_and_run', turn('two'))
    await line.insert(thread, 'add_message_and_run', turn('three'))
    const row = await line.end(await line.insert(thread, 'fork_thread', { to }))
    expect(row).toMatchObject({ status: 'completed', failures: 0, result: { items: 6 } })
    expect(await line.said(to)).toEqual(spoken('one', 'two', 'three'))
    await expectHealthy(pool)
  })

  test('for several workers makes copies that go on in parallel', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:shared`
    await begin(line, thread, 'one')
    const workers = [1, 2, 3, 4].map((n) => `${name}:worker ${n}`)
    const forks = await Promise.all(workers.map((to) => line.insert(thread, 'fork_thread', { to })))
    const last = await line.insert(thread, 'add_message_and_run', turn('source'))
    await Promise.all(
      workers.map(async (to, n) => {
        await line.end(forks[n] as number)
        await line.do(to, 'add_message_and_run', turn(to))
        await line.do(to, 'add_message_and_run', turn(`${to} again`))
      }),
    )
    await line.end(last)
    for (const to of workers) expect(await line.said(to)).toEqual(spoken('one', to, `${to} again`))
    expect(await line.said(thread)).toEqual(spoken('one', 'source'))
    expect(line.emulator.stats.conflicts).toBe(0)
    await expectHealthy(pool)
  })

  test('copies nothing twice where answers are lost', async ({ pool }) => {
    const line = await startLine(pool, name)
    const [thread, to] = [`${name}:lost`, `${name}:once`]
    await begin(line, thread, 'one')
    loseFirstAnswer(line.relay, 'POST', copiesPath)
    const row = await line.do(thread, 'fork_thread', { to })
    expect(row).toMatchObject({ status: 'completed', result: { items: 2 } })
    expect(await line.said(to)).toEqual(spoken('one'))
    expect(providerThreads(line)).toBe(2)
    expect(line.emulator.keptItems()).toEqual([])
  })
})

test('two forks to one id at once: one makes it, the other is refused', async ({ pool }) => {
  const line = await startLine(pool, 'responses')
  for (const thread of ['left', 'right']) await begin(line, thread, thread)
  const ids = await Promise.all(
    ['left', 'right'].map((thread) => line.insert(thread, 'fork_thread', { to: 'one for both' })),
  )
  const rows = await Promise.all(ids.map((id) => line.end(id)))
  expect(rows.map(({ status }) => status).toSorted()).toEqual(['completed', 'failed'])
  const winner = rows.findIndex(({ status }) => status === 'completed')
  expect(await line.said('one for both')).toEqual(spoken(['left', 'right'][winner] as string))
  expect(providerThreads(line)).toBe(3)
})

test('what waits on the target without having been started goes on in the copy', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses')
  await begin(line, 'has it', 'one')
  await pool.query(
    `insert into thread_operations (thread_id, operation, data, debounce_ms)
     values ('waits', 'add_message', '{"message": "later"}', 600000)`,
  )
  expect((await line.do('has it', 'fork_thread', { to: 'waits' })).status).toBe('completed')
  await pool.query(
    `begin; set local session_replication_role = replica;
     update thread_operations set debounce_ms = null, debounce_max_ms = null, ready_at = clock_timestamp()
      where thread_id = 'waits'; commit`,
  )
  await waitFor(async () => (await line.said('waits')).length === 3)
  expect(await line.said('waits')).toEqual([...spoken('one'), 'user: later'])
})

test('a fork of 2,500 messages is complete and in order', async ({ pool }) => {
  const line = await startLine(pool, 'responses')
  const from = await begin(line, 'large')
  const texts = Array.from({ length: 2_500 }, (_, n) => `message ${n}`)
  const options = { signal: AbortSignal.timeout(60_000), timeoutMs: 10_000 }
  for (let n = 0; n < texts.length; n += 20)
    await line.providers.responses?.addMessages(from, texts.slice(n, n + 20), options)
  const whole = await line.do('large', 'fork_thread', { to: 'as large' })
  expect(whole).toMatchObject({ status: 'completed', result: { items: 2_500, left_out: 0 } })
  expect(await line.said('as large')).toEqual(texts.map((text) => `user: ${text}`))
  const half = await line.do('large', 'fork_thread', { to: 'half', last: 1_250 })
  expect(half.result).toMatchObject({ items: 1_250 })
  expect(await line.said('half')).toEqual(texts.slice(1_250).map((text) => `user: ${text}`))
})
