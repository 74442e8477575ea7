import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { z } from 'zod'
import { defaultModel, type RunFailure } from '../../src/emulator/index.ts'
import { defineTools, ToolError, tool } from '../../src/model/tool.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { asLine } from '../support/line.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, type LineOptions, startLine, who } from './line.ts'
import { client, readAll, story, textOf } from './reading.ts'

const described = (name: string) => ({
  name,
  parameters: { type: 'object', properties: { city: { type: 'string' } } },
})
const functions = (...names: string[]) => ({
  responses: names.map((name) => ({ type: 'function', strict: false, ...described(name) })),
  assistants: names.map((name) => ({ type: 'function', function: described(name) })),
})

/** What asks for the weather, and where a second function is named for both in parallel. */
const asking = (name: 'responses' | 'assistants', ...names: string[]) => ({
  message: `Call ${names.join(' and ')}.`,
  ...who,
  tools: functions(...names)[name],
})

const openCalls = async (pool: pg.Pool, thread: string) =>
  (
    await pool.query(
      'select * from tool_calls where output is null and thread_id = $1 order by created_at',
      [thread],
    )
  ).rows

const requiresAction = (line: Line, id: number) =>
  waitFor(
    async () => {
      const row = await line.row(id)
      return row.status === 'requires_action' && row
    },
    { message: `operation ${id} requires action` },
  )

const submit = (line: Line, thread: string, ...outputs: unknown[]) =>
  line.insert(thread, 'submit_tool_outputs', { outputs })

/** The deadline of an operation passes. */
const passDeadline = (pool: pg.Pool, id: number) =>
  asLine(pool, async (client) => {
    await client.query(`update tool_calls set deadline = now() where operation_id = $1`, [id])
    await client.query(`update thread_operations set ready_at = now() where id = $1`, [id])
  })

