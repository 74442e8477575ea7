import { describe, expect } from 'vitest'
import { operationKinds, operationStatuses } from '../../src/model/operation.ts'
import { test } from '../support/database.ts'
import { insertRow, refusal } from '../support/line.ts'

const check_violation = '23514'

describe('an INSERT is refused', () => {
  test.for([
    ['no thread_id', {}, 0],
    ['null as thread_id', { thread_id: null }, 0],
    ['an empty thread_id', { thread_id: '' }, 0],
    ['a thread_id of nothing but blanks', { thread_id: ' \n ' }, 0],
    ['a thread_id that is too long', { thread_id: 'x'.repeat(256) }, 256],
  ] as const)('with %s', async ([, row, length], { pool }) => {
    expect(await refusal(insertRow(pool, row))).toEqual({
      code: check_violation,
      constraint: 'thread_id_has_1_to_255_characters',
      message: `thread_id must have 1 to 255 characters, not ${length}`,
      hint: "Write the id of the thread as text: any name of yours, for example 'user:42'.",
    })
  })

  test('with an id of its own', async ({ pool }) => {
    expect(await refusal(insertRow(pool, { thread_id: 't', id: 5 }))).toEqual({
      code: check_violation,
      constraint: 'operation_id_is_drawn_by_the_line',
      message: 'id 5 was sent along, but inturn draws the id itself',
      hint: 'Leave id out of the INSERT. To recognise your own operation, send an idempotency_key.',
    })
  })

  test.for([
    ...operationStatuses.filter((status) => status !== 'pending'),
    'queued',
    'Pending',
    '',
  ])('with the status "%s"', async (status, { pool }) => {
    expect(await refusal(insertRow(pool, { thread_id: 't', status }))).toEqual({
      code: check_violation,
      constraint: 'operation_starts_pending',
      message: `status must be pending for a new operation, not ${status}`,
      hint: "Leave status out, or write 'pending'. inturn moves it on from there.",
    })
  })

  test.for([
    ['an empty', ''],
    ['an over-long', 'x'.repeat(256)],
  ] as const)('with %s idempotency_key', async ([, key], { pool }) => {
    expect(await refusal(insertRow(pool, { thread_id: 't', idempotency_key: key }))).toEqual({
      code: check_violation,
      constraint: 'idempotency_key_has_1_to_255_characters',
      message: `idempotency_key must have 1 to 255 characters, not ${key.length}`,
      hint: 'Write a key of your own that names this request, or leave it out.',
    })
  })

  test.for([101, -101, null])('with the priority %s', async (priority, { pool }) => {
    expect(await refusal(insertRow(pool, { thread_id: 't', priority }))).toEqual({
      code: check_violation,
      constraint: 'priority_is_between_minus_100_and_100',
      message: `priority must be a number from -100 to 100, not ${priority}`,
      hint: 'Leave priority out for the usual 0; a higher one is served before lower ones of other threads.',
    })
  })

  test.for([
    { place: 1 },
    { turn: 1 },
    { provider: 'responses' },
    { head_since: 'now' },
    { ready_at: 'now' },
    { attempts: 1 },
    { failures: 1 },
    { claimed_by: 'me' },
    { intent: {} },
    { progress: {} },
    { result: {} },
    { error: {} },
    { prev_status: 'pending' },
    { target_id: 1 },
    { merges: [1] },
    { held_until: 'now' },
    { started_at: 'now' },
    { finished_at: 'now' },
  ])('with a column that only inturn writes: %o', async (column, { pool }) => {
    expect(await refusal(insertRow(pool, { thread_id: 't', ...column }))).toEqual({
      code: check_violation,
      constraint: 'operation_starts_unserved',
      message: 'a column that only inturn writes was sent along',
      hint: 'Send only thread_id, operation, data and, if you like, status, priority, idempotency_key, retry, user_id, scheduled_at, if_busy, debounce_ms, debounce_max_ms, created_at and updated_at.',
    })
  })

  test.for([
    { user_id: '' },
    { user_id: 'u'.repeat(256) },
    { if_busy: 'drop' },
    { debounce_ms: 0 },
    { debounce_ms: 3_600_001 },
    { debounce_max_ms: 0 },
    { debounce_max_ms: 86_400_001 },
  ])('with a way of joining that there is none of: %o', async (column, { pool }) => {
    const [name = ''] = Object.keys(column)
    const { code, message, hint } = await refusal(insertRow(pool, { thread_id: 't', ...column }))
    expect(code).toBe(check_violation)
    expect(message).toContain(name)
    expect(hint).toMatch(/^Write /)
  })

  test('for a closed thread', async ({ pool }) => {
    await pool.query(`insert into threads (id, closed_at) values ('closed', now())`)
    expect(await refusal(insertRow(pool, { thread_id: 'closed' }))).toEqual({
      code: check_violation,
      constraint: 'thread_is_open',
      message: 'thread closed is closed and takes no more operations',
      hint: 'Use another thread_id, or ask whoever closed the thread (threads.closed_at) to open it again.',
    })
    await pool.query(`update threads set closed_at = null where id = 'closed'`)
    await insertRow(pool, { thread_id: 'closed' })
  })

  test.for([
    ['an unknown operation', { operation: 'add_mesage', data: { message: 'Hi' } }],
    ['no operation', { operation: null, data: { message: 'Hi' } }],
  ] as const)('with %s, and the HINT names the known ones', async ([, row], { pool }) => {
    const insert = pool.query(
      'insert into thread_operations (thread_id, operation, data) values ($1, $2, $3)',
      ['t', row.operation, row.data],
    )
    const { constraint, hint } = await refusal(insert)
    expect(constraint).toBe('operation_is_known')
    for (const kind of operationKinds) expect(hint).toContain(kind)
  })

  test.for([
    ['lacks a field', {}, 'message'],
    ['misspells a field', { mesage: 'Hi' }, 'mesage'],
    ['mistypes a field', { message: 5 }, 'message'],
    ['is a string', JSON.stringify('Hi'), 'data'],
    ['is an array', '[]', 'data'],
    ['is null', null, 'data'],
  ] as const)('with data that %s, which it names', async ([, data, name], { pool }) => {
    const row = { thread_id: 't', operation: 'add_message', data }
    expect(await refusal(insertRow(pool, row))).toMatchObject({
      code: check_violation,
      constraint: 'operation_data_is_valid',
      message: expect.stringContaining(name),
      hint: expect.stringContaining('message'),
    })
  })

  test('as a whole, when one of its many rows is', async ({ pool }) => {
    const { constraint } = await refusal(
      pool.query(`insert into thread_operations (thread_id, operation, data) values
        ('whole', 'add_message', '{"message": "Hi"}'), ('whole', 'add_message', '{}')`),
    )
    expect(constraint).toBe('operation_data_is_valid')
    const { rowCount } = await pool.query(`select from thread_operations where thread_id = 'whole'`)
    expect(rowCount).toBe(0)
  })
})

test('the longest thread_id and idempotency_key, and both ends of priority, are accepted', async ({
  pool,
}) => {
  const longest = 'é'.repeat(255)
  await insertRow(pool, { thread_id: longest, idempotency_key: longest, priority: 100 })
  await insertRow(pool, { thread_id: 'x', idempotency_key: 'x', priority: -100 })
})
