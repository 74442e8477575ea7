import { describe, expect } from 'vitest'
import { providerNames } from '../../src/model/thread.ts'
import { test } from '../support/own-database.ts'
import { startLine, who } from './line.ts'
import { client, Reader, readAll, story, textOf } from './reading.ts'

const numbers = (events: ReadonlyArray<{ seq: number }>) => events.map(({ seq }) => seq)
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

/** A text that no two of its parts can be mistaken in. */
const sentence = 'one two three four five six seven eight nine ten'
const ask = (text = sentence) => ({ message: `reply with exactly: ${text}`, ...who })

describe.each(providerNames)('a stream of an operation on %s', (provider) => {
  /** The first event of a run's stream that carries text. */
  const firstText = provider === 'responses' ? 5 : 8

  test('tells the run, its text and its end; the text is that of the result', async ({ pool }) => {
    const line = await startLine(pool, provider, { streams: true })
    const { id, result } = await line.do('told', 'add_message_and_run', ask())
    const events = await readAll(client(pool), id)
    expect(story(events)).toEqual(['run_started', 'text', 'run_ended', 'ended'])
    expect(textOf(events)).toBe(result.text)
    expect(numbers(events)).toEqual(upTo(events.length))
    expect(events.at(-2)).toMatchObject({ run_id: result.run.id, status: 'completed' })
    expect(events.at(-1)).toMatchObject({ status: 'completed' })
    expect(events.every(({ at }) => at instanceof Date && !Number.isNaN(at.getTime()))).toBe(true)
  })

  test('shows text while the run goes on, and its rest where the connection breaks', async ({
    pool,
  }) => {
    const line = await startLine(pool, provider, { streams: true, callTimeoutMs: 30_000 })
    const begin = provider === 'responses' ? 'responses.create' : 'runs.create'
    line.emulator.setFaults([{ name: 'answer_stalls', on: begin, event: firstText + 3 }])
    const id = await line.insert('live', 'add_message_and_run', ask())
    const handle = await client(pool).operation(id)
    const reader = await new Reader(handle.stream()).until('text')
    expect(await handle.status()).toBe('processing')
    expect(sentence.startsWith(textOf(reader.events))).toBe(true)
    expect(textOf(reader.events).length).toBeGreaterThan(0)
    expect(textOf(reader.events).length).toBeLessThan(sentence.length)

    line.emulator.setFaults([])
    await reader.until('ended')
    expect(textOf(reader.events)).toBe(sentence)
    expect(story(reader.events)).toEqual(['run_started', 'text', 'run_ended', 'ended'])
    expect(numbers(reader.events)).toEqual(upTo(reader.events.length))
  })

  test('asks the provider for nothing more', async ({ pool }) => {
    const counts = []
    for (const streams of [false, true]) {
      const line = await startLine(pool, provider, { streams })
      await line.do(`asked ${streams}`, 'add_message_and_run', ask())
      await line.do(`asked ${streams}`, 'create_run', who)
      counts.push(line.emulator.requests().map(({ kind }) => kind))
      await line.dispatcher.stop()
    }
    expect(counts[1]).toEqual(counts[0])
  })

  test('begins anew where another run replaces one that failed', async ({ pool }) => {
    const line = await startLine(pool, provider, { streams: true })
    const kind = provider === 'responses' ? 'responses.create' : 'runs.create'
    line.emulator.setFaults([{ name: 'run_fails', on: kind, times: 1 }])
    const { id, result, attempts } = await line.do('again', 'add_message_and_run', ask())
    expect(attempts).toBe(2)
    const events = await readAll(client(pool), id)
    expect(story(events)).toEqual([
      'run_started',
      'run_ended',
      'restarted',
      'run_started',
      'text',
      'run_ended',
      'ended',
    ])
    expect(events[1]).toMatchObject({ status: 'failed' })
    expect(textOf(events)).toBe(result.text)
    expect(numbers(events)).toEqual(upTo(events.length))
  })

  test('goes on where an operator sends the operation back', async ({ pool }) => {
    const line = await startLine(pool, provider, { streams: true })
    const kind = provider === 'responses' ? 'responses.create' : 'runs.create'
    line.emulator.setFaults([{ name: 'run_fails', on: kind, code: 'invalid_prompt', times: 1 }])
    const { id, status } = await line.do('sent back', 'add_message_and_run', ask())
    expect(status).toBe('failed')
    const inturn = client(pool)
    const before = await readAll(inturn, id)
    expect(story(before)).toEqual(['run_started', 'run_ended', 'ended'])
    await (await inturn.operation(id)).retry({ at: 'head' })
    const after = await readAll(inturn, id, { from: before.at(-1)?.seq })
    expect(story(after)).toEqual(['restarted', 'run_started', 'text', 'run_ended', 'ended'])
    expect(numbers(after)[0]).toBe(before.length)
    expect(textOf(after)).toBe(sentence)
  })

  test('tells a call of a function once, with its arguments', async ({ pool }) => {
    const line = await startLine(pool, provider, { streams: true })
    const parameters = { type: 'object', properties: { city: { type: 'string' } } }
    const named = { name: 'get_weather', parameters }
    const tool =
      provider === 'responses'
        ? { type: 'function', ...named, strict: false }
        : { type: 'function', function: named }
    const id = await line.insert('tools', 'add_message_and_run', {
      message: 'Call get_weather for the city "Oslo".',
      ...who,
      tools: [tool],
    })
    const handle = await client(pool).operation(id)
    const { events } = await new Reader(handle.stream()).until('run_ended')
    const calls = events.filter((event) => event.type === 'tool_call')
    expect(calls).toMatchObject([{ name: 'get_weather', call_id: expect.stringMatching(/^call_/) }])
    expect(JSON.parse(calls[0]?.arguments ?? '')).toHaveProperty('city')
    expect(events.at(-1)).toMatchObject({ status: 'requires_action' })
  })

  test('keeps what PostgreSQL cannot hold as it is in no one else’s way', async ({ pool }) => {
    const odd = 'a\u0000b \ud83d c \ud83d\ude00 "quoted" \\ {1,2}'
    const line = await startLine(pool, provider, {
      streams: true,
      emulator: { model: () => ({ text: odd }) },
    })
    const { id, result } = await line.do('odd', 'add_message_and_run', ask())
    const events = await readAll(client(pool), id)
    expect(textOf(events)).toBe(result.text)
    expect(result.text).toContain('\ud83d\ude00')
  })
})
