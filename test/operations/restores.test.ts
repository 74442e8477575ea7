import { describe, expect } from 'vitest'
import { providerNames } from '../../src/model/thread.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { generations, history, providerThreads, spoken, turn } from './copies.ts'
import { type Line, startLine } from './line.ts'

/** A thread with a turn for each answer, and an archive of it. */
async function archive(line: Line, thread: string, ...answers: string[]) {
  await line.do(thread, 'create_thread', { metadata: { team: 'red' } })
  for (const answer of answers) await line.do(thread, 'add_message_and_run', turn(answer))
  const { provider_thread_id } = await line.thread(thread)
  const { result } = await line.do(thread, 'archive_thread', {})
  return { archive_id: result.archive_id as number, old: provider_thread_id as string }
}

describe.each(providerNames)('restore_thread on "%s"', (name) => {
  test('goes on in a new provider thread that holds what the archive holds', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:back`
    const { archive_id, old } = await archive(line, thread, 'one')
    await line.insert(thread, 'add_message_and_run', turn('regretted'))
    const id = await line.insert(thread, 'restore_thread', { archive_id })
    const behind = await line.insert(thread, 'add_message_and_run', turn('two'))
    const { status, error, result } = await line.end(id)
    expect({ status, error }).toEqual({ status: 'completed', error: null })
    await line.end(behind)
    const { provider_thread_id, metadata } = await line.thread(thread)
    expect(result).toEqual({
      provider_thread_id,
      generation: 2,
      archive_id,
      items: 2,
      left_out: 0,
    })
    expect(metadata).toEqual({ team: 'red' })
    expect(await line.said(thread)).toEqual(spoken('one', 'two'))
    expect(history(line, old)).toEqual(spoken('one', 'regretted'))
    expect(await generations(pool, thread)).toMatchObject([
      { ended_by: 'restored', provider_thread_id: old },
      { ended_by: null, copied_from: `archive ${archive_id}`, carried_over: 2 },
    ])
    await expectHealthy(pool)
  })

  test('brings back a conversation that is lost at the provider', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:lost`
    const { archive_id, old } = await archive(line, thread, 'one')
    await line.providers[name]?.deleteThread(old, {
      signal: AbortSignal.timeout(5_000),
      timeoutMs: 5_000,
    })
    expect((await line.do(thread, 'restore_thread', { archive_id })).status).toBe('completed')
    expect(await line.said(thread)).toEqual(spoken('one'))
  })

  test('brings back a conversation that the thread has no more', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:gone`
    const { archive_id } = await archive(line, thread, 'one')
    await pool.query(
      `update threads set provider_thread_id = null, last_item_id = null, metadata = '{}' where id = $1`,
      [thread],
    )
    expect((await line.do(thread, 'restore_thread', { archive_id })).status).toBe('completed')
    expect(await line.said(thread)).toEqual(spoken('one'))
    // What the thread does not know any more, the archive does.
    expect(await line.thread(thread)).toMatchObject({ generation: 2, metadata: { team: 'red' } })
  })

  test('refuses an archive that there is not', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:unknown`
    const row = await line.do(thread, 'restore_thread', { archive_id: 1_000_000 })
    expect(row).toMatchObject({ status: 'failed', error: { code: 'archive_not_found' } })
    expect(row.error.message).toContain(`WHERE thread_id = '${thread}'`)
    expect(providerThreads(line)).toBe(0)
  })

  test('waits for a foreign run on the conversation that it ends', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:foreign`
    const { archive_id, old } = await archive(line, thread, 'one')
    line.emulator.foreignRun(old, { ms: 300 })
    const row = await line.do(thread, 'restore_thread', { archive_id })
    expect(row.status).toBe('completed')
    const codes = (await line.ledger(row.id)).map(({ code }) => code)
    expect(codes).toContain(name === 'responses' ? 'conversation_locked' : 'thread_busy')
  })

  test('takes the archive of a thread that is held by the other provider', async ({ pool }) => {
    const other = name === 'responses' ? 'assistants' : 'responses'
    const line = await startLine(pool, name)
    const [from, thread] = [`${other}:of old`, `${name}:moved`]
    await line.do(from, 'create_thread', { provider: other })
    const { archive_id } = await archive(line, from, 'one', 'two')
    await line.insert(thread, 'restore_thread', { archive_id })
    const next = await line.do(thread, 'add_message_and_run', turn('three'))
    expect(next).toMatchObject({ status: 'completed', error: null })
    expect(await line.thread(thread)).toMatchObject({ provider: name, generation: 1 })
    expect(await line.said(thread)).toEqual(spoken('one', 'two', 'three'))
    await expectHealthy(pool)
  })
})
