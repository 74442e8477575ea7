import pg from 'pg'
import { expect } from 'vitest'
import { createPrisma } from '../../src/db/prisma.ts'
import { Inturn, RefusedError } from '../../src/index.ts'
import { test as base } from '../support/database.ts'
import { errorOf, message, messagesOf } from './rows.ts'
import { serve } from './serving.ts'

const test = base
  .extend('inturn', { scope: 'file' }, async ({ url }, { onCleanup }) => {
    const inturn = new Inturn({ databaseUrl: url })
    onCleanup(() => inturn.close())
    return inturn
  })
  .extend('prisma', { scope: 'file' }, async ({ pool }) => createPrisma(pool))

test("rows join the caller's transaction and go with it", async ({ inturn, url, pool }) => {
  const transaction = new pg.Client(url)
  await transaction.connect()
  try {
    await transaction.query('begin')
    const { id } = await inturn.enqueue(message('pg', 'undone'), { transaction })
    expect(id).toBeTypeOf('number')
    expect(await messagesOf(pool, 'pg')).toEqual([])
    await transaction.query('rollback')
    await transaction.query('begin')
    await inturn.enqueue([message('pg', 'a'), message('pg', 'b', 'k')], { transaction })
    await transaction.query('commit')
  } finally {
    await transaction.end()
  }
  expect(await messagesOf(pool, 'pg')).toEqual(['a', 'b'])
})

test('a Prisma transaction that fails takes its rows with it', async ({ inturn, prisma, pool }) => {
  const failing = prisma.$transaction(async (transaction) => {
    await inturn.enqueue(message('prisma undone', 'Hi'), { transaction })
    throw new Error('on purpose')
  })
  await expect(failing).rejects.toThrow('on purpose')
  expect(await messagesOf(pool, 'prisma undone')).toEqual([])
})

test('operations of a Prisma transaction are served after its commit', async ({
  inturn,
  prisma,
  pool,
  url,
}) => {
  await using _line = await serve(pool, url)
  const handles = await prisma.$transaction(async (transaction) => {
    const first = await inturn.thread('prisma').addMessage('a', { transaction })
    const batch = [message('prisma', 'b', 'b'), message('prisma', 'b', 'b')]
    return [first, ...(await inturn.enqueue(batch, { transaction }))]
  })
  expect(handles.map(({ id }) => typeof id)).toEqual(['number', 'number', 'number'])
  const results = await Promise.all(handles.map((handle) => handle.result({ timeoutMs: 10_000 })))
  expect(results.map(({ text }) => text)).toEqual(['You said: a', 'You said: b', 'You said: b'])
})

test('in a Prisma transaction conflicts can be caught, and refusals say what to write', async ({
  inturn,
  prisma,
  pool,
}) => {
  await inturn.enqueue(message('prisma keys', 'a', 'a'))
  await prisma.$transaction(async (transaction) => {
    const batch = [message('prisma keys', 'left out'), message('prisma keys', 'b', 'a')]
    const conflict = await errorOf(inturn.enqueue(batch, { transaction }))
    expect(conflict.code).toBe('idempotency_conflict')
    await inturn.enqueue(message('prisma keys', 'c'), { transaction })
  })
  expect(await messagesOf(pool, 'prisma keys')).toEqual(['a', 'c'])
  const refused = prisma.$transaction((transaction) =>
    inturn.enqueue(message('', 'Hi'), { transaction }),
  )
  const error = await errorOf(refused)
  expect(error).toBeInstanceOf(RefusedError)
  expect(error).toMatchObject({
    code: 'refused',
    message: 'thread_id must have 1 to 255 characters, not 0',
    hint: expect.stringContaining('any name of yours'),
  })
})

test('what is no open transaction is refused before anything is sent', async ({
  inturn,
  prisma,
  pool,
}) => {
  for (const transaction of [prisma, pool as never, {} as never]) {
    const error = await errorOf(inturn.enqueue(message('beside', 'Hi'), { transaction }))
    expect(error.code).toBe('transaction_invalid')
  }
  expect(await messagesOf(pool, 'beside')).toEqual([])
})
