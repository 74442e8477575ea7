import { describe, expect, test } from 'vitest'
import type { Run } from '../../src/model/run.ts'
import type { LoggedEvent, RunEvent } from '../../src/model/stream-event.ts'
import { OperationStream } from '../../src/operations/operation-stream.ts'

const started = (run_id: string): RunEvent => ({ type: 'run_started', run_id })
const text = (delta: string, part = '0') => ({ type: 'text', delta, part }) as const
const call = { call_id: 'call_1', name: 'get_weather', arguments: '{}' }

const run = (given: Partial<Run> = {}): Run => ({
  id: 'run_1',
  status: 'completed',
  model: 'gpt-4o',
  incomplete_reason: null,
  error: null,
  usage: null,
  text: null,
  tool_calls: [],
  last_item_id: null,
  ...given,
})

/** A stream behind what was written earlier, and all that is written now. */
function stream(earlier: readonly LoggedEvent[] | null = [], replaced: readonly string[] = []) {
  const events: LoggedEvent[] = []
  const write = (event: LoggedEvent) => void events.push(event)
  return {
    events,
    stream: new OperationStream({ earlier, write }, (id) => replaced.includes(id)),
  }
}

const half: LoggedEvent[] = [
  { type: 'run_started', run_id: 'run_1' },
  { type: 'text', delta: 'Hello, wo' },
]
const ended = (status: Run['status'], run_id: string | null = 'run_1') =>
  ({ type: 'run_ended', run_id, status }) as const

describe('a run that speaks', () => {
  test('has a newline between two parts of its answer, also where one is empty', () => {
    const { stream: one, events } = stream()
    for (const event of [
      started('run_1'),
      text('He'),
      text('llo'),
      text('', '1'),
      text('you', '2'),
    ]) {
      one.said(event)
    }
    one.ended(run({ text: 'Hello\n\nyou' }))
    expect(events).toEqual([
      { type: 'run_started', run_id: 'run_1' },
      { type: 'text', delta: 'He' },
      { type: 'text', delta: 'llo' },
      { type: 'text', delta: '\n' },
      { type: 'text', delta: '\nyou' },
      ended('completed'),
    ])
  })

  test('tells refusals and reasoning beside its text', () => {
    const { stream: one, events } = stream()
    one.said(started('run_1'))
    one.said({ type: 'reasoning', delta: 'Hm.' })
    one.said({ type: 'refusal', delta: '' })
    one.said({ type: 'refusal', delta: 'No.' })
    one.ended(run())
    expect(events.slice(1)).toEqual([
      { type: 'reasoning', delta: 'Hm.' },
      { type: 'refusal', delta: 'No.' },
      ended('completed'),
    ])
  })

  test('tells each call once, whether or not its stream has told it', () => {
    const { stream: one, events } = stream()
    one.said(started('run_1'))
    one.said({ type: 'tool_call', ...call })
    const second = { ...call, call_id: 'call_2' }
    const tool_calls = [call, second].map((one) => ({ type: 'function_call', ...one }))
    one.ended(run({ status: 'requires_action', tool_calls }))
    expect(events.slice(1)).toEqual([
      { type: 'tool_call', ...call },
      { type: 'tool_call', ...second },
      ended('requires_action'),
    ])
  })
})

describe('a run that was followed from elsewhere', () => {
  test('has its rest told at the end', () => {
    const { stream: one, events } = stream(half)
    one.ended(run({ text: 'Hello, world' }))
    expect(events).toEqual([{ type: 'text', delta: 'rld' }, ended('completed')])
  })

  test('begins anew where its text is not what was told', () => {
    const { stream: one, events } = stream(half)
    one.ended(run({ text: 'Good evening' }))
    expect(events).toEqual([
      { type: 'restarted' },
      { type: 'run_started', run_id: 'run_1' },
      { type: 'text', delta: 'Good evening' },
      ended('completed'),
    ])
  })

  test('keeps what was told where it was cancelled and the provider has forgotten it', () => {
    const { stream: one, events } = stream(half)
    one.ended(run({ status: 'cancelled', text: null }))
    expect(events).toEqual([ended('cancelled')])
  })

  test('is told whole where nothing was, also without a name', () => {
    const { stream: one, events } = stream()
    one.ended({ ...run({ text: 'Hello' }), id: null })
    expect(events).toEqual([
      { type: 'run_started', run_id: null },
      { type: 'text', delta: 'Hello' },
      ended('completed', null),
    ])
  })

  test('is not told twice where it was told to its end', () => {
    const { stream: one, events } = stream([
      ...half,
      { type: 'text', delta: 'rld' },
      ended('completed'),
    ])
    one.ended(run({ text: 'Hello, world' }))
    expect(events).toEqual([])
  })

  test('is known again where its text is written as PostgreSQL can hold it', () => {
    const { stream: one, events } = stream([
      { type: 'run_started', run_id: 'run_1' },
      { type: 'text', delta: 'a\ufffdb' },
    ])
    one.ended(run({ text: 'a\0b c' }))
    expect(events).toEqual([{ type: 'text', delta: ' c' }, ended('completed')])
  })
})

describe('another run', () => {
  test('voids the text of the one that it replaces', () => {
    const { stream: one, events } = stream([...half, ended('failed')], ['run_1'])
    one.said(started('run_2'))
    expect(events).toEqual([{ type: 'restarted' }, { type: 'run_started', run_id: 'run_2' }])
  })

  test('voids nothing where it goes on after the outputs of tools', () => {
    const { stream: one, events } = stream([...half, ended('requires_action')])
    one.said(started('run_2'))
    one.said(text('It rains.'))
    one.ended(run({ id: 'run_2', text: 'It rains.' }))
    expect(events).toEqual([
      { type: 'run_started', run_id: 'run_2' },
      { type: 'text', delta: 'It rains.' },
      ended('completed', 'run_2'),
    ])
  })

  test('is the same one after the outputs of tools on Assistants', () => {
    const { stream: one, events } = stream([...half, ended('requires_action')])
    one.said(started('run_1'))
    one.said(text('It rains.', 'msg_2.0'))
    one.ended(run({ text: 'Hello, wo\nIt rains.' }))
    expect(events).toEqual([{ type: 'text', delta: '\nIt rains.' }, ended('completed')])
  })

  test('voids all where nobody knows what was told', () => {
    const { stream: one, events } = stream(null)
    one.ended(run({ text: 'Hello' }))
    expect(events).toEqual([
      { type: 'restarted' },
      { type: 'run_started', run_id: 'run_1' },
      { type: 'text', delta: 'Hello' },
      ended('completed'),
    ])
  })
})
