import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { asLine } from '../support/line.ts'
import { loseFirstAnswer, messagesPath, runsPath, startLine, who } from './line.ts'

type Wish = { if_busy?: string; debounce_ms?: number; debounce_max_ms?: number }
type Said = Wish & { operation?: string; message?: string; answer?: string }

/** Puts operations into the line of a thread at once, as one statement, each with a message of its own. */
async function say(database: pg.Pool | pg.ClientBase, thread: string, rows: Said[]) {
  const sent = rows.map(({ operation = 'add_message_and_run', message, answer, ...wish }) => {
    const run = { instructions: `reply with exactly: ${answer}`, ...who }
    const data = { ...(message && { message }), ...(operation === 'add_message' ? {} : run) }
    return { operation, data, ...wish }
  })
  const { rows: inserted } = await database.query(
    `insert into thread_operations (thread_id, operation, data, if_busy, debounce_ms, debounce_max_ms)
     select $1, operation, data, if_busy, debounce_ms, debounce_max_ms
       from jsonb_to_recordset($2) as s (operation text, data jsonb, if_busy text, debounce_ms integer, debounce_max_ms integer)
     returning id`,
    [thread, JSON.stringify(sent)],
  )
  return inserted.map(({ id }) => id as number)
}

const three = (answer = 'all of you'): Said[] => [
  { operation: 'add_message', message: 'one' },
  { message: 'two', answer: 'two alone' },
  { message: 'three', answer, if_busy: 'merge' },
]
const together = ['user: one', 'user: two', 'user: three', 'assistant: all of you']

