import { expect } from 'vitest'
import { Inturn } from '../../src/index.ts'
import { startLine } from '../operations/line.ts'
import { insertArchive } from '../support/archive-rows.ts'
import { test as base } from '../support/own-database.ts'
import { errorOf } from './rows.ts'

const test = base.extend('inturn', async ({ url }, { onCleanup }) => {
  const inturn = new Inturn({ databaseUrl: url })
  onCleanup(() => inturn.close())
  return inturn
})

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const read: T[] = []
  for await (const item of items) read.push(item)
  return read
}

test('a thread is archived, found among the archives and read', async ({ inturn, pool }) => {
  await startLine(pool, 'responses')
  const thread = inturn.thread('user:1')
  await thread.addMessage('one')
  await thread.addMessage('two')
  const operation = await thread.archive({ reason: 'because', idempotencyKey: 'k' })
  const { archive_id, items } = await operation.result()
  expect(items).toBe(2)
  expect(await inturn.archives()).toEqual([
    expect.objectContaining({
      id: archive_id,
      thread_id: 'user:1',
      operation_id: operation.id,
      reason: 'because',
      messages: 2,
      input_tokens: null,
      archived_at: expect.any(Date),
    }),
  ])
  const read = await all(inturn.readArchive(archive_id as number))
  expect(read.map(({ position, role, text }) => [position, role, text])).toEqual([
    [1, 'user', 'one'],
    [2, 'user', 'two'],
  ])
  expect(
    (
      await inturn
        .thread('nobody')
        .archive()
        .then((one) => one.result())
    ).items,
  ).toBe(0)
})

test('archives are listed by thread and by user, newest first, page by page', async ({
  inturn,
  pool,
}) => {
  const ids: number[] = []
  for (let i = 0; i < 6; i++)
    ids.unshift(await insertArchive(pool, `t${i % 2}`, { items: 1, user: i < 3 ? 'ann' : null }))
  const listed = async (filter?: Parameters<Inturn['archives']>[0]) =>
    (await inturn.archives(filter)).map(({ id }) => id)
  expect(await listed()).toEqual(ids)
  expect(await listed({ limit: 2 })).toEqual(ids.slice(0, 2))
  expect(await listed({ limit: 2, before: ids[1] })).toEqual(ids.slice(2, 4))
  expect(await listed({ thread: 't1' })).toEqual([ids[0], ids[2], ids[4]])
  expect(await listed({ user: 'ann' })).toEqual(ids.slice(3))
  expect(await listed({ thread: 't1', user: 'ann' })).toEqual([ids[4]])
  expect(await listed({ thread: 'none' })).toEqual([])
})

test('an archive is read to its end, in order, however long it is', async ({ inturn, pool }) => {
  const id = await insertArchive(pool, 't', { items: 1_050 })
  let read = 0
  for await (const { position, text, said_at } of inturn.readArchive(id))
    expect([position, text, said_at]).toEqual([++read, `message ${read}`, null])
  expect(read).toBe(1_050)
})

test('an archive that is not there, or deleted while it is read, is told', async ({
  inturn,
  pool,
}) => {
  const missing = await errorOf(inturn.readArchive(4711).next())
  expect(missing).toMatchObject({ code: 'archive_not_found', message: 'There is no archive 4711.' })
  expect(missing.hint).toContain('inturn archives')
  const id = await insertArchive(pool, 't', { items: 250 })
  const reading = inturn.readArchive(id)
  await reading.next()
  await pool.query('delete from archived_messages')
  const cut = await errorOf(all(reading))
  expect(cut).toMatchObject({
    code: 'archive_not_found',
    message: `Archive ${id} was deleted while it was read.`,
  })
})