/** The run as the provider shows it. */
const readRun = async (line: Line, threadId: string, id: string) => {
  const path = id.startsWith('run_') ? `/threads/${threadId}/runs/${id}` : `/responses/${id}`
  const headers = { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' }
  return (await (await fetch(`${line.emulator.url}${path}`, { headers })).json()) as {
    usage: { total_tokens: number }
  }
}

describe.each(['responses', 'assistants'] as const)('a run of "%s" that calls tools', (name) => {
  const start = (pool: pg.Pool, options: LineOptions = {}) => startLine(pool, name, options)

  test('waits with its calls in SQL, keeps its thread, and goes on with the outputs', async ({
    pool,
  }) => {
    const line = await start(pool)
    const thread = `${name}:submitted`
    const id = await line.insert(thread, 'add_message_and_run', asking(name, 'get_weather'))
    const next = await line.insert(thread, 'add_message', { message: 'and then' })
    const row = await requiresAction(line, id)
    expect(row).toMatchObject({
      attempts: 1,
      claimed_by: null,
      result: { run: { id: row.progress.run_id, status: 'requires_action' } },
    })
    const [call] = await openCalls(pool, thread)
    expect(call).toMatchObject({
      operation_id: id,
      round: 1,
      type: 'function_call',
      name: 'get_weather',
      arguments: expect.stringMatching(/^\{/),
      attempts: 0,
    })
    expect((await line.row(next)).status).toBe('pending')

    const submitted = await submit(line, thread, { call_id: call.call_id, output: '21 degrees' })
    expect(await line.end(submitted)).toMatchObject({
      status: 'completed',
      result: { operation_id: id, call_ids: [call.call_id], missing: [] },
    })
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      attempts: 2,
      failures: 0,
      result: { run: { status: 'completed' }, text: 'According to get_weather: 21 degrees' },
    })
    await line.end(next)
    expect(await line.said(thread)).toEqual([
      'user: Call get_weather.',
      'assistant: According to get_weather: 21 degrees',
      'user: and then',
    ])
    expect(line.emulator.stats.conflicts).toBe(0)
    await expectHealthy(pool)
  })

  test('is answered one by one, and goes on with the last', async ({ pool }) => {
    const line = await start(pool)
    const thread = `${name}:one by one`
    const id = await line.insert(
      thread,
      'add_message_and_run',
      asking(name, 'get_weather', 'get_time'),
    )
    await requiresAction(line, id)
    const [first, second] = await openCalls(pool, thread)
    expect([first.name, second.name]).toEqual(['get_weather', 'get_time'])
    expect(
      await line.end(await submit(line, thread, { call_id: second.call_id, output: 'noon' })),
    ).toMatchObject({
      status: 'completed',
      result: { call_ids: [second.call_id], missing: [first.call_id] },
    })
    expect((await line.row(id)).status).toBe('requires_action')
    await submit(line, thread, { call_id: first.call_id, output: 'rain' })
    const row = await line.end(id)
    expect(row.result.text).toBe('According to get_weather: rain\nAccording to get_time: noon')
    expect(row.attempts).toBe(2)
  })

  test('is answered by the tools of a dispatcher, for which nobody holds a slot', async ({
    pool,
  }) => {
    const told: unknown[] = []
    const tools = defineTools({
      get_weather: tool({
        arguments: z.object({ city: z.string() }),
        run({ city }, { callId, attempt, operationId, threadId }) {
          told.push({ city, callId, attempt, operationId, threadId })
          return { degrees: 21 }
        },
      }),
    })
    const line = await start(pool, { tools })
    const thread = `${name}:tools`
    const row = await line.do(thread, 'add_message_and_run', {
      ...asking(name, 'get_weather'),
      message: 'Call get_weather for Oslo.',
    })
    expect(row).toMatchObject({
      status: 'completed',
      result: { text: 'According to get_weather: {"degrees":21}' },
    })
    const { rows } = await pool.query('select * from tool_calls where operation_id = $1', [row.id])
    expect(rows).toMatchObject([
      { attempts: 1, output: '{"degrees":21}', is_error: false, answered_by: line.dispatcher.id },
    ])
    expect(told).toEqual([
      { city: 'Oslo', callId: rows[0].call_id, attempt: 1, operationId: row.id, threadId: thread },
    ])
  })

  test('may ask again, and tells the usage of the whole turn', async ({ pool }) => {
    const rounds = ['first', 'second']
    const line = await start(pool, {
      tools: defineTools({ get_weather: tool({ arguments: z.object({}), run: () => 'rain' }) }),
      emulator: {
        model: () =>
          rounds.shift()
            ? { toolCalls: [{ name: 'get_weather', arguments: '{}' }] }
            : { text: 'It rains.' },
      },
    })
    const row = await line.do(`${name}:rounds`, 'add_message_and_run', asking(name, 'get_weather'))
    expect(row).toMatchObject({ status: 'completed', attempts: 3, result: { text: 'It rains.' } })
    const { rows } = await pool.query(
      'select round, output from tool_calls where operation_id = $1 order by created_at',
      [row.id],
    )
    expect(rows).toEqual([
      { round: 1, output: 'rain' },
      { round: 2, output: 'rain' },
    ])
    const runs = line.emulator.runs((await line.thread(`${name}:rounds`)).provider_thread_id)
    expect(runs).toHaveLength(name === 'responses' ? 3 : 1)
    const shown = await Promise.all(
      runs.map(({ id }) => readRun(line, runs[0]?.threadId ?? '', id)),
    )
    const sum = shown.reduce((total, { usage }) => total + usage.total_tokens, 0)
    expect(row.result.usage.total_tokens).toBe(sum)
    expect(sum).toBeGreaterThan(0)
  })

  test('tells both of its runs and the call between in one stream', async ({ pool }) => {
    const line = await start(pool, {
      streams: true,
      tools: defineTools({ get_weather: tool({ arguments: z.object({}), run: () => 'rain' }) }),
    })
    const thread = `${name}:stream`
    const { id, result } = await line.do(thread, 'add_message_and_run', asking(name, 'get_weather'))
    const events = await readAll(client(pool), id)
    const asked = ['run_started', 'tool_call', 'run_ended']
    const another = name === 'responses' ? ['run_started'] : []
    expect(story(events)).toEqual([...asked, ...another, 'text', 'run_ended', 'ended'])
    expect(textOf(events)).toBe(result.text)
    expect(events.filter(({ type }) => type === 'run_ended')).toMatchObject([
      { status: 'requires_action' },
      { status: 'completed' },
    ])
  })

  test('is told what went wrong in a tool, and no more', async ({ pool }) => {
    const line = await start(pool, {
      tools: defineTools({
        get_weather: tool({
          arguments: z.object({ town: z.string() }),
          run: () => 'never',
        }),
        get_time: tool({
          arguments: z.object({}),
          run() {
            throw new Error('password hunter2 was refused')
          },
        }),
        get_price: tool({
          arguments: z.object({}),
          run() {
            throw new ToolError('There is no such product.')
          },
        }),
        get_mail: tool({
          arguments: z.object({}),
          timeoutMs: 20,
          run: () => new Promise(() => {}),
        }),
      }),
    })
    const thread = `${name}:errors`
    const names = ['get_weather', 'get_time', 'get_price', 'get_mail']
    const row = await line.do(thread, 'add_message_and_run', asking(name, ...names))
    expect(row.status).toBe('completed')
    const { rows } = await pool.query(
      'select name, output, is_error from tool_calls where operation_id = $1 order by created_at',
      [row.id],
    )
    expect(rows).toEqual([
      { name: 'get_weather', output: expect.stringContaining('town'), is_error: true },
      { name: 'get_time', output: '{"error":"The tool failed."}', is_error: true },
      { name: 'get_price', output: '{"error":"There is no such product."}', is_error: true },
      { name: 'get_mail', output: '{"error":"The tool took longer than 20 ms."}', is_error: true },
    ])
    for (const { output } of rows) expect(row.result.text).toContain(output)
    expect(JSON.stringify(line.log)).not.toContain('hunter2')
  })

  test('has what is missing at the deadline answered with an error', async ({ pool }) => {
    const line = await start(pool)
    const thread = `${name}:deadline`
    const data = { ...asking(name, 'get_weather', 'get_time'), tool_deadline_ms: 600_000 }
    const id = await line.insert(thread, 'add_message_and_run', data)
    await requiresAction(line, id)
    const [first] = await openCalls(pool, thread)
    await line.end(await submit(line, thread, { call_id: first.call_id, output: 'rain' }))
    await passDeadline(pool, id)
    const row = await line.end(id)
    expect(row).toMatchObject({ status: 'completed', failures: 0 })
    expect(row.result.text).toMatch(/get_weather: rain\n.*get_time: .*No output was given in time/)
    await expectHealthy(pool)
  })

  test('is ended at the deadline where its operation says so, and leaves the thread usable', async ({
    pool,
  }) => {
    const line = await start(pool)
    const thread = `${name}:ended`
    const row = await line.do(thread, 'add_message_and_run', {
      ...asking(name, 'get_weather'),
      tool_deadline_ms: 50,
      on_tool_deadline: 'cancel',
    })
    expect(row).toMatchObject({
      status: 'failed',
      error: { code: 'tool_deadline' },
      result: { run: { status: 'requires_action' } },
    })
    expect(await openCalls(pool, thread)).toEqual([])
    const next = await line.do(thread, 'add_message_and_run', {
      message: 'reply with exactly: free',
      ...who,
    })
    expect(next).toMatchObject({ status: 'completed', failures: 0, result: { text: 'free' } })
    expect(line.emulator.stats.conflicts).toBe(0)
    await expectHealthy(pool)
  })

  test('is ended where somebody wants its operation cancelled, and keeps what was given', async ({
    pool,
  }) => {
    const line = await start(pool)
    const thread = `${name}:cancelled`
    const id = await line.insert(
      thread,
      'add_message_and_run',
      asking(name, 'get_weather', 'get_time'),
    )
    await requiresAction(line, id)
    const [first] = await openCalls(pool, thread)
    await line.end(await submit(line, thread, { call_id: first.call_id, output: 'rain' }))
    const cancel = await line.insert(thread, 'cancel_run', { reason: 'no longer needed' })
    expect(await line.end(cancel)).toMatchObject({ result: { outcome: 'cancelled' } })
    expect(await line.end(id)).toMatchObject({
      status: 'cancelled',
      error: { operation_id: cancel, message: expect.stringContaining('no longer needed') },
    })
    expect(await openCalls(pool, thread)).toEqual([])
    const next = await line.do(thread, 'add_message_and_run', {
      message: 'reply with exactly: free',
      ...who,
    })
    expect(next).toMatchObject({ status: 'completed', failures: 0 })
    expect(line.emulator.stats.conflicts).toBe(0)
  })

  test('is ended while it goes on, with no call left open', async ({ pool }) => {
    const answer = Promise.withResolvers<void>()
    const line = await start(pool, {
      emulator: {
        model: async (request) => {
          if (request.history.some(({ role }) => role === 'tool_output')) await answer.promise
          return defaultModel(request)
        },
      },
    })
    onTestFinished(() => answer.resolve())
    const thread = `${name}:cancelled later`
    const id = await line.insert(thread, 'add_message_and_run', asking(name, 'get_weather'))
    await requiresAction(line, id)
    const [call] = await openCalls(pool, thread)
    await submit(line, thread, { call_id: call.call_id, output: 'rain' })
    await waitFor(async () => {
      const { progress, status } = await line.row(id)
      const isNamed = progress.run_id !== progress.asked.run_id || progress.asked.taken
      return status === 'processing' && isNamed
    })
    const cancel = await line.insert(thread, 'cancel_run', {})
    expect(await line.end(cancel)).toMatchObject({ result: { outcome: 'cancelled' } })
    expect(await line.end(id)).toMatchObject({
      status: 'cancelled',
      error: { code: 'cancelled', operation_id: cancel },
      result: { run: { status: 'cancelled' } },
    })
    answer.resolve()
    const next = await line.do(thread, 'add_message_and_run', {
      message: 'reply with exactly: free',
      ...who,
    })
    expect(next).toMatchObject({ status: 'completed', failures: 0, result: { text: 'free' } })
    expect(line.emulator.stats.conflicts).toBe(0)
    await expectHealthy(pool)
  })

  test('sends no output twice, whatever answer is lost', async ({ pool }) => {
    const line = await start(pool, { callTimeoutMs: 300, settleMs: 100 })
    const on = name === 'responses' ? 'responses.create' : 'runs.submit_tool_outputs'
    const faults = [
      'reset_before_commit',
      'reset_after_commit',
      'server_error_after_commit',
    ] as const
    for (const fault of faults) {
      const thread = `${name}:${fault}`
      const id = await line.insert(thread, 'add_message_and_run', asking(name, 'get_weather'))
      await requiresAction(line, id)
      line.emulator.setFaults([{ name: fault, on, times: 1 }])
      const [call] = await openCalls(pool, thread)
      await submit(line, thread, { call_id: call.call_id, output: 'rain' })
      expect(await line.end(id)).toMatchObject({
        status: 'completed',
        result: { text: 'According to get_weather: rain' },
      })
      expect(line.emulator.faults.faults).toMatchObject([{ fired: 1 }])
      expect(await line.said(thread)).toEqual([
        'user: Call get_weather.',
        'assistant: According to get_weather: rain',
      ])
      line.emulator.setFaults([])
    }
    expect(line.emulator.stats.conflicts).toBe(0)
  })

  test('leaves nothing open where its outputs are refused', async ({ pool }) => {
    let refused = 0
    const error = { message: 'No.', type: 'invalid_request_error', param: null, code: null }
    const line = await start(pool, {
      emulator: {
        onRequest: ({ method, path, body }) => {
          if (method !== 'POST' || !/output/.test(JSON.stringify(body)) || !sending.test(path))
            return undefined
          refused++
          return { status: 400, body: { error } }
        },
      },
    })
    const sending = name === 'responses' ? /\/responses$/ : /submit_tool_outputs$/
    const thread = `${name}:refused`
    const id = await line.insert(thread, 'add_message_and_run', asking(name, 'get_weather'))
    await requiresAction(line, id)
    const [call] = await openCalls(pool, thread)
    await submit(line, thread, { call_id: call.call_id, output: 'rain' })
    expect(await line.end(id)).toMatchObject({ status: 'failed', error: { provider_status: 400 } })
    expect(refused).toBe(1)
    const next = await line.do(thread, 'add_message_and_run', { message: 'Hi', ...who })
    expect(next).toMatchObject({ status: 'completed', failures: 0 })
    expect(line.emulator.stats.conflicts).toBe(0)
  })
})

