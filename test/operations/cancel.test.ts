import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { asLine } from '../support/line.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, loseFirstAnswer, runsPath, startLine, who } from './line.ts'

const turn = (answer: string) => ({ message: `reply with exactly: ${answer}`, ...who })

/** Inserts a cancel_run and gives it time to be heard: the dispatcher looks now. */
async function cancel(line: Line, thread: string, data: object = {}): Promise<number> {
  const id = await line.insert(thread, 'cancel_run', data)
  line.dispatcher.wakeBeside()
  return id
}

/** The operation's run has told its id. */
const running = (line: Line, id: number) =>
  waitFor(async () => (await line.row(id)).progress?.run_id, { message: `${id} has a run` })

const statuses = (line: Line) => line.emulator.runs().map(({ status }) => status)

describe.each(['responses', 'assistants'] as const)('a cancel_run on "%s"', (name) => {
  const creating = name === 'responses' ? 'responses.create' : 'runs.create'
  const cancelling = name === 'responses' ? 'responses.cancel' : 'runs.cancel'
  const begin = async (line: Line, thread: string) => {
    const id = await line.insert(thread, 'add_message_and_run', turn('never'))
    await running(line, id)
    return id
  }

  test.for(['stuck_queued', 'stuck_in_progress'] as const)(
    'ends the run that goes on (%s) and leaves the next one alone',
    async (fault, { pool }) => {
      const thread = `${name}:${fault}`
      const line = await startLine(pool, name)
      line.emulator.setFaults([{ name: fault, on: creating, times: 1 }])
      const id = await begin(line, thread)
      const next = await line.insert(thread, 'add_message_and_run', turn('next'))
      const asked = await cancel(line, thread, { reason: 'stop button' })
      const row = await line.end(id)
      expect(row).toMatchObject({
        status: 'cancelled',
        attempts: 1,
        failures: 0,
        error: {
          code: 'cancelled',
          message: `Cancelled by operation ${asked}: stop button`,
          operation_id: asked,
        },
        result: { run: { id: row.progress.run_id, status: 'cancelled' } },
      })
      expect(await line.row(asked)).toMatchObject({
        status: 'completed',
        turn: null,
        result: { outcome: 'cancelled', operation_id: id },
      })
      expect(await line.end(next)).toMatchObject({ status: 'completed', result: { text: 'next' } })
      expect(statuses(line)).toEqual(['cancelled', 'completed'])
      expect(line.emulator.stats.conflicts).toBe(0)
      expect(await line.ledger(id)).toMatchObject([
        { to_status: 'cancelled', code: 'cancelled', detail: { operation_id: asked } },
      ])
    },
  )

  test('that comes too late leaves the answer, and says so', async ({ pool }) => {
    const thread = `${name}:faster`
    const line = await startLine(pool, name)
    line.emulator.setFaults([
      { name: 'stuck_in_progress', on: creating, ms: 300, times: 1 },
      { name: 'cancel_completes', on: cancelling },
    ])
    const id = await begin(line, thread)
    const asked = await cancel(line, thread)
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      error: null,
      result: { text: 'never', run: { status: 'completed' } },
    })
    expect((await line.row(asked)).result).toEqual({ outcome: 'completed', operation_id: id })
    expect(line.emulator.stats).toMatchObject({ runsStarted: 1, conflicts: 0 })
  })

  test('finds nothing to do on a thread where nobody is served, and what comes next is served', async ({
    pool,
  }) => {
    const thread = `${name}:idle`
    const line = await startLine(pool, name)
    const nothing = { status: 'completed', result: { outcome: 'nothing_to_do' } }
    expect(await line.end(await cancel(line, thread))).toMatchObject(nothing)
    const first = await line.do(thread, 'add_message_and_run', turn('one'))
    expect(await line.end(await cancel(line, thread))).toMatchObject(nothing)
    const late = await cancel(line, thread, { operation_id: first.id })
    expect((await line.end(late)).result).toEqual({
      outcome: 'nothing_to_do',
      operation_id: first.id,
    })
    const before = await cancel(line, thread)
    const next = await line.do(thread, 'add_message_and_run', turn('two'))
    expect(next).toMatchObject({ status: 'completed', attempts: 1 })
    expect(await line.end(before)).toMatchObject(nothing)
    expect(statuses(line)).toEqual(['completed', 'completed'])
  })

  test('ten times at once ends one run, once', async ({ pool }) => {
    const thread = `${name}:ten`
    const line = await startLine(pool, name)
    line.emulator.setFaults([{ name: 'stuck_in_progress', on: creating, times: 1 }])
    const id = await begin(line, thread)
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation) select $1, 'cancel_run' from generate_series(1, 10) returning id`,
      [thread],
    )
    const asked: number[] = rows.map((row) => row.id)
    const next = await line.do(thread, 'add_message_and_run', turn('next'))
    expect(next.status).toBe('completed')
    for (const one of asked)
      expect((await line.end(one)).result).toEqual({ outcome: 'cancelled', operation_id: id })
    expect((await line.row(id)).error.operation_id).toBe(Math.min(...asked))
    expect(statuses(line)).toEqual(['cancelled', 'completed'])
    expect(line.sent('POST', /\/cancel$/)).toHaveLength(1)
  })

  test('ends a run whose tool calls nobody will answer, and the thread goes on', async ({
    pool,
  }) => {
    const thread = `${name}:tools`
    const described = { name: 'get_weather', parameters: { type: 'object', properties: {} } }
    const tools = [{ type: 'function', strict: false, ...described, function: described }]
    const line = await startLine(pool, name)
    line.emulator.setFaults([
      { name: 'stuck_in_progress', on: creating, ms: 300, times: 1 },
      { name: 'cancel_completes', on: cancelling },
    ])
    const id = await line.insert(thread, 'add_message_and_run', {
      message: 'Call get_weather.',
      ...who,
      tools,
    })
    await running(line, id)
    const asked = await cancel(line, thread)
    expect(await line.end(id)).toMatchObject({
      status: 'cancelled',
      error: { code: 'cancelled', operation_id: asked },
    })
    line.emulator.setFaults([])
    await line.secondIsOver(thread)
    const next = await line.do(thread, 'add_message_and_run', turn('next'))
    expect(next).toMatchObject({ status: 'completed', attempts: 1, result: { text: 'next' } })
    expect(line.emulator.stats).toMatchObject({ runsStarted: 2, conflicts: 0 })
  })

  test('ends the wait for a rate limit, and no run is started; a message that was added stays', async ({
    pool,
  }) => {
    const thread = `${name}:limited`
    const line = await startLine(pool, name)
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([{ name: 'rate_limit', on: creating, retryAfter: 600 }])
    const id = await line.insert(thread, 'add_message_and_run', turn('never'))
    await line.waiting(id, 'rate_limit_exceeded')
    const asked = await cancel(line, thread)
    const row = await line.end(id)
    expect(row).toMatchObject({ status: 'cancelled', error: { operation_id: asked } })
    const { message_id } = row.progress ?? {}
    expect(message_id !== undefined).toBe(name === 'assistants')
    expect(row.result).toEqual(
      message_id
        ? { message_id, provider_thread_id: (await line.thread(thread)).provider_thread_id }
        : null,
    )
    expect((await line.row(asked)).result).toEqual({ outcome: 'cancelled', operation_id: id })
    expect(line.emulator.stats.runsStarted).toBe(0)
  })

  test('ends the wait for a run of somebody else, which goes on', async ({ pool }) => {
    const thread = `${name}:foreign`
    const line = await startLine(pool, name)
    await line.do(thread, 'create_thread', {})
    const { provider_thread_id } = await line.thread(thread)
    const foreign = line.emulator.foreignRun(provider_thread_id, { ms: 60_000 })
    const id = await line.insert(thread, 'create_run', who)
    await waitFor(async () => (await line.row(id)).error?.foreign_run_id !== undefined)
    await cancel(line, thread)
    expect(await line.end(id)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
    expect(line.emulator.runs()).toMatchObject([{ id: foreign, endedAt: null }])
  })

  test('is heard by whoever comes next, where the run was started and its dispatcher is gone', async ({
    pool,
  }) => {
    const thread = `${name}:gone`
    const line = await startLine(pool, name)
    line.emulator.setFaults([{ name: 'stuck_in_progress', on: creating, times: 1 }])
    const id = await begin(line, thread)
    await asLine(pool, async (client) => {
      await client.query(
        `insert into thread_operations (thread_id, operation) values ($1, 'cancel_run')`,
        [thread],
      )
      await client.query(
        `update thread_operations set claimed_by = 'somebody else' where id = $1`,
        [id],
      )
    })
    expect(await line.end(id)).toMatchObject({ status: 'cancelled', attempts: 2 })
    expect(statuses(line)).toEqual(['cancelled'])
    expect(line.emulator.stats.conflicts).toBe(0)
  })

  test('looks for a run whose start was not answered, and has it brought to its end', async ({
    pool,
  }) => {
    const thread = `${name}:lost`
    const line = await startLine(pool, name, { callTimeoutMs: 400, settleMs: 100 })
    await line.do(thread, 'create_thread', {})
    loseFirstAnswer(line.relay, 'POST', runsPath)
    line.emulator.setFaults([{ name: 'stuck_in_progress', on: creating, ms: 1_500, times: 1 }])
    const id = await line.insert(thread, 'add_message_and_run', turn('found'))
    await waitFor(() => line.emulator.stats.runsStarted === 1)
    const asked = await cancel(line, thread)
    const row = await line.end(id)
    // Without its id it cannot be cancelled, so its answer is awaited.
    const ends = name === 'responses' ? 'completed' : 'cancelled'
    expect(row).toMatchObject({ status: ends, result: { run: { status: ends } } })
    expect((await line.row(asked)).result).toEqual({ outcome: ends, operation_id: id })
    expect(statuses(line)).toEqual([ends])
    expect(line.emulator.conflicts().filter(({ probe }) => !probe)).toEqual([])
  })

  test('starts no run where a start was not answered and took no effect', async ({ pool }) => {
    const thread = `${name}:nothing`
    const line = await startLine(pool, name, {
      callTimeoutMs: 300,
      settleMs: 100,
      holdUnknown: ['add_message_and_run'],
    })
    await line.do(thread, 'create_thread', {})
    line.emulator.setFaults([{ name: 'reset_before_commit', on: creating, times: 1 }])
    const id = await line.insert(thread, 'add_message_and_run', turn('never'))
    await line.waiting(id, 'outcome_unknown')
    await cancel(line, thread)
    expect(await line.end(id)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
    expect(line.emulator.stats.runsStarted).toBe(0)
  })

  test('is no end for ever: what is sent back has its message once and a run of its own', async ({
    pool,
  }) => {
    const thread = `${name}:sent back`
    const line = await startLine(pool, name)
    line.emulator.setFaults([{ name: 'stuck_in_progress', on: creating, times: 1 }])
    const id = await begin(line, thread)
    await cancel(line, thread)
    await line.end(id)
    await pool.query(`select retry_operation($1, 'head')`, [id])
    expect(await line.end(id)).toMatchObject({ status: 'completed', result: { text: 'never' } })
    expect(await line.said(thread)).toEqual(['user: reply with exactly: never', 'assistant: never'])
    expect(statuses(line)).toEqual(['cancelled', 'completed'])
  })

  test('names the operation that interrupts', async ({ pool }) => {
    const thread = `${name}:interrupt`
    const line = await startLine(pool, name)
    line.emulator.setFaults([{ name: 'stuck_in_progress', on: creating, times: 1 }])
    const id = await begin(line, thread)
    const next = await line.insert(thread, 'add_message_and_run', turn('next'))
    await cancel(line, thread, { operation_id: id, interrupted_by: next })
    expect(await line.end(id)).toMatchObject({
      status: 'cancelled',
      error: {
        code: 'interrupted',
        message: `Interrupted by operation ${next}.`,
        operation_id: next,
      },
    })
    expect(await line.end(next)).toMatchObject({ status: 'completed' })
  })

  test('of a message that is being added waits for it: what was sent is told', async ({ pool }) => {
    const thread = `${name}:message`
    const line = await startLine(pool, name, { callTimeoutMs: 400, settleMs: 100 })
    await line.do(thread, 'create_thread', {})
    loseFirstAnswer(line.relay, 'POST', /\/(messages|items)(\?|$)/)
    const id = await line.insert(thread, 'add_message', { message: 'Hi' })
    await waitFor(() => line.sent('POST', /\/(messages|items)(\?|$)/).length === 1)
    const asked = await cancel(line, thread, { operation_id: id })
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      result: { message_id: expect.any(String) },
    })
    expect((await line.row(asked)).result).toEqual({ outcome: 'completed', operation_id: id })
    expect(await line.said(thread)).toEqual(['user: Hi'])
  })
})

test('a response that says it is cancelled, and completes later, is completed', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses')
  line.emulator.setFaults([
    { name: 'stuck_in_progress', on: 'responses.create', ms: 900, times: 1 },
    { name: 'cancel_completes', shows: 'cancelled' },
  ])
  const id = await line.insert('cancelled?', 'add_message_and_run', turn('late'))
  await running(line, id)
  const next = await line.insert('cancelled?', 'add_message_and_run', turn('next'))
  const asked = await cancel(line, 'cancelled?')
  const told = await line.waiting(id, 'cancelling')
  expect(told.error).toMatchObject({ operation_id: asked, call: 'cancel_run' })
  expect(await line.end(id)).toMatchObject({ status: 'completed', result: { text: 'late' } })
  expect((await line.row(asked)).result.outcome).toBe('completed')
  expect(await line.end(next)).toMatchObject({ status: 'completed', attempts: 1 })
  expect(statuses(line)).toEqual(['completed', 'completed'])
  // It was asked whether the conversation is free; nobody else met its lock.
  expect(line.emulator.conflicts().filter(({ probe }) => !probe)).toEqual([])
})

test('a run that does not end is awaited without a slot, then held until an operator gives it up', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', { runTimeoutMs: 600, callTimeoutMs: 200 })
  line.emulator.setFaults([
    { name: 'stuck_in_progress', on: 'runs.create', times: 1 },
    { name: 'stuck_cancelling' },
  ])
  const id = await line.insert('stuck', 'add_message_and_run', turn('never'))
  await running(line, id)
  const asked = await cancel(line, 'stuck')
  await line.waiting(id, 'cancelling')
  await expect(
    pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id]),
  ).rejects.toMatchObject({
    constraint: 'what_is_under_way_is_ended_first',
    hint: expect.stringContaining(`'cancel_run', '{"operation_id": ${id}}'`),
  })
  const held = await line.waiting(id, 'run_stuck')
  expect(held.error).toMatchObject({
    operation_id: asked,
    message: expect.stringContaining(`cancelling operation ${id} gives it up`),
  })
  expect((await line.row(asked)).status).toBe('pending')
  const { attempts } = held
  line.dispatcher.wakeBeside()
  await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
  line.dispatcher.wakeBeside()
  expect((await line.end(asked)).result).toEqual({ outcome: 'cancelled', operation_id: id })
  expect((await line.row(id)).attempts).toBe(attempts)
})

test('a conversation that stays locked for a while is awaited before the next is served', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses')
  line.emulator.setFaults([
    { name: 'stuck_in_progress', on: 'responses.create', times: 1 },
    { name: 'lock_lingers', ms: 300, times: 1 },
  ])
  const id = await line.insert('lingers', 'add_message_and_run', turn('never'))
  await running(line, id)
  const next = await line.insert('lingers', 'add_message_and_run', turn('next'))
  await cancel(line, 'lingers')
  expect(await line.end(id)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
  expect(await line.end(next)).toMatchObject({ status: 'completed', attempts: 1, error: null })
  expect(line.emulator.conflicts().filter(({ probe }) => !probe)).toEqual([])
})

test('what the assistant has said by then is kept where the provider keeps it', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', {
    emulator: { latency: { queuedMs: 0, thinkMs: 0, perTokenMs: 50 } },
  })
  const words = Array.from({ length: 40 }, (_, i) => `word${i}`).join(' ')
  const id = await line.insert('partial', 'add_message_and_run', turn(words))
  const { provider_thread_id } = await waitFor(async () => {
    const thread = await line.thread('partial')
    return thread?.provider_thread_id && thread
  })
  await waitFor(() => line.emulator.history(provider_thread_id).length === 2)
  await waitFor(() => line.emulator.history(provider_thread_id)[1]?.text.includes('word3'))
  await cancel(line, 'partial')
  const row = await line.end(id)
  expect(row.status).toBe('cancelled')
  expect(row.result.text).toMatch(/^word0 word1 word2 word3/)
  expect(words).toContain(row.result.text)
  expect(row.result.text.length).toBeLessThan(words.length)
})
