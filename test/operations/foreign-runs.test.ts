import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { messagesPath, runsPath, startLine, who } from './line.ts'

describe.each(['responses', 'assistants'] as const)('a foreign run on "%s"', (name) => {
  const busy = name === 'responses' ? 'conversation_locked' : 'thread_busy'
  const started = (message: string) => ({ message: `reply with exactly: ${message}`, ...who })

  test('is awaited, named in the ledger, and burns no attempt', async ({ pool }) => {
    const line = await startLine(pool, name, { maxAttempts: 1 })
    const thread = `${name}:awaited`
    await line.do(thread, 'add_message', { message: 'Hi' })
    await line.secondIsOver(thread)
    const { provider_thread_id } = await line.thread(thread)
    const foreign = line.emulator.foreignRun(provider_thread_id, { ms: 600 })
    const id = await line.insert(thread, 'add_message_and_run', started('ours'))
    const behind = await line.insert(thread, 'add_message', { message: 'behind it' })
    const row = await line.end(id)
    expect(row).toMatchObject({ status: 'completed', failures: 0, result: { text: 'ours' } })
    const waits = await line.ledger(id)
    expect(waits.length).toBeGreaterThan(1)
    for (const { to_status, code, detail } of waits) {
      expect([to_status, code]).toEqual(['pending', busy])
      expect(detail.foreign_run_id).toBe(name === 'assistants' ? foreign : null)
    }
    await line.end(behind)
    expect(await line.said(thread)).toEqual([
      'user: Hi',
      'assistant: A foreign run was here.',
      'user: reply with exactly: ours',
      'assistant: ours',
      'user: behind it',
    ])
    // Every refusal that was met is in the ledger.
    expect(line.emulator.stats.conflicts).toBeLessThanOrEqual(waits.length)
    await expectHealthy(pool)
  })

  test('holds no slot of the dispatcher', async ({ pool }) => {
    const line = await startLine(pool, name)
    const held = await Promise.all(
      [1, 2, 3, 4, 5, 6].map(async (n) => {
        await line.do(`${name}:slot ${n}`, 'create_thread', {})
        const { provider_thread_id } = await line.thread(`${name}:slot ${n}`)
        line.emulator.foreignRun(provider_thread_id, { ms: 3_600_000 })
        return line.insert(`${name}:slot ${n}`, 'add_message', { message: 'Hi' })
      }),
    )
    for (const id of held) await line.waiting(id, busy)
    expect((await line.do(`${name}:free`, 'add_message', { message: 'Hi' })).status).toBe(
      'completed',
    )
    for (const id of held) await pool.query(cancel, [id])
  })

  test('that does not end fails the operation, which names it, and the line goes on', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { foreignRunMs: 300 })
    const thread = `${name}:endless`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id } = await line.thread(thread)
    const foreign = line.emulator.foreignRun(provider_thread_id, { ms: 3_600_000 })
    const row = await line.do(thread, 'create_run', who)
    expect(row).toMatchObject({
      status: 'failed',
      failures: 0,
      error: {
        code: 'foreign_run_timeout',
        foreign_run_id: name === 'assistants' ? foreign : null,
        message: expect.stringContaining('cancel it at the provider'),
      },
    })
    expect(row.error.message).toContain(name === 'assistants' ? foreign : 'not come from inturn')
    const last = (await line.ledger(row.id)).at(-1)
    expect(last).toMatchObject({ to_status: 'failed', code: 'foreign_run_timeout' })
    expect(last?.detail).toHaveProperty('foreign_run_id')
    const next = await line.do(thread, 'update_thread', { metadata: { a: 'b' } })
    expect(next.status).toBe('completed')
  })

  test('that writes while we wait is not taken for ours when our own answer is lost', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { callTimeoutMs: 300 })
    const thread = `${name}:whose`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id } = await line.thread(thread)
    line.emulator.foreignRun(provider_thread_id, { ms: 400 })
    const id = await line.insert(thread, 'create_run', {
      ...who,
      instructions: 'reply with exactly: ours',
    })
    await line.waiting(id, busy)
    line.relay.loseFrom = ({ method, path, body }) =>
      method === 'POST' && runsPath.test(path) && !body.includes('item_reference') ? '' : undefined
    await expect.poll(() => line.emulator.stats.runsStarted).toBe(1)
    line.relay.loseFrom = () => undefined
    expect(await line.end(id)).toMatchObject({ status: 'completed', result: { text: 'ours' } })
    expect(line.emulator.stats.runsStarted).toBe(1)
    expect((await line.said(thread)).slice(-2)).toEqual([
      'assistant: A foreign run was here.',
      'assistant: ours',
    ])
  })

  test('that ends and is followed by another is a new one to wait for', async ({ pool }) => {
    const line = await startLine(pool, name, { foreignRunMs: name === 'assistants' ? 900 : 5_000 })
    const thread = `${name}:two`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id } = await line.thread(thread)
    line.emulator.foreignRun(provider_thread_id, { ms: 600 })
    const id = await line.insert(thread, 'add_message', { message: 'ours' })
    const last = () => line.emulator.history(provider_thread_id).at(-1)?.role
    await expect.poll(last, { interval: 1 }).toBe('assistant')
    line.emulator.foreignRun(provider_thread_id, { ms: 600 })
    expect(await line.end(id)).toMatchObject({ status: 'completed', failures: 0 })
    const said = await line.said(thread)
    expect(said.at(-1)).toBe('user: ours')
    expect(said.filter((entry) => entry.startsWith('assistant'))).toHaveLength(2)
  })
})

