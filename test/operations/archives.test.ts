import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { startLine, who } from './line.ts'

const archived = async (pool: pg.Pool, id: number) =>
  (
    await pool.query(
      `select position, item_id, type, role, text, content, attachments, run_id, metadata, said_at, item
         from archived_messages where archive_id = $1 order by position`,
      [id],
    )
  ).rows

const archiveRow = async (pool: pg.Pool, id: number) =>
  (await pool.query('select * from thread_archives where id = $1', [id])).rows[0]

describe.each(['responses', 'assistants'] as const)('archive_thread on "%s"', (name) => {
  test('copies all that was said, in order, with what its runs came to', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:all`
    await line.insert(thread, 'create_thread', { metadata: { team: 'red' } })
    await line.insert(thread, 'add_message', { message: 'first' })
    const run = await line.insert(thread, 'add_message_and_run', {
      message: 'reply with exactly: the answer',
      ...who,
    })
    const id = await line.insert(thread, 'archive_thread', { reason: 'before the move' })
    const after = await line.insert(thread, 'add_message', { message: 'after' })
    const { status, result, error } = await line.end(id)
    expect({ status, error }).toEqual({ status: 'completed', error: null })
    const { provider_thread_id } = await line.thread(thread)
    expect(result).toEqual({ provider_thread_id, archive_id: expect.any(Number), items: 3 })
    const rows = await archived(pool, result.archive_id)
    expect(rows.map(({ position, role, text }) => [position, role, text])).toEqual([
      [1, 'user', 'first'],
      [2, 'user', 'reply with exactly: the answer'],
      [3, 'assistant', 'the answer'],
    ])
    const ran = await line.row(run)
    expect(await archiveRow(pool, result.archive_id)).toMatchObject({
      thread_id: thread,
      generation: 1,
      operation_id: id,
      provider: name,
      provider_thread_id,
      reason: 'before the move',
      messages: 3,
      items: 3,
      last_item_id: rows[2].item_id,
      runs: 1,
      input_tokens: ran.result.usage.input_tokens,
      metadata: { team: 'red' },
    })
    expect((await line.end(after)).status).toBe('completed')
    await expectHealthy(pool)
  })
})
