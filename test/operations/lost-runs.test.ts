import { describe, expect } from 'vitest'
import { defaultModel } from '../../src/emulator/index.ts'
import { test } from '../support/database.ts'
import { type Line, runsPath, startLine, who } from './line.ts'

/** Loses the answer to the first start of a run; a question whether the thread is busy is none. */
function loseFirstStart(line: Line): void {
  let lost = false
  line.relay.loseFrom = ({ method, path, body }) => {
    if (lost || method !== 'POST' || !runsPath.test(path) || body.includes('item_reference'))
      return undefined
    lost = true
    return ''
  }
}

/** Adds items to the conversation of a thread, as an outsider would. */
async function addItems(line: Line, thread: string, items: object[]): Promise<void> {
  const { provider_thread_id } = await line.thread(thread)
  const answer = await fetch(`${line.emulator.url}/conversations/${provider_thread_id}/items`, {
    method: 'POST',
    headers: { authorization: 'Bearer any', 'content-type': 'application/json' },
    body: JSON.stringify({ items }),
  })
  expect(answer.status).toBe(200)
}

const message = (role: string, content: string) => ({ type: 'message', role, content })

/** A model that answers when it is let go. */
function patientModel() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return {
    answer: resolve,
    model: async (request: Parameters<typeof defaultModel>[0]) => {
      await promise
      return defaultModel(request)
    },
  }
}