describe('on Conversations', () => {
  test('a choice that forced the first call forces no other', async ({ pool }) => {
    const line = await startLine(pool, 'responses', {
      tools: defineTools({ get_weather: tool({ arguments: z.object({}), run: () => 'rain' }) }),
      emulator: {
        model: ({ toolChoice }) =>
          toolChoice === 'auto'
            ? { text: 'It rains.' }
            : { toolCalls: [{ name: 'get_weather', arguments: '{}' }] },
      },
    })
    for (const tool_choice of ['required', { type: 'function', name: 'get_weather' }] as const) {
      const data = { ...asking('responses', 'get_weather'), tool_choice }
      const row = await line.do(`forced ${typeof tool_choice}`, 'add_message_and_run', data)
      expect(row).toMatchObject({ status: 'completed', attempts: 2, result: { text: 'It rains.' } })
    }
  })

  test('a run that fails after it got the outputs is replaced, and no tool is run again', async ({
    pool,
  }) => {
    let ran = 0
    const failures: Array<RunFailure | null> = []
    const tools = defineTools({
      get_weather: tool({ arguments: z.object({}), run: () => `rain ${++ran}` }),
    })
    const line = await startLine(pool, 'responses', {
      tools,
      emulator: { failRun: () => failures.shift() },
    })
    for (const kept of [false, true]) {
      if (kept) line.emulator.setFaults([{ name: 'failed_input_stays' }])
      failures.push(null, { code: 'server_error', message: 'Sorry.' })
      ran = 0
      const row = await line.do(`kept: ${kept}`, 'add_message_and_run', {
        ...asking('responses', 'get_weather'),
      })
      expect(row).toMatchObject({
        status: 'completed',
        failures: 1,
        result: { text: 'According to get_weather: rain 1' },
      })
    }
    expect(line.emulator.stats.conflicts).toBe(0)
  })

  test('an assistant that is deleted while its tools work leaves no call open', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses')
    await pool.query(`insert into assistants (id, model) values ('asst_for_a_while', 'gpt-4o')`)
    const data = { ...asking('responses', 'get_weather'), assistant_id: 'asst_for_a_while' }
    const id = await line.insert('deleted', 'add_message_and_run', data)
    await requiresAction(line, id)
    await pool.query(`delete from assistants where id = 'asst_for_a_while'`)
    const [call] = await openCalls(pool, 'deleted')
    await submit(line, 'deleted', { call_id: call.call_id, output: 'rain' })
    expect(await line.end(id)).toMatchObject({
      status: 'failed',
      error: { code: 'assistant_not_found' },
    })
    const next = await line.do('deleted', 'add_message_and_run', { message: 'Hi', ...who })
    expect(next).toMatchObject({ status: 'completed', failures: 0 })
    // The output that was given is there, and no error in its place.
    const repairs = line.sent('POST', /\/items$/)
    expect(repairs.map(({ body }) => JSON.parse(body).items)).toMatchObject([[{ output: 'rain' }]])
  })
})

