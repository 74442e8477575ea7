import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { asLine } from '../support/line.ts'
import { messagesPath, startLine, who } from './line.ts'

const described = { name: 'get_weather', parameters: { type: 'object', properties: {} } }
const tools = {
  responses: [{ type: 'function', strict: false, ...described }],
  assistants: [{ type: 'function', function: described }],
}

/** A turn is given up as soon as it asks for outputs. */
const leaves = { toolDeadlineMs: 1, onToolDeadline: 'cancel' } as const

/** Gives a claim to a dispatcher that is gone at once: the next sweep gives it back. */
const takeAway = (pool: pg.Pool, thread: string) =>
  asLine(pool, (client) =>
    client.query(
      `update thread_operations set claimed_by = 'somebody else'
        where thread_id = $1 and status = 'processing'`,
      [thread],
    ),
  )

describe.each(['responses', 'assistants'] as const)(
  'a run of "%s" whose calls nobody answers',
  (name) => {
    const leaving = name === 'responses' ? messagesPath : /\/cancel$/

    test('is left once, and ends the same when its dispatcher dies meanwhile', async ({ pool }) => {
      const thread = `${name}:dies`
      let isTaken = false
      const line = await startLine(pool, name, {
        ...leaves,
        emulator: {
          onRequest: async ({ method, path }) => {
            if (isTaken || method !== 'POST' || !leaving.test(path) || !(await line.thread(thread)))
              return undefined
            isTaken = line.emulator.stats.runsStarted > 0
            if (isTaken) await takeAway(pool, thread)
            return undefined
          },
        },
      })
      const row = await line.do(thread, 'add_message_and_run', {
        message: 'Call get_weather.',
        ...who,
        tools: tools[name],
      })
      expect(isTaken).toBe(true)
      expect(row).toMatchObject({
        status: 'failed',
        attempts: 3,
        failures: 0,
        error: { code: 'tool_deadline' },
        result: { run: { id: row.progress.run_id, status: 'requires_action' } },
      })
      expect(line.emulator.stats.runsStarted).toBe(1)
      await line.secondIsOver(thread)
      const next = await line.do(thread, 'add_message_and_run', {
        message: 'reply with exactly: free',
        ...who,
      })
      expect(next).toMatchObject({ status: 'completed', attempts: 1, result: { text: 'free' } })
      expect(line.emulator.stats.conflicts).toBe(0)
    })

    test('is left however often the answer to that is lost', async ({ pool }) => {
      const line = await startLine(pool, name, { ...leaves, callTimeoutMs: 300 })
      const thread = `${name}:lost`
      await line.do(thread, 'create_thread', {})
      const on = name === 'responses' ? 'items.create' : 'runs.cancel'
      line.relay.loseFrom = ({ path }) => {
        if (path.endsWith('/runs') || path.endsWith('/responses'))
          line.emulator.setFaults([
            { name: 'reset_after_commit', on, times: 1 },
            { name: 'reset_before_commit', on, times: 1 },
          ])
        return undefined
      }
      const row = await line.do(thread, 'add_message_and_run', {
        message: 'Call get_weather.',
        ...who,
        tools: tools[name],
      })
      expect(row).toMatchObject({ status: 'failed', error: { code: 'tool_deadline' } })
      line.relay.loseFrom = () => undefined
      line.emulator.setFaults([])
      await line.secondIsOver(thread)
      const next = await line.do(thread, 'add_message_and_run', { message: 'Hi', ...who })
      expect(next).toMatchObject({ status: 'completed', attempts: 1 })
      expect(line.emulator.stats).toMatchObject({ runsStarted: 2, conflicts: 0 })
    })
  },
)