describe('a response whose id was lost', () => {
  test('is found behind what others wrote before it, where its message was there from a failed one', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses', { callTimeoutMs: 200 })
    line.emulator.setFaults([
      { name: 'failed_input_stays', times: 1 },
      { name: 'run_fails', on: 'responses.create', times: 1 },
    ])
    const data = { message: 'Hi', ...who, instructions: 'reply with exactly: once' }
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, data, retry)
       values ('behind others', 'add_message_and_run', $1, '{"base_ms": 1500}') returning id`,
      [data],
    )
    const [{ id }] = rows
    await line.waiting(id, 'server_error')
    await addItems(line, 'behind others', [
      message('user', 'An outsider speaks.'),
      message('assistant', 'And is answered.'),
    ])
    loseFirstStart(line)
    expect(await line.end(id)).toMatchObject({ status: 'completed', result: { text: 'once' } })
    expect((await line.said('behind others')).slice(-2)).toEqual([
      'assistant: And is answered.',
      'assistant: once',
    ])
  })

  test('is awaited while it goes on, and its end is found and not asked for again', async ({
    pool,
  }) => {
    const { answer, model } = patientModel()
    const line = await startLine(pool, 'responses', { callTimeoutMs: 200, emulator: { model } })
    loseFirstStart(line)
    const id = await line.insert('goes on', 'add_message_and_run', {
      message: 'reply with exactly: once',
      ...who,
    })
    const row = await line.waiting(id, 'conversation_locked')
    expect(row).toMatchObject({ failures: 1, error: { call: 'start_run' } })
    await expect.poll(async () => (await line.row(id)).attempts).toBeGreaterThan(row.attempts + 1)
    answer()
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      failures: 1,
      result: { text: 'once', run: { id: null } },
    })
    const { runsStarted, conflicts, conflictsByKind } = line.emulator.stats
    expect(runsStarted).toBe(1)
    // The documented look at the lock: each that met it is in the ledger.
    const locked = (await line.ledger(id)).filter(({ code }) => code === 'conversation_locked')
    for (const { detail } of locked) expect(detail).toMatchObject({ call: 'start_run' })
    expect(conflicts).toBe(locked.length)
    expect(conflictsByKind.conversation_locked).toBe(conflicts)
  })

  test.for([1, 2, 3, 4, 5])(
    'is started once, whenever it ends and however long reads lag (seed %i)',
    async (seed, { pool }) => {
      const line = await startLine(pool, 'responses', {
        callTimeoutMs: 200,
        settleMs: 400,
        emulator: { latency: { queuedMs: 150, thinkMs: 60 * seed, perTokenMs: 0 } },
      })
      const thread = `whenever ${seed}`
      await line.do(thread, 'create_thread', {})
      line.emulator.setFaults([{ name: 'read_lag', on: 'items', ms: 300, atLeastMs: 0 }], { seed })
      loseFirstStart(line)
      const row = await line.do(thread, 'add_message_and_run', {
        message: 'reply with exactly: once',
        ...who,
      })
      expect(row).toMatchObject({ status: 'completed', result: { text: 'once' } })
      expect(line.emulator.stats.runsStarted).toBe(1)
      expect(await line.said(thread)).toEqual(['user: reply with exactly: once', 'assistant: once'])
    },
  )

  test('that does not end is held for an operator', async ({ pool }) => {
    const { model } = patientModel()
    const options = { callTimeoutMs: 200, runTimeoutMs: 300, emulator: { model } }
    const line = await startLine(pool, 'responses', options)
    loseFirstStart(line)
    const id = await line.insert('endless', 'add_message_and_run', { message: 'Hi', ...who })
    const row = await line.waiting(id, 'run_stuck')
    expect(row).toMatchObject({ status: 'pending', error: { call: 'start_run' } })
    expect(row.error.message).toContain('`inturn resume "endless"`')
  })

  test('is told from what others say after it', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { callTimeoutMs: 500 })
    await line.do('after it', 'create_thread', {})
    loseFirstStart(line)
    const id = await line.insert('after it', 'add_message_and_run', {
      message: 'reply with exactly: mine',
      ...who,
    })
    await expect.poll(() => line.said('after it')).toHaveLength(2)
    await addItems(line, 'after it', [
      message('user', 'And?'),
      { ...message('assistant', 'Not mine.'), status: 'completed' },
    ])
    const row = await line.end(id)
    expect(row.result.text).toBe('mine')
    expect(line.emulator.history(row.result.provider_thread_id)[1]?.id).toBe(
      (await line.thread('after it')).last_item_id,
    )
  })

  test('is told from an equal turn before it', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { callTimeoutMs: 200 })
    const ask = { message: 'reply with exactly: fine', ...who }
    await line.do('equal', 'add_message_and_run', ask)
    line.emulator.setFaults([{ name: 'reset_before_commit', on: 'responses.create', times: 1 }])
    expect((await line.do('equal', 'add_message_and_run', ask)).status).toBe('completed')
    const turn = ['user: reply with exactly: fine', 'assistant: fine']
    expect(await line.said('equal')).toEqual([...turn, ...turn])
  })

  test('brings its further input along', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { callTimeoutMs: 500 })
    loseFirstStart(line)
    const row = await line.do('input', 'add_message_and_run', {
      message: 'My name is Ada.',
      input: [{ role: 'user', content: 'reply with exactly: both' }],
      ...who,
    })
    expect(row.result.text).toBe('both')
    expect(await line.said('input')).toHaveLength(3)
  })

  test('and that others make impossible to tell goes by the policy of its kind', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses', {
      callTimeoutMs: 500,
      holdUnknown: ['create_run'],
    })
    await line.do('whose?', 'add_message', { message: 'Hi' })
    // Never sent; and meanwhile somebody else has asked and was answered.
    line.emulator.setFaults([{ name: 'reset_before_commit', on: 'responses.create', times: 1 }])
    const id = await line.insert('whose?', 'create_run', who)
    await line.waiting(id, 'connection_lost')
    await addItems(line, 'whose?', [
      message('user', 'And?'),
      { ...message('assistant', 'Whose?'), status: 'completed' },
    ])
    expect((await line.waiting(id, 'outcome_unknown')).status).toBe('pending')
    await expect
      .poll(async () => (await line.row(id)).error.message)
      .toContain('`inturn resume "whose?"`')
    expect(line.emulator.stats.runsStarted).toBe(0)
  })

  test('that never began is started once the thread is seen to be free', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { callTimeoutMs: 300, settleMs: 300 })
    line.emulator.setFaults([{ name: 'reset_before_commit', on: 'responses.create', times: 1 }])
    const row = await line.do('never began', 'add_message_and_run', {
      message: 'reply with exactly: once',
      ...who,
    })
    expect(row).toMatchObject({ status: 'completed', failures: 1, result: { text: 'once' } })
    expect(line.emulator.stats).toMatchObject({ runsStarted: 1, conflicts: 0 })
    expect(await line.said('never began')).toHaveLength(2)
  })

  test('asked for outputs: they are given an error once, also after another crash', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses', {
      callTimeoutMs: 500,
      toolDeadlineMs: 1,
      onToolDeadline: 'cancel',
    })
    loseFirstStart(line)
    line.emulator.setFaults([
      { name: 'reset_after_commit', on: 'items.create', times: 1 },
      { name: 'server_error_before_commit', on: 'items.create', times: 1 },
    ])
    const parameters = { type: 'object', properties: {} }
    const row = await line.do('lost call', 'add_message_and_run', {
      message: 'Call get_weather.',
      ...who,
      tools: [{ type: 'function', name: 'get_weather', strict: false, parameters }],
    })
    expect(row).toMatchObject({ status: 'failed', error: { code: 'tool_deadline' } })
    expect(line.emulator.stats.runsStarted).toBe(1)
    const next = await line.do('lost call', 'add_message_and_run', { message: 'Hi', ...who })
    expect(next).toMatchObject({ status: 'completed', attempts: 1 })
  })
})

describe('a run whose id was lost', () => {
  test('and that no list shows yet is adopted where the provider names it', async ({ pool }) => {
    const { answer, model } = patientModel()
    const line = await startLine(pool, 'assistants', { callTimeoutMs: 200, emulator: { model } })
    await line.do('named', 'add_message', { message: 'reply with exactly: once' })
    line.emulator.setFaults([{ name: 'read_lag', on: 'runs.list', ms: 3_600_000 }])
    loseFirstStart(line)
    const id = await line.insert('named', 'create_run', who)
    await expect.poll(async () => (await line.row(id)).progress?.run_id).toBeTruthy()
    answer()
    expect(await line.end(id)).toMatchObject({ status: 'completed', result: { text: 'once' } })
    expect(line.emulator.stats).toMatchObject({ runsStarted: 1, conflicts: 1 })
  })

  test('is found within the settle time, however long lists lag', async ({ pool }) => {
    const line = await startLine(pool, 'assistants', { callTimeoutMs: 200, settleMs: 1_500 })
    await line.do('lists lag', 'add_message', { message: 'reply with exactly: once' })
    line.emulator.setFaults([{ name: 'read_lag', on: 'runs.list', ms: 1_000 }])
    loseFirstStart(line)
    const row = await line.do('lists lag', 'create_run', who)
    expect(row).toMatchObject({ status: 'completed', result: { text: 'once' } })
    expect(line.emulator.stats).toMatchObject({ runsStarted: 1, conflicts: 0 })
  })
})
