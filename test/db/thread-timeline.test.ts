import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow, moveTo } from '../support/line.ts'

describe('thread_timeline', () => {
  const storyOf = async (pool: pg.Pool, threadId: string) =>
    (await pool.query('select * from thread_timeline where thread_id = $1', [threadId])).rows

  test('tells the story of a thread', async ({ pool }) => {
    const thread = { thread_id: 'told' }
    const { id: first } = await insertRow(pool, thread)
    const { id: second } = await insertRow(pool, thread)
    await moveTo(pool, first, 'processing')
    const { rows: clock } = await pool.query(
      `select date_trunc('second', '2999-01-01Z'::timestamptz)::text as due`,
    )
    await moveTo(pool, first, 'pending', {
      error: { code: 'rate_limited' },
      ready_at: '2999-01-01T00:00:00Z',
    })
    await moveTo(pool, first, 'processing', { progress: { run_id: 'run_1' } })
    await moveTo(pool, first, 'pending')
    await moveTo(pool, first, 'processing')
    await moveTo(pool, first, 'requires_action')
    await moveTo(pool, first, 'processing')
    await moveTo(pool, first, 'completed')
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [second])

    const story = await storyOf(pool, 'told')
    expect(story.map((row) => [row.operation_id, row.event, row.attempt])).toEqual([
      [first, 'joined the line', null],
      [second, 'joined the line', null],
      [first, 'started', 1],
      [first, `will be tried again at ${clock[0].due}`, 1],
      [first, 'started again', 2],
      [first, 'was given back', 2],
      [first, 'started again', 3],
      [first, 'waits for tool outputs', 3],
      [first, 'went on', 4],
      [first, 'completed', 4],
      [second, 'cancelled', 0],
    ])
    expect(story[0]).toMatchObject({ operation: 'add_message', turn: 1, code: null, run_id: null })
    expect(story[3]).toMatchObject({ actor: 'd1', turn: 1, code: 'rate_limited' })
    expect(story[4]).toMatchObject({ actor: 'd1', run_id: 'run_1' })
    expect(story[10]).toMatchObject({
      actor: expect.stringContaining('(inturn test)'),
      turn: null,
    })
    const times = story.map(({ at }) => Number(at))
    expect(times).toEqual(times.toSorted((a, b) => a - b))
  })

  test('goes on telling of operations that were deleted', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'deleted' })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'completed')
    await pool.query('delete from thread_operations where id = $1', [id])
    const story = await storyOf(pool, 'deleted')
    expect(story.map(({ event, operation, turn }) => [event, operation, turn])).toEqual([
      ['started', null, 1],
      ['completed', null, 1],
    ])
  })
})
