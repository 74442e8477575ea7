import { expect } from 'vitest'
import { Inturn, InturnError, RefusedError } from '../../src/index.ts'
import { test as base, emptyDatabase } from '../support/database.ts'
import { errorOf, message, messagesOf } from './rows.ts'

const test = base.extend('inturn', { scope: 'file' }, async ({ url }, { onCleanup }) => {
  const inturn = new Inturn({ databaseUrl: url })
  onCleanup(() => inturn.close())
  return inturn
})

test('one operation joins the line of its thread', async ({ inturn, pool }) => {
  const handle = await inturn.enqueue({ ...message('one', 'Hi'), priority: 3 })
  expect(handle).toMatchObject({ threadId: 'one', operation: 'add_message' })
  const { rows } = await pool.query('select id, priority, data from thread_operations')
  expect(rows).toEqual([{ id: handle.id, priority: 3, data: { message: 'Hi' } }])
  expect(await handle.status()).toBe('pending')
})

test('a retry policy goes along, and a wrong one is refused', async ({ inturn, pool }) => {
  const retry = { max_attempts: 3, run: { max_attempts: 1 } }
  const [patient, plain] = await inturn.enqueue([
    { ...message('retry', 'a'), retry },
    message('retry', 'b'),
  ])
  const ids = [patient.id, plain.id]
  const { rows } = await pool.query(
    'select retry from thread_operations where id = any ($1) order by id',
    [ids],
  )
  expect(rows).toEqual([{ retry }, { retry: null }])
  const wrong = { ...message('retry', 'c'), retry: { run: { max_attempts: 0 } } }
  const error = await errorOf(inturn.enqueue(wrong))
  expect(error).toBeInstanceOf(RefusedError)
  expect(error.code).toBe('retry_policy_is_valid')
  expect(error.message).toContain('"run.max_attempts"')
})

test('many operations join in the order given, one handle each', async ({ inturn, pool }) => {
  const texts = Array.from({ length: 300 }, (_, i) => `message ${i}`)
  const handles = await inturn.enqueue(texts.map((text) => message('many', text)))
  const ids = handles.map(({ id }) => id)
  expect(ids).toEqual([...ids].sort((a, b) => a - b))
  expect(new Set(ids).size).toBe(300)
  expect(await messagesOf(pool, 'many')).toEqual(texts)
  expect(await inturn.enqueue([])).toEqual([])
})

test('of many operations, one that is refused keeps all of them out', async ({ inturn, pool }) => {
  const wrong = { ...message('refused', 'b'), priority: 101 }
  const error = await errorOf(inturn.enqueue([message('refused', 'a'), wrong]))
  expect(error).toBeInstanceOf(RefusedError)
  expect(error.code).toBe('priority_is_between_minus_100_and_100')
  expect(await messagesOf(pool, 'refused')).toEqual([])
})

test('a refusal has the name of what was broken, and says what to write', async ({ inturn }) => {
  const misspelt = { thread: 't', operation: 'add_message', data: { mesage: 'Hi' } }
  const unknown = await errorOf(inturn.enqueue(misspelt as never))
  expect(unknown).toBeInstanceOf(InturnError)
  expect(unknown).toMatchObject({
    name: 'RefusedError',
    code: 'operation_data_is_valid',
    message: 'unknown key "mesage" in data of add_message',
    hint: expect.stringContaining('Did you mean "message"?'),
  })
  const codes = [
    await errorOf(inturn.enqueue({ thread: 't', operation: 'add', data: {} } as never)),
    await errorOf(inturn.enqueue({ thread: 't', operation: 'add_message' } as never)),
    await errorOf(inturn.enqueue(message('', 'Hi'))),
    await errorOf(inturn.enqueue(message('t', 'Hi', ''))),
    await errorOf(inturn.enqueue(message('t', 'nul \0'))),
  ].map(({ code }) => code)
  expect(codes).toEqual([
    'operation_is_known',
    'operation_data_is_valid',
    'thread_id_has_1_to_255_characters',
    'idempotency_key_has_1_to_255_characters',
    'value_is_not_storable',
  ])
})

test('a closed thread takes no more operations', async ({ inturn, pool }) => {
  await pool.query(`insert into threads (id, closed_at) values ('closed', now())`)
  const error = await errorOf(inturn.enqueue(message('closed', 'Hi')))
  expect(error.code).toBe('thread_is_open')
})

test('a database without our tables is told apart', async () => {
  await using empty = await emptyDatabase()
  await using inturn = new Inturn({ databaseUrl: empty.url })
  const error = await errorOf(inturn.enqueue(message('t', 'Hi')))
  expect(error.code).toBe('not_migrated')
})

test('either a URL or a pool is needed, and a schema that can be one', ({ pool, url }) => {
  expect(() => new Inturn({} as never)).toThrow('either a databaseUrl or a pool, not neither')
  expect(() => new Inturn({ databaseUrl: url, pool } as never)).toThrow('not both')
  expect(() => new Inturn({ databaseUrl: '' })).toThrow('not neither')
  expect(() => new Inturn({ pool, schema: 'no-name' })).toThrow('no usable schema name')
})
