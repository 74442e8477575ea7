import { describe, expect, test } from 'vitest'
import {
  foreignText,
  isInOrder,
  type Judged,
  miscounted,
  plainly,
  saidBy,
  tracesOf,
} from '../../chaos/history.ts'
import type { HistoryEntry, RunEntry } from '../../src/emulator/index.ts'

const operation = (given: Partial<Judged>): Judged => ({
  id: 1,
  thread_id: 't',
  operation: 'add_message_and_run',
  data: { message: 'Hi', instructions: 'Reply with exactly: Hello' },
  status: 'completed',
  turn: 1,
  error: null,
  scheduled_at: null,
  target_id: null,
  merges: null,
  result: null,
  ...given,
})
const must = (text: string) => ({ text, must: true })
const may = (text: string) => ({ text, must: false })

describe('what an operation leaves in the provider thread', () => {
  test('is its message and its answer', () => {
    expect(tracesOf(operation({}))).toEqual([must('Hi'), must('Hello')])
    const message = operation({ operation: 'add_message', data: { message: 'Hi' } })
    expect(tracesOf(message)).toEqual([must('Hi')])
    const run = operation({ data: { instructions: 'Reply with exactly: Hello' } })
    expect(tracesOf(run)).toEqual([must('Hello')])
  })

  test('is what its tool has given, whoever gave it', () => {
    const run = operation({ data: { message: 'Call it.', tools: [{ name: 'look_up' }] } })
    expect(tracesOf(run)).toEqual([must('Call it.'), must('According to look_up')])
    expect(plainly('According to look_up: {"error": "too late"}')).toBe('According to look_up')
    expect(plainly('Noted: "Hi"')).toBe('Noted: "Hi"')
  })

  test('is the messages of those that it took along, before its own', () => {
    const merged = ['One', 'Two'].map((message) => operation({ data: { message } }))
    const texts = tracesOf(operation({}), merged).map(({ text }) => text)
    expect(texts).toEqual(['One', 'Two', 'Hi', 'Hello'])
  })

  test('may be nothing or all, where it was given up', () => {
    expect(tracesOf(operation({ status: 'failed' }))).toEqual([may('Hi'), may('Hello')])
  })
})

describe('what was said', () => {
  test('too often or not at all is noticed', () => {
    const traces = [must('a'), must('ok'), must('ok'), may('b')]
    expect(miscounted(['a', 'ok', 'ok'], traces)).toEqual({ twice: [], missing: [] })
    expect(miscounted(['a', 'a', 'ok', 'b', 'b'], traces)).toEqual({
      twice: ['a', 'b'],
      missing: ['ok'],
    })
    expect(miscounted(['stranger'], [])).toEqual({ twice: ['stranger'], missing: [] })
  })

  test('in another order is noticed', () => {
    const traces = [must('a'), may('x'), may('a'), must('b')]
    for (const said of [
      ['a', 'b'],
      ['a', 'x', 'b'],
      ['a', 'a', 'b'],
    ])
      expect(isInOrder(said, traces), said.join()).toBe(true)
    for (const said of [['b', 'a'], ['a', 'b', 'x'], ['a'], ['a', 'b', 'b']])
      expect(isInOrder(said, traces), said.join()).toBe(false)
  })

  test('by outsiders and by runs that went wrong does not count, but their input that stays does', () => {
    const entry = (role: string, text: string, runId: string | null = null): HistoryEntry => ({
      id: text,
      role,
      text,
      metadata: {},
      runId,
    })
    const run = (id: string, status: string, foreign = false): RunEntry => ({
      id,
      status,
      foreign,
      threadId: 't',
      metadata: {},
      startedAt: new Date(),
      endedAt: null,
    })
    const history = [
      entry('user', 'mine'),
      entry('user', foreignText),
      entry('assistant', 'his answer', 'foreign'),
      entry('user', 'my input', 'failed'),
      entry('assistant', 'half an ans', 'failed'),
      entry('assistant', 'an answer', 'good'),
    ]
    const runs = [
      run('foreign', 'completed', true),
      run('failed', 'failed'),
      run('good', 'completed'),
    ]
    expect(saidBy(history, runs)).toEqual(['mine', 'my input', 'an answer'])
  })
})
