import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { asLine } from '../support/line.ts'
import { startLine, who } from './line.ts'

describe.each(['responses', 'assistants'] as const)('a run on "%s" that takes too long', (name) => {
  const creating = name === 'responses' ? 'responses.create' : 'runs.create'
  const cancelling = name === 'responses' ? 'responses.cancel' : 'runs.cancel'
  const stuck = (fault: 'stuck_queued' | 'stuck_in_progress') =>
    ({ name: fault, on: creating, times: 1 }) as const
  const ask = { message: 'reply with exactly: well', ...who }
  const once = ['user: reply with exactly: well', 'assistant: well']

  test.for(['stuck_queued', 'stuck_in_progress'] as const)(
    '(%s) is cancelled and replaced, its message stays one',
    async (fault, { pool }) => {
      const line = await startLine(pool, name, { runTimeoutMs: 300 })
      line.emulator.setFaults([stuck(fault)])
      const row = await line.do(`${name}:${fault}`, 'add_message_and_run', ask)
      expect(row).toMatchObject({
        status: 'completed',
        failures: 1,
        result: { text: 'well', run: { id: row.progress.run_id } },
      })
      expect(row.progress.failed_run_ids).toHaveLength(1)
      expect(await line.ledger(row.id)).toMatchObject([
        { to_status: 'pending', code: 'run_timeout' },
      ])
      expect(await line.said(`${name}:${fault}`)).toEqual(once)
      expect(line.emulator.stats).toMatchObject({ runsStarted: 2, conflicts: 0 })
    },
  )

  test('on every attempt fails its operation', async ({ pool }) => {
    const line = await startLine(pool, name, { runTimeoutMs: 200, maxAttempts: 2 })
    line.emulator.setFaults([{ ...stuck('stuck_in_progress'), times: undefined }])
    const row = await line.do(`${name}:always`, 'add_message_and_run', ask)
    expect(row).toMatchObject({
      status: 'failed',
      error: { code: 'run_timeout' },
      result: { run: { status: 'cancelled' } },
    })
    line.emulator.setFaults([])
    await line.secondIsOver(`${name}:always`)
    const next = await line.do(`${name}:always`, 'add_message_and_run', ask)
    expect(next).toMatchObject({ status: 'completed', attempts: 1 })
  })

  test('counts from its start, whoever follows it', async ({ pool }) => {
    const line = await startLine(pool, name, { runTimeoutMs: 600 })
    line.emulator.setFaults([stuck('stuck_in_progress')])
    const id = await line.insert(`${name}:handed on`, 'add_message_and_run', ask)
    await expect.poll(async () => (await line.row(id)).progress?.run_since).toBeTruthy()
    const since = Date.parse((await line.row(id)).progress.run_since)
    await asLine(pool, (client) =>
      client.query(`update thread_operations set claimed_by = 'somebody else' where id = $1`, [id]),
    )
    const row = await line.end(id)
    expect(row.status).toBe('completed')
    expect(Date.parse(row.progress.stopping.since) - since).toBeLessThan(5_000)
    expect(await line.said(`${name}:handed on`)).toEqual(once)
  })

  test('and completes in spite of the cancel is adopted', async ({ pool }) => {
    const line = await startLine(pool, name, { runTimeoutMs: 300 })
    const thread = `${name}:completes`
    line.emulator.setFaults([
      { name: 'stuck_in_progress', on: creating, ms: 800, times: 1 },
      { name: 'cancel_completes', on: cancelling },
    ])
    const row = await line.do(thread, 'add_message_and_run', ask)
    expect(row).toMatchObject({
      status: 'completed',
      failures: 0,
      result: { text: 'well', run: { id: row.progress.stopping.run_id } },
    })
    expect(await line.said(thread)).toEqual(once)
    expect(line.emulator.stats).toMatchObject({ runsStarted: 1, conflicts: 0 })
  })
})

test('a response that says it is cancelled, and completes minutes later, is adopted', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses', { runTimeoutMs: 500 })
  line.emulator.setFaults([
    { name: 'stuck_in_progress', on: 'responses.create', ms: 900, times: 1 },
    { name: 'cancel_completes', shows: 'cancelled' },
  ])
  const row = await line.do('cancelled?', 'add_message_and_run', {
    message: 'reply with exactly: late',
    ...who,
  })
  expect(row).toMatchObject({
    status: 'completed',
    failures: 1,
    result: { text: 'late', run: { id: row.progress.stopping.run_id, status: 'completed' } },
  })
  expect(line.emulator.stats.runsStarted).toBe(1)
  expect(await line.said('cancelled?')).toEqual([
    'user: reply with exactly: late',
    'assistant: late',
  ])
  // Each look at the lock that met it is in the ledger.
  const waits = (await line.ledger(row.id)).filter(({ code }) => code === 'run_overdue')
  expect(line.emulator.stats.conflicts).toBe(waits.length)
})

test('a run that stays in cancelling is awaited without a slot, then held for an operator', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', { runTimeoutMs: 400, callTimeoutMs: 200 })
  line.emulator.setFaults([
    { name: 'stuck_in_progress', on: 'runs.create', times: 1 },
    { name: 'stuck_cancelling' },
  ])
  const ask = { message: 'reply with exactly: at last', ...who }
  const id = await line.insert('cancelling', 'add_message_and_run', ask)
  const row = await line.waiting(id, 'run_stuck')
  expect(row).toMatchObject({ status: 'pending', failures: 0, error: { call: 'cancel_run' } })
  expect(row.error.message).toContain(row.progress.run_id)
  expect(row.error.message).toContain('`inturn resume "cancelling"`')
  expect((await line.ledger(id)).map(({ code }) => code)).toContain('run_overdue')

  line.emulator.setFaults([])
  await asLine(pool, (client) =>
    client.query('update thread_operations set ready_at = clock_timestamp() where id = $1', [id]),
  )
  expect(await line.end(id)).toMatchObject({ status: 'completed', result: { text: 'at last' } })
  expect(await line.said('cancelling')).toEqual([
    'user: reply with exactly: at last',
    'assistant: at last',
  ])
})

test('a run that expires is replaced, its message stays one', async ({ pool }) => {
  const line = await startLine(pool, 'assistants')
  line.emulator.setFaults([{ name: 'run_expires', times: 1 }])
  const row = await line.do('expires once', 'add_message_and_run', {
    message: 'reply with exactly: well',
    ...who,
  })
  expect(row).toMatchObject({ status: 'completed', failures: 1, result: { text: 'well' } })
  expect(await line.ledger(row.id)).toMatchObject([{ code: 'run_expired' }])
  expect(await line.said('expires once')).toEqual([
    'user: reply with exactly: well',
    'assistant: well',
  ])
})