test('a response that was stopped for its length, and asks all the same, goes on with the outputs', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses', { runTimeoutMs: 200 })
  line.emulator.setFaults([
    { name: 'stuck_in_progress', ms: 500, times: 1 },
    { name: 'cancel_completes', times: 1 },
  ])
  const id = await line.insert('t', 'add_message_and_run', asking('responses', 'get_weather'))
  const { progress } = await requiresAction(line, id)
  expect(progress.stopping.run_id).toBe(progress.asked.run_id)
  line.emulator.setFaults([])
  const [call] = await openCalls(pool, 't')
  await submit(line, 't', { call_id: call.call_id, output: 'rain' })
  expect(await line.end(id)).toMatchObject({
    status: 'completed',
    attempts: 2,
    result: { text: 'According to get_weather: rain' },
  })
})

describe('on Assistants', () => {
  test('the tools get their time, however long the model has thought before it asked', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'assistants')
    line.emulator.setFaults([{ name: 'stuck_in_progress', ms: 600, times: 1 }])
    const data = { ...asking('assistants', 'get_weather'), tool_deadline_ms: 500 }
    const id = await line.insert('slow', 'add_message_and_run', data)
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      result: { text: expect.stringContaining('No output was given in time') },
    })
  })

  test('a run that expired before its outputs came fails, and is not replaced', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'assistants', { emulator: { runExpiresMs: 1_500 } })
    const id = await line.insert(
      'expired',
      'add_message_and_run',
      asking('assistants', 'get_weather'),
    )
    const { progress } = await requiresAction(line, id)
    const { provider_thread_id } = await line.thread('expired')
    await waitFor(() => line.emulator.runs(provider_thread_id)[0]?.status === 'expired')
    const [call] = await openCalls(pool, 'expired')
    await submit(line, 'expired', { call_id: call.call_id, output: 'rain' })
    expect(await line.end(id)).toMatchObject({
      status: 'failed',
      error: { code: 'run_expired', message: expect.stringContaining('retry_operation') },
      result: { run: { id: progress.run_id, status: 'expired' } },
    })
    expect(line.emulator.stats.runsStarted).toBe(1)
    await pool.query(`select retry_operation($1, 'head')`, [id])
    await requiresAction(line, id)
    const [again] = await openCalls(pool, 'expired')
    expect(again.round).toBe(2)
    await submit(line, 'expired', { call_id: again.call_id, output: 'sun' })
    line.dispatcher.wakeBeside()
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      result: { text: 'According to get_weather: sun' },
    })
  })

  test('a run that asks again behind its deadline is ended, so that it cannot ask for ever', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'assistants', {
      emulator: { model: () => ({ toolCalls: [{ name: 'get_weather', arguments: '{}' }] }) },
    })
    const data = { ...asking('assistants', 'get_weather'), tool_deadline_ms: 50 }
    const row = await line.do('for ever', 'add_message_and_run', data)
    expect(row).toMatchObject({ status: 'failed', error: { code: 'tool_deadline' } })
    expect(line.emulator.runs().map(({ status }) => status)).toEqual(['cancelled'])
  })
})