test('a foreign run is waited for as well before a lost message is sent again', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', { callTimeoutMs: 300 })
  const thread = 'lost before'
  await line.do(thread, 'create_thread', {})
  line.emulator.setFaults([{ name: 'reset_before_commit', on: 'messages.create', times: 1 }])
  const id = await line.insert(thread, 'add_message', { message: 'Hi' })
  await line.waiting(id, 'outcome_unknown')
  const { provider_thread_id } = await line.thread(thread)
  line.emulator.foreignRun(provider_thread_id, { ms: 1_500 })
  expect(await line.end(id)).toMatchObject({ status: 'completed', failures: 1 })
  // Lost, refused, added.
  expect(line.sent('POST', messagesPath)).toHaveLength(3)
  expect(line.emulator.stats.conflicts).toBe(1)
  expect(await line.said(thread)).toEqual(['assistant: A foreign run was here.', 'user: Hi'])
})

const cancel = `update thread_operations set status = 'cancelled' where id = $1 and status = 'pending'`

test('a foreign run that the provider names is looked at, and nothing is sent meanwhile', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  const thread = 'named'
  await line.do(thread, 'create_thread', {})
  const { provider_thread_id } = await line.thread(thread)
  const foreign = line.emulator.foreignRun(provider_thread_id, { ms: 1_000 })
  const row = await line.do(thread, 'add_message', { message: 'Hi' })
  expect(row).toMatchObject({ status: 'completed', failures: 0 })
  expect(line.sent('POST', messagesPath)).toHaveLength(2)
  expect(line.sent('GET', new RegExp(`/runs/${foreign}$`)).length).toBeGreaterThan(1)
  expect(line.emulator.stats.conflicts).toBe(1)
})

test('a run that holds the thread and cannot be read yet is named in the ledger as well', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  const thread = 'unreadable'
  await line.do(thread, 'add_message', { message: 'Hi' })
  const { provider_thread_id } = await line.thread(thread)
  line.emulator.setFaults([{ name: 'read_lag', on: 'runs.retrieve', ms: 600 }])
  const foreign = line.emulator.foreignRun(provider_thread_id, { ms: 1_000 })
  const id = await line.insert(thread, 'create_run', who)
  expect(await line.end(id)).toMatchObject({ status: 'completed', failures: 0 })
  const [first] = await line.ledger(id)
  expect(first).toMatchObject({ code: 'thread_busy', detail: { foreign_run_id: foreign } })
})
