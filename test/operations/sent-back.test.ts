import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { loseFirstAnswer, runsPath, startLine, who } from './line.ts'

/** A model whose answers are numbered. */
const counting = () => {
  let n = 0
  return () => ({ text: `answer ${++n}` })
}
const permanent = { code: 'invalid_prompt', message: 'No.' } as const

describe.each(['responses', 'assistants'] as const)('an operation sent back on "%s"', (name) => {
  test('starts another run, and does not add its message again', async ({ pool }) => {
    const failures = [permanent]
    const line = await startLine(pool, name, {
      emulator: { model: counting(), failRun: () => failures.shift() },
    })
    const thread = `${name}:again`
    const first = await line.do(thread, 'add_message_and_run', { message: 'Hi', ...who })
    expect(first).toMatchObject({ status: 'failed', turn: 1 })
    await line.do(thread, 'add_message', { message: 'Meanwhile' })
    await pool.query(`select retry_operation($1, 'tail')`, [first.id])
    const row = await line.end(first.id)
    expect(row).toMatchObject({ status: 'completed', turn: 3 })
    const said = await line.said(thread)
    expect(said.filter((text) => text === 'user: Hi')).toHaveLength(1)
    expect(said.at(-1)).toBe(`assistant: ${row.result.text}`)
    expect(line.emulator.stats.runsStarted).toBe(2)
  })

  test.for([
    ['create_run', who],
    ['add_message_and_run', { message: 'Hi', ...who }],
  ] as const)(
    'finds its own answer where the reply is lost, not that of a %s since',
    async ([kind, data], { pool }) => {
      const failures = [permanent]
      const line = await startLine(pool, name, {
        emulator: { model: counting(), failRun: () => failures.shift() },
      })
      const thread = `${name}:lost ${kind}`
      await line.do(thread, 'add_message', { message: 'Hello' })
      const first = await line.do(thread, 'create_run', who)
      expect(first.status).toBe('failed')
      const other = await line.do(thread, kind, data)
      loseFirstAnswer(line.relay, 'POST', runsPath)
      await pool.query(`select retry_operation($1, 'tail')`, [first.id])
      const row = await line.end(first.id)
      expect(row.status).toBe('completed')
      expect(row.result.text).not.toBe(other.result.text)
      expect(line.emulator.stats.runsStarted).toBe(3)
    },
  )

  test('does not take it either for the answer of a call that never arrived before', async ({
    pool,
  }) => {
    let resets = 0
    const line = await startLine(pool, name, {
      maxAttempts: 1,
      emulator: {
        model: counting(),
        onRequest: ({ method, path }) =>
          method === 'POST' && runsPath.test(path) && resets++ === 0 ? 'reset' : undefined,
      },
    })
    const thread = `${name}:never`
    await line.do(thread, 'add_message', { message: 'Hello' })
    const first = await line.do(thread, 'create_run', who)
    expect(first).toMatchObject({ status: 'failed' })
    const other = await line.do(thread, 'create_run', who)
    expect(other.status).toBe('completed')
    await pool.query(`select retry_operation($1, 'tail')`, [first.id])
    const row = await line.end(first.id)
    expect(row.status).toBe('completed')
    expect(row.result.text).not.toBe(other.result.text)
    expect(line.emulator.stats.runsStarted).toBe(2)
  })
})
