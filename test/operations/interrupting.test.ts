import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow } from '../support/line.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, loseFirstAnswer, messagesPath, startLine, who } from './line.ts'

const turn = (answer: string) => ({ message: `reply with exactly: ${answer}`, ...who })
const asked = (answer: string) => `user: reply with exactly: ${answer}`
const running = (line: Line, id: number) =>
  waitFor(async () => (await line.row(id)).progress?.run_id, { message: `${id} has a run` })

describe.each(['responses', 'assistants'] as const)(
  'an operation that interrupts, on "%s"',
  (name) => {
    const creating = name === 'responses' ? 'responses.create' : 'runs.create'
    const stuck = { name: 'stuck_in_progress', on: creating, times: 1 } as const

    test('ends the run, is answered next, and what was said stays', async ({ pool }) => {
      const thread = `${name}:interrupt`
      const line = await startLine(pool, name)
      line.emulator.setFaults([stuck])
      const first = await line.insert(thread, 'add_message_and_run', turn('never'))
      await running(line, first)
      const { id: last } = await insertRow(pool, {
        thread_id: thread,
        operation: 'add_message_and_run',
        data: turn('now'),
        if_busy: 'interrupt',
      })
      expect(await line.end(last)).toMatchObject({ status: 'completed', result: { text: 'now' } })
      expect(await line.end(first)).toMatchObject({
        status: 'cancelled',
        error: { code: 'interrupted', operation_id: last },
        result: { run: { status: 'cancelled' }, message_id: expect.any(String) },
      })
      expect(await line.said(thread)).toEqual([asked('never'), asked('now'), 'assistant: now'])
      expect(line.emulator.runs().map(({ status }) => status)).toEqual(['cancelled', 'completed'])
      expect(line.emulator.stats.conflicts).toBe(0)
      await expectHealthy(pool, { threadId: thread })
    })

    test('answers those who waited as well, with merge', async ({ pool }) => {
      const thread = `${name}:interrupt and merge`
      const line = await startLine(pool, name)
      line.emulator.setFaults([stuck])
      const first = await line.insert(thread, 'add_message_and_run', turn('never'))
      await running(line, first)
      const waiting = await line.insert(thread, 'add_message_and_run', turn('not alone'))
      const { id: last } = await insertRow(pool, {
        thread_id: thread,
        operation: 'add_message_and_run',
        data: turn('now'),
        if_busy: 'interrupt+merge',
      })
      expect(await line.end(last)).toMatchObject({ result: { text: 'now', merged: [waiting] } })
      expect(await line.said(thread)).toEqual([
        asked('never'),
        asked('not alone'),
        asked('now'),
        'assistant: now',
      ])
      expect(line.emulator.stats.runsStarted).toBe(2)
    })

    test('leaves the message of one that waited for its next attempt, once', async ({ pool }) => {
      const thread = `${name}:between attempts`
      const failures = [{ code: 'server_error', message: 'Oops.' } as const]
      const line = await startLine(pool, name, { emulator: { failRun: () => failures.shift() } })
      const { id: first } = await insertRow(pool, {
        thread_id: thread,
        operation: 'add_message_and_run',
        data: turn('never'),
        retry: { base_ms: 600_000, max_ms: 600_000 },
      })
      await line.waiting(first, 'server_error')
      const { id: last } = await insertRow(pool, {
        thread_id: thread,
        operation: 'add_message',
        data: { message: 'Never mind.' },
        if_busy: 'interrupt',
      })
      expect(await line.end(first)).toMatchObject({
        status: 'cancelled',
        error: { code: 'interrupted' },
        result: { message_id: expect.any(String) },
      })
      expect(await line.end(last)).toMatchObject({ status: 'completed' })
      expect(await line.said(thread)).toEqual([asked('never'), 'user: Never mind.'])
      expect(line.emulator.stats.runsStarted).toBe(1)
    })

    test('leaves that message once, where the answer to it is lost', async ({ pool }) => {
      const thread = `${name}:lost`
      const line = await startLine(pool, name)
      line.emulator.setFaults([stuck])
      await line.do(thread, 'add_message', { message: 'reply with exactly: never' })
      const first = await line.insert(thread, 'add_message_and_run', turn('never'))
      await running(line, first)
      if (name === 'responses') loseFirstAnswer(line.relay, 'POST', messagesPath)
      await insertRow(pool, {
        thread_id: thread,
        operation: 'add_message',
        data: { message: 'Never mind.' },
        if_busy: 'interrupt',
      })
      expect((await line.end(first)).error.code).toBe('interrupted')
      await waitFor(async () => (await line.said(thread)).includes('user: Never mind.'))
      expect(await line.said(thread)).toEqual([asked('never'), asked('never'), 'user: Never mind.'])
    })

    test('finds nothing to interrupt where the run was faster', async ({ pool }) => {
      const thread = `${name}:faster`
      const line = await startLine(pool, name)
      const first = await line.do(thread, 'add_message_and_run', turn('first'))
      const { id: last } = await insertRow(pool, {
        thread_id: thread,
        operation: 'add_message_and_run',
        data: turn('now'),
        if_busy: 'interrupt',
      })
      expect(await line.end(last)).toMatchObject({ status: 'completed' })
      expect(first.status).toBe('completed')
      const { rows } = await pool.query(
        `select from thread_operations where operation = 'cancel_run' and thread_id = $1`,
        [thread],
      )
      expect(rows).toEqual([])
    })
  },
)
