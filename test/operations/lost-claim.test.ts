import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { withTransaction } from '../support/transaction.ts'
import { messagesPath, runsPath, startLine, who } from './line.ts'

/** Gives a claim to a dispatcher that is gone at once: the next sweep gives it back. */
const takeAway = (pool: pg.Pool, thread: string) =>
  withTransaction(pool, async (client) => {
    await client.query(`select set_config('inturn.line', 'on', true)`)
    await client.query(
      `update thread_operations set claimed_by = 'somebody else'
        where thread_id = $1 and status = 'processing'`,
      [thread],
    )
  })

describe.each(['responses', 'assistants'] as const)('a claim on "%s" that is lost', (name) => {
  test.for([
    ['while its message is on the way', 'add_message', messagesPath],
    ['while its run is on the way', 'create_run', runsPath],
  ] as const)(
    '%s ends without a word, and whoever comes next finds what was sent',
    async ([_when, operation, path], { pool }) => {
      const thread = `${name}:${operation}`
      let armed = false
      const line = await startLine(pool, name, {
        emulator: {
          onRequest: async (request) => {
            if (!armed || request.method !== 'POST' || !path.test(request.path)) return undefined
            armed = false
            await takeAway(pool, thread)
            return undefined
          },
        },
      })
      await line.do(thread, 'add_message', { message: 'reply with exactly: once' })
      await line.secondIsOver(thread)
      const messages = line.sent('POST', messagesPath).length
      armed = true
      const row = await line.do(
        thread,
        operation,
        operation === 'create_run' ? who : { message: 'ok' },
      )
      expect(row).toMatchObject({ status: 'completed', attempts: 2, failures: 0 })
      expect(line.sent('POST', messagesPath).slice(messages)).toHaveLength(
        operation === 'add_message' ? 1 : 0,
      )
      expect(await line.said(thread)).toEqual([
        'user: reply with exactly: once',
        operation === 'add_message' ? 'user: ok' : 'assistant: once',
      ])
      expect(line.log).toContainEqual(
        expect.objectContaining({ msg: 'operation left to the next dispatcher' }),
      )
    },
  )
})