describe.each(['responses', 'assistants'] as const)('a run that merges, on "%s"', (name) => {
  test('sends all messages in their order, each once, and answers them', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:merge`
    const [one, two, last] = (await say(pool, thread, three())) as [number, number, number]
    const row = await line.end(last)
    expect(row).toMatchObject({
      status: 'completed',
      turn: 1,
      result: { text: 'all of you', merged: [one, two] },
    })
    for (const id of [one, two])
      expect(await line.end(id)).toMatchObject({
        status: 'cancelled',
        turn: null,
        error: { code: 'merged', operation_id: last },
      })
    expect(await line.said(thread)).toEqual(together)
    expect(line.emulator.stats.runsStarted).toBe(1)
    expect(line.sent('POST', messagesPath)).toHaveLength(name === 'responses' ? 0 : 3)
    await expectHealthy(pool, { threadId: thread })
  })

  test('may be one without a message of its own', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:create_run`
    const rows = [
      ...three().slice(0, 2),
      { operation: 'create_run', if_busy: 'merge', answer: 'both' },
    ]
    const last = (await say(pool, thread, rows))[2] as number
    expect(await line.end(last)).toMatchObject({ status: 'completed', result: { text: 'both' } })
    expect(await line.said(thread)).toEqual(['user: one', 'user: two', 'assistant: both'])
  })

  test('adds no message again where the answer of any call is lost', async ({ pool }) => {
    for (const nth of [1, 2, 3, 4]) {
      const line = await startLine(pool, name)
      let seen = 0
      line.relay.loseFrom = ({ method, path }) =>
        method === 'POST' && (messagesPath.test(path) || runsPath.test(path)) && ++seen === nth
          ? ''
          : undefined
      const thread = `${name}:lost ${nth}`
      const last = (await say(pool, thread, three()))[2] as number
      expect(await line.end(last)).toMatchObject({ status: 'completed' })
      expect(await line.said(thread)).toEqual(together)
      await line.dispatcher.stop()
    }
  })

  test('does not take equal messages for its own', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:equal`
    await line.do(thread, 'add_message', { message: 'ok' })
    loseFirstAnswer(line.relay, 'POST', runsPath)
    const same = { message: 'ok', answer: 'yes' }
    const ids = await say(pool, thread, [same, same, { ...same, if_busy: 'merge' }])
    expect(await line.end(ids[2] as number)).toMatchObject({ result: { text: 'yes' } })
    expect(await line.said(thread)).toEqual([...Array(4).fill('user: ok'), 'assistant: yes'])
    expect(line.emulator.stats.runsStarted).toBe(1)
  })

  test('starts another run where the first fails, and adds nothing again', async ({ pool }) => {
    const failures = [{ code: 'server_error', message: 'Oops.' } as const]
    const line = await startLine(pool, name, { emulator: { failRun: () => failures.shift() } })
    const thread = `${name}:fails`
    const last = (await say(pool, thread, three()))[2] as number
    expect(await line.end(last)).toMatchObject({ status: 'completed', failures: 1 })
    expect(await line.said(thread)).toEqual(together)
  })

  test('that failed and is sent back brings along what it had merged', async ({ pool }) => {
    const failures = [{ code: 'invalid_prompt', message: 'No.' } as const]
    const line = await startLine(pool, name, { emulator: { failRun: () => failures.shift() } })
    const thread = `${name}:sent back`
    const last = (await say(pool, thread, three()))[2] as number
    expect(await line.end(last)).toMatchObject({ status: 'failed' })
    await pool.query(`select retry_operation($1, 'head')`, [last])
    expect(await line.end(last)).toMatchObject({ status: 'completed', turn: 2 })
    expect(await line.said(thread)).toEqual(together)
  })

  test('fails where what it merged was deleted past the triggers', async ({ pool }) => {
    const thread = `${name}:deleted`
    const [one, , last] = await say(pool, thread, three())
    await asLine(pool, (client) => client.query('select arrange_line($1)', [thread]))
    await asLine(pool, async (client) => {
      await client.query('set local session_replication_role = replica')
      await client.query('delete from thread_operations where id = $1', [one])
    })
    const line = await startLine(pool, name)
    expect(await line.end(last as number)).toMatchObject({
      status: 'failed',
      error: { code: 'merged_operation_missing' },
    })
  })
})

describe('of a burst from ten connections at once', () => {
  const burst = async (pool: pg.Pool, thread: string, wish: Wish) => {
    const clients = await Promise.all(Array.from({ length: 10 }, () => pool.connect()))
    const inserted = clients.map(async (client, i) => {
      const rows = [{ message: `message ${i}`, answer: 'once', ...wish }]
      return say(client, thread, rows).finally(() => client.release())
    })
    return (await Promise.all(inserted)).flat().sort((a, b) => a - b)
  }
  const saidBy = async (pool: pg.Pool, ids: number[]) =>
    (
      await pool.query(
        `select 'user: ' || (data ->> 'message') as text from thread_operations where id = any ($1) order by id`,
        [ids],
      )
    ).rows.map(({ text }) => text)

  test.for(['responses', 'assistants'] as const)(
    'merge and a pause make one run with all messages in the order of the line (%s)',
    async (name, { pool }) => {
      const line = await startLine(pool, name)
      const thread = `${name}:burst`
      const ids = await burst(pool, thread, { if_busy: 'merge', debounce_ms: 300 })
      const last = await line.end(ids.at(-1) as number)
      expect(last).toMatchObject({ status: 'completed', result: { merged: ids.slice(0, -1) } })
      expect(await line.said(thread)).toEqual([...(await saidBy(pool, ids)), 'assistant: once'])
      expect(line.emulator.stats.runsStarted).toBe(1)
      for (const id of ids.slice(0, -1))
        expect((await line.end(id)).error).toMatchObject({ code: 'merged', operation_id: last.id })
      await expectHealthy(pool, { threadId: thread })
    },
  )

  test('latest and a pause leave one run', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const ids = await burst(pool, 'latest', { if_busy: 'latest', debounce_ms: 300 })
    const last = ids.at(-1) as number
    expect(await line.end(last)).toMatchObject({ status: 'completed' })
    for (const id of ids.slice(0, -1))
      expect((await line.end(id)).error).toMatchObject({ code: 'superseded', operation_id: last })
    expect(await line.said('latest')).toEqual([...(await saidBy(pool, [last])), 'assistant: once'])
    await expectHealthy(pool, { threadId: 'latest' })
  })

  test('reject leaves one, and the others say who was in their way', async ({ pool }) => {
    const answer = Promise.withResolvers<void>()
    const model = async () => {
      await answer.promise
      return { text: 'once' }
    }
    const line = await startLine(pool, 'responses', { emulator: { model } })
    const ids = await burst(pool, 'reject', { if_busy: 'reject' })
    answer.resolve()
    const ends = await Promise.all(ids.map((id) => line.end(id)))
    const served = ends.filter(({ status }) => status === 'completed')
    expect(served).toHaveLength(1)
    for (const row of ends.filter((row) => row !== served[0]))
      expect(row).toMatchObject({ status: 'failed', turn: null, error: { code: 'thread_busy' } })
    expect(await line.said('reject')).toEqual([
      ...(await saidBy(pool, [Number(served[0]?.id)])),
      'assistant: once',
    ])
    await expectHealthy(pool, { threadId: 'reject' })
  })
})
