import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { createPool } from '../../src/db/pool.ts'
import { Inturn, type StreamEvent } from '../../src/index.ts'
import { providerNames } from '../../src/model/thread.ts'
import { startLine, who } from '../operations/line.ts'
import { client, collect, Reader, readAll, story, textOf } from '../operations/reading.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf } from './rows.ts'

const sentence = 'one two three four five six seven eight nine ten'
const ask = { message: `reply with exactly: ${sentence}`, ...who }
const numbers = (events: readonly StreamEvent[]) => events.map(({ seq }) => seq)

/** An operation whose answer stops in the middle, until it is let go on. */
async function startHalf(pool: pg.Pool, options: { streamRetentionMs?: number } = {}) {
  const line = await startLine(pool, 'responses', {
    streams: true,
    callTimeoutMs: 30_000,
    ...options,
  })
  line.emulator.setFaults([{ name: 'answer_stalls', on: 'responses.create', event: 8 }])
  const id = await line.insert('half', 'add_message_and_run', ask)
  await new Reader((await client(pool).operation(id)).stream()).until('text')
  return { line, id, goOn: () => line.emulator.setFaults([]) }
}

describe('readers', () => {
  test('read the same, each from where it wants and at its own pace', async ({ pool }) => {
    const { id, goOn } = await startHalf(pool)
    const inturn = client(pool)
    const handle = await inturn.operation(id)
    // Has taken one event and does not come back before the end.
    const slow = await new Reader(handle.stream()).until('run_started')
    const live = readAll(inturn, id)
    const elsewhere = readAll(client(pool), id, { from: 2 })
    goOn()
    const whole = await live
    expect(textOf(whole)).toBe(sentence)
    expect((await elsewhere).map(({ seq, type }) => ({ seq, type }))).toEqual(
      whole.slice(1).map(({ seq, type }) => ({ seq, type })),
    )
    expect((await slow.until('ended')).events).toEqual(whole)
  })

  test('come back to any number, also one in the middle of what was written at once', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses', { streams: true })
    const { id } = await line.do('back', 'add_message_and_run', ask)
    const inturn = client(pool)
    const whole = await readAll(inturn, id)
    for (const from of numbers(whole)) {
      expect(await readAll(inturn, id, { from })).toEqual(whole.slice(from - 1))
    }
    const beyond = await readAll(inturn, id, { from: 100 })
    expect(story(beyond)).toEqual(['ended'])
  })

  test('read on when their connections were cut', async ({ pool, url }) => {
    const { id, goOn } = await startHalf(pool)
    const cut = new URL(url)
    cut.searchParams.set('application_name', 'to be cut')
    await using inturn = new Inturn({ databaseUrl: cut.href })
    const reader = await new Reader((await inturn.operation(id)).stream()).until('text')
    const rest = reader.until('ended')
    for (let times = 0; times < 3; times++) {
      await waitFor(async () => {
        const { rows } = await pool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'to be cut'`,
        )
        return rows.length > 0
      })
    }
    goOn()
    const { events } = await rest
    expect(textOf(events)).toBe(sentence)
    expect(numbers(events)).toEqual(events.map((_, i) => i + 1))
  })

  test('need a single connection, any number of them', async ({ pool, url }) => {
    const line = await startLine(pool, 'responses', { streams: true })
    const single = createPool(url, { max: 1 })
    onTestFinished(() => single.end())
    await using inturn = new Inturn({ pool: single })
    const handles = await inturn.enqueue(
      Array.from({ length: 20 }, (_, i) => ({
        thread: `thread ${i}`,
        operation: 'add_message_and_run' as const,
        data: { message: `reply with exactly: answer ${i}`, ...who },
      })),
    )
    const read = await Promise.all(handles.map((handle) => collect(handle.stream())))
    expect(read.map(textOf)).toEqual(handles.map((_, i) => `answer ${i}`))
    expect(line.emulator.runs()).toHaveLength(20)
  })

  test('leave when they are told to, and nothing looks for them any more', async ({ pool }) => {
    const { id, goOn } = await startHalf(pool)
    const inturn = client(pool)
    const leaving = new AbortController()
    const reading = readAll(inturn, id, { signal: leaving.signal })
    leaving.abort(new Error('I have seen enough.'))
    expect((await errorOf(reading)).message).toBe('I have seen enough.')
    const late = (await inturn.operation(id)).stream({ signal: leaving.signal })
    expect((await errorOf(new Reader(late).until('ended'))).message).toBe('I have seen enough.')
    goOn()
    expect(textOf(await readAll(inturn, id))).toBe(sentence)
  })

  test('are told when the client is closed', async ({ pool }) => {
    const { id, goOn } = await startHalf(pool)
    const inturn = new Inturn({ pool })
    const handle = await inturn.operation(id)
    const reader = await new Reader(handle.stream()).until('text')
    const waiting = errorOf(reader.until('ended'))
    await inturn.close()
    expect(await waiting).toMatchObject({ code: 'client_closed' })
    expect(await errorOf(new Reader(handle.stream()).until('ended'))).toMatchObject({
      code: 'client_closed',
    })
    goOn()
  })

  test.for([0, -1, 1.5, Number.NaN])('cannot begin at %d', async (from, { pool }) => {
    const inturn = client(pool)
    const handle = await inturn.thread('t').addMessage('Hi')
    expect(() => handle.stream({ from })).toThrow(
      expect.objectContaining({ code: 'from_invalid', hint: expect.stringContaining('from 1') }),
    )
  })
})

describe('every stream ends', () => {
  test('of an operation that has no run', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { streams: true })
    const { id } = await line.do('no run', 'add_message', { message: 'Hi' })
    const events = await readAll(client(pool), id)
    expect(events).toMatchObject([{ type: 'ended', status: 'completed', seq: 1 }])
  })

  test('of one that is cancelled while somebody waits for its first word', async ({ pool }) => {
    const inturn = client(pool)
    const handle = await inturn.thread('nobody serves it').addMessage('Hi')
    const reading = collect(handle.stream())
    await handle.cancel()
    expect(await reading).toMatchObject([{ type: 'ended', status: 'cancelled', seq: 1 }])
  })

  test('of one that failed', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { streams: true })
    line.emulator.setFaults([{ name: 'run_fails', on: 'responses.create', code: 'invalid_prompt' }])
    const { id } = await line.do('failed', 'add_message_and_run', ask)
    const events = await readAll(client(pool), id)
    expect(story(events)).toEqual(['run_started', 'run_ended', 'ended'])
    expect(events.at(-1)).toMatchObject({ status: 'failed' })
  })

  test.for(providerNames)(
    'of one whose run on %s was cancelled in the middle, with what it had said',
    async (provider, { pool }) => {
      const latency = { queuedMs: 0, thinkMs: 0, perTokenMs: 5 }
      const line = await startLine(pool, provider, { streams: true, emulator: { latency } })
      const data = { message: 'Write 10000 words about a queue.', ...who }
      const id = await line.insert('cancelled', 'add_message_and_run', data)
      const reader = await new Reader((await client(pool).operation(id)).stream()).until('text')
      const [run] = line.emulator.runs()
      const path =
        provider === 'responses'
          ? `responses/${run?.id}/cancel`
          : `threads/${run?.threadId}/runs/${run?.id}/cancel`
      const headers = { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' }
      const answer = await fetch(`${line.emulator.url}/${path}`, { method: 'POST', headers })
      expect(answer.status).toBe(200)
      const { events } = await reader.until('ended')
      expect(story(events)).toEqual(['run_started', 'text', 'run_ended', 'ended'])
      expect(textOf(events)).toMatch(/^It began quietly/)
      expect(events.slice(-2)).toMatchObject([{ status: 'cancelled' }, { status: 'cancelled' }])
      expect((await line.row(id)).result.text).toBe(textOf(events))
    },
  )

  test('of one whose dispatcher writes no streams', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { streams: false })
    const { id } = await line.do('off', 'add_message_and_run', ask)
    expect(story(await readAll(client(pool), id))).toEqual(['ended'])
    expect((await pool.query('select from operation_stream')).rowCount).toBe(0)
  })

  test('of one that was over for longer than streams are kept', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { streams: true, streamRetentionMs: 0 })
    const { id } = await line.do('expired', 'add_message_and_run', ask)
    await waitFor(async () => (await pool.query('select from operation_stream')).rowCount === 0, {
      message: 'the stream is deleted',
    })
    const events = await readAll(client(pool), id, { from: 3 })
    expect(events).toMatchObject([{ type: 'ended', status: 'completed', seq: 3 }])
  })

  test('but that of an operation which does not exist', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { streams: true })
    const inturn = client(pool)
    const { id } = await line.do('deleted', 'add_message', { message: 'Hi' })
    const handle = await inturn.operation(id)
    await pool.query('delete from thread_operations where id = $1', [id])
    expect(await errorOf(collect(handle.stream()))).toMatchObject({
      code: 'operation_not_found',
    })
  })
})
