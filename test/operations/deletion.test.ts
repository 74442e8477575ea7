import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, startLine, who } from './line.ts'

const gone = { code: 'thread_deleted' }

/** A model that answers when it is told to. */
function stalling() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { answer: resolve, model: () => promise.then(() => ({ text: 'Late.' })) }
}

/** Whether the provider knows the thread no more, and has kept nothing of it. */
async function expectGone(line: Line, providerThreadId: string): Promise<void> {
  expect(() => line.emulator.history(providerThreadId)).toThrow('no thread')
  expect(line.emulator.keptItems()).toEqual([])
}

const refused = (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    () => expect.unreachable('it was not refused'),
    (error) => error,
  )

describe.each(['responses', 'assistants'] as const)('delete_thread on "%s"', (name) => {
  test('deletes the conversation, and proves it', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:simple`
    await line.do(thread, 'add_message_and_run', { message: 'Hi', ...who })
    const { provider_thread_id: id } = await line.thread(thread)
    const row = await line.do(thread, 'delete_thread', {})
    expect(row).toMatchObject({
      status: 'completed',
      result: {
        deleted: [{ generation: 1, provider_thread_id: id, items: name === 'responses' ? 2 : 0 }],
      },
    })
    await expectGone(line, id)
    expect(await line.thread(thread)).toMatchObject({
      provider_thread_id: null,
      closed_at: expect.any(Date),
      deleted_at: expect.any(Date),
    })
    const { rows } = await pool.query('select * from thread_generations where thread_id = $1', [
      thread,
    ])
    expect(rows).toMatchObject([
      { ended_by: 'deleted', deleted_at: expect.any(Date), proof: { gone_at: expect.any(String) } },
    ])
    const again = await line.do(thread, 'delete_thread', {})
    expect(again).toMatchObject({ status: 'completed', result: row.result })
  })

  test('cancels the run that goes on, and ends what waits', async ({ pool }) => {
    const { model, answer } = stalling()
    const line = await startLine(pool, name, { emulator: { model } })
    const thread = `${name}:in a run`
    const running = await line.insert(thread, 'add_message_and_run', { message: 'Hi', ...who })
    await waitFor(() => line.emulator.stats.runsStarted === 1)
    const waiting = await line.insert(thread, 'add_message', { message: 'Too late' })
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, data, scheduled_at)
       values ($1, 'add_message', '{"message": "Later"}', now() + interval '1 hour') returning id`,
      [thread],
    )
    const deletion = await line.do(thread, 'delete_thread', {})
    answer()
    expect(deletion.status).toBe('completed')
    const error = await line.end(running)
    expect(error).toMatchObject({
      status: 'cancelled',
      error: {
        code: 'cancelled',
        message: expect.stringContaining(`operation ${deletion.id} deletes`),
      },
    })
    expect(await line.end(waiting)).toMatchObject({ status: 'cancelled', error: gone })
    expect(await line.end(rows[0].id)).toMatchObject({ status: 'cancelled', error: gone })
    await expectGone(line, deletion.result.deleted[0].provider_thread_id)
    expect(line.emulator.runs().map(({ status }) => status)).toEqual(['cancelled'])
  })

  test('refuses later operations until the thread is opened again', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:refusing`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const old = (await line.thread(thread)).provider_thread_id
    await line.do(thread, 'delete_thread', {})
    const error = await refused(line.insert(thread, 'add_message', { message: 'Too late' }))
    expect(error).toMatchObject({
      constraint: 'thread_is_open',
      message: `the conversation of thread ${thread} was deleted, and it takes no more operations`,
      hint: expect.stringContaining(`SELECT reopen_thread('${thread}')`),
    })
    await pool.query('select reopen_thread($1)', [thread])
    const row = await line.do(thread, 'add_message', { message: 'Anew' })
    expect(row.status).toBe('completed')
    expect(row.result.provider_thread_id).not.toBe(old)
    expect(await line.said(thread)).toEqual(['user: Anew'])
    expect((await line.thread(thread)).generation).toBe(2)
  })
})
