import pg from 'pg'
import { expect } from 'vitest'
import { Inturn } from '../../src/index.ts'
import { test as base } from '../support/database.ts'
import { message } from './rows.ts'
import { serve } from './serving.ts'

const test = base.extend('inturn', { scope: 'file' }, async ({ url }, { onCleanup }) => {
  const inturn = new Inturn({ databaseUrl: url })
  onCleanup(() => inturn.close())
  return inturn
})

test('a thread writes the same rows in fewer words', async ({ inturn, pool }) => {
  const thread = inturn.thread('words')
  await thread.enqueue('create_thread', { provider: 'responses' })
  await thread.addMessage({ role: 'user', content: 'Hi' }, { priority: 2 })
  await thread.run({ assistant_id: 'asst_1' })
  const sent = await thread.send('Hello', { model: 'm' }, { idempotencyKey: 'k' })
  expect((await thread.send('Hello', { model: 'm' }, { idempotencyKey: 'k' })).id).toBe(sent.id)
  await thread.rotate({ carryOver: 3, idempotencyKey: 'r' })
  await thread.fork('other', { last: 2 })
  await thread.restore(7, { priority: 1 })
  const { rows } = await pool.query(
    `select operation, data, priority, idempotency_key from thread_operations order by id`,
  )
  expect(rows.map((row) => Object.values(row))).toEqual([
    ['create_thread', { provider: 'responses' }, 0, null],
    ['add_message', { message: { role: 'user', content: 'Hi' } }, 2, null],
    ['create_run', { assistant_id: 'asst_1' }, 0, null],
    ['add_message_and_run', { message: 'Hello', model: 'm' }, 0, 'k'],
    ['rotate_thread', { carry_over: 3 }, 0, 'r'],
    ['fork_thread', { to: 'other', last: 2 }, 0, null],
    ['restore_thread', { archive_id: 7 }, 1, null],
  ])
})

test('a thread tells its state, its operations and its story', async ({ inturn, pool, url }) => {
  const thread = inturn.thread('told')
  expect(await thread.state()).toBeNull()
  expect(await thread.operations()).toEqual([])
  const first = await thread.addMessage('a')
  {
    await using _line = await serve(pool, url)
    await first.result()
  }
  const [second, third] = await inturn.enqueue([message('told', 'b'), message('told', 'c')])
  expect(await thread.state()).toMatchObject({
    thread_id: 'told',
    state: 'active',
    waiting: 2,
    active_operation_id: null,
    provider: 'responses',
    created_at: expect.any(Date),
  })
  const operations = await thread.operations()
  expect(operations.map(({ id }) => id)).toEqual([third.id, second.id, first.id])
  expect(operations[0]).toMatchObject({ status: 'pending', turn: null, started_at: null })
  expect(operations[2]).toMatchObject({
    operation: 'add_message',
    data: { message: 'a' },
    status: 'completed',
    turn: 1,
    result: { text: 'You said: a' },
    finished_at: expect.any(Date),
  })
  expect((await thread.operations({ limit: 1 })).map(({ id }) => id)).toEqual([third.id])
  const story = (await thread.timeline()).map(({ operation_id, event }) => [operation_id, event])
  expect(story).toEqual([
    [first.id, 'joined the line'],
    [first.id, 'started'],
    [first.id, 'completed'],
    [second.id, 'joined the line'],
    [third.id, 'joined the line'],
  ])
})

test('a pool with other ideas of bigints and timestamps makes no difference', async ({ url }) => {
  const pool = new pg.Pool({
    connectionString: url,
    types: {
      getTypeParser: ((oid: number, format?: 'text') =>
        [20, 1184].includes(oid)
          ? (text: string) => text
          : pg.types.getTypeParser(oid, format)) as never,
    },
  })
  try {
    await using inturn = new Inturn({ pool })
    const thread = inturn.thread('plain')
    const { id } = await thread.addMessage('a')
    const [operation] = await thread.operations()
    expect(operation).toMatchObject({ id, created_at: expect.any(Date) })
    expect(Math.abs(Date.now() - Number(operation?.created_at))).toBeLessThan(3_600_000)
    expect(await thread.state()).toMatchObject({ waiting: 1 })
  } finally {
    await pool.end()
  }
})
