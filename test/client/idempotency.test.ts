import { expect } from 'vitest'
import { IdempotencyConflictError, Inturn } from '../../src/index.ts'
import { test as base } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf, message, messagesOf } from './rows.ts'

const test = base.extend('inturn', { scope: 'file' }, async ({ url }, { onCleanup }) => {
  const inturn = new Inturn({ databaseUrl: url })
  onCleanup(() => inturn.close())
  return inturn
})

test('the same request again gives the operation that is there', async ({ inturn, pool }) => {
  const first = await inturn.enqueue(message('again', 'Hi', 'k'))
  const second = await inturn.enqueue(message('again', 'Hi', 'k'))
  expect(second.id).toBe(first.id)
  const elsewhere = await inturn.enqueue(message('elsewhere', 'Hi', 'k'))
  expect(elsewhere.id).not.toBe(first.id)
  expect(await messagesOf(pool, 'again')).toEqual(['Hi'])
})

test('data counts as the same whatever the order of its keys', async ({ inturn }) => {
  const row = { thread: 'keys', operation: 'create_run', idempotencyKey: 'k' } as const
  const a = await inturn.enqueue({ ...row, data: { model: 'm', temperature: 1 } })
  const b = await inturn.enqueue({ ...row, data: { temperature: 1, model: 'm' } })
  expect(b.id).toBe(a.id)
})

test('the key with other data or another kind is a conflict', async ({ inturn }) => {
  const { id } = await inturn.enqueue(message('conflict', 'Hi', 'k'))
  const other = await errorOf(inturn.enqueue(message('conflict', 'Bye', 'k')))
  expect(other).toBeInstanceOf(IdempotencyConflictError)
  expect(other).toMatchObject({ code: 'idempotency_conflict', operationId: id })
  const kind = await errorOf(inturn.thread('conflict').run({ model: 'm' }, { idempotencyKey: 'k' }))
  expect(kind.code).toBe('idempotency_conflict')
})

test('among many, new and existing ones keep their places', async ({ inturn, pool }) => {
  const before = await inturn.enqueue(message('mixed', 'b', 'b'))
  const handles = await inturn.enqueue([
    message('mixed', 'a', 'a'),
    message('mixed', 'b', 'b'),
    message('mixed', 'no key'),
    message('mixed', 'a', 'a'),
    message('other', 'a', 'a'),
  ])
  const ids = handles.map(({ id }) => id)
  expect(ids[1]).toBe(before.id)
  expect(ids[3]).toBe(ids[0])
  expect(new Set(ids).size).toBe(4)
  expect(await messagesOf(pool, 'mixed')).toEqual(['b', 'a', 'no key'])
  const { rows } = await pool.query('select id, data from thread_operations where id = any ($1)', [
    ids,
  ])
  const texts = new Map(rows.map((row) => [row.id, row.data.message]))
  expect(ids.map((id) => texts.get(id))).toEqual(['a', 'b', 'no key', 'a', 'a'])
})

test('one conflict among many keeps all of them out', async ({ inturn, pool }) => {
  await inturn.enqueue(message('all or none', 'a', 'a'))
  const batch = [message('all or none', 'new'), message('all or none', 'other', 'a')]
  expect((await errorOf(inturn.enqueue(batch))).code).toBe('idempotency_conflict')
  expect(await messagesOf(pool, 'all or none')).toEqual(['a'])
})

test('a conflict leaves the transaction it happened in usable', async ({ inturn, pool }) => {
  await inturn.enqueue(message('usable', 'a', 'a'))
  const transaction = await pool.connect()
  try {
    await transaction.query('begin')
    const again = await inturn.enqueue(message('usable', 'a', 'a'), { transaction })
    const one = inturn.enqueue(message('usable', 'b', 'a'), { transaction })
    expect((await errorOf(one)).code).toBe('idempotency_conflict')
    const batch = [message('usable', 'left out'), message('usable', 'b', 'a')]
    const many = inturn.enqueue(batch, { transaction })
    expect((await errorOf(many)).code).toBe('idempotency_conflict')
    await inturn.enqueue(message('usable', 'c'), { transaction })
    await transaction.query('commit')
    expect(await again.status()).toBe('pending')
  } finally {
    transaction.release()
  }
  expect(await messagesOf(pool, 'usable')).toEqual(['a', 'c'])
})

test('twenty at once with one key make one operation', async ({ inturn, pool }) => {
  const handles = await Promise.all(
    Array.from({ length: 20 }, () => inturn.enqueue(message('at once', 'Hi', 'k'))),
  )
  expect(new Set(handles.map(({ id }) => id)).size).toBe(1)
  expect(await messagesOf(pool, 'at once')).toEqual(['Hi'])
})

test('it waits for an open transaction with the key, and inserts when that is undone', async ({
  inturn,
  pool,
}) => {
  const transaction = await pool.connect()
  try {
    await transaction.query('begin')
    const undone = await inturn.enqueue(message('open', 'Hi', 'k'), { transaction })
    const enqueued = inturn.enqueue(message('open', 'Hi', 'k'))
    await waitFor(
      async () => {
        const { rowCount } = await pool.query(
          `select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'`,
        )
        return rowCount === 1
      },
      { message: 'the second waits' },
    )
    await transaction.query('rollback')
    expect((await enqueued).id).not.toBe(undone.id)
  } finally {
    transaction.release()
  }
  expect(await messagesOf(pool, 'open')).toEqual(['Hi'])
})
