import { expect } from 'vitest'
import type { StoredItem } from '../../src/model/stored-item.ts'
import {
  addArchivePage,
  beginArchive,
  compareArchivePage,
  completeArchive,
} from '../../src/store/archives.ts'
import { completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'

const item = (n: number, said_at: string | null = null): StoredItem => ({
  id: `msg_${n}`,
  type: 'message',
  role: 'user',
  text: `message ${n}`,
  content: [{ type: 'text', text: `message ${n}` }],
  attachments: [],
  run_id: null,
  metadata: null,
  said_at,
  item: { id: `msg_${n}` },
})

const facts = { reason: 'requested', metadata: {}, lastItemId: 'msg_2' }

test('a dispatcher that has lost its claim writes nothing of an archive', async ({
  pool,
  connected,
}) => {
  await pool.query(
    `insert into threads (id, provider, provider_thread_id) values ('a', 'responses', 'conv_1')`,
  )
  await pool.query(
    `insert into thread_operations (thread_id, operation) values ('a', 'archive_thread')`,
  )
  const one = await HandDriven.signOn(await connected(), 'one')
  const other = await HandDriven.signOn(await connected(), 'other')
  const lost = await one.claimOnly()
  const stale = { dispatcherId: 'one', id: lost.id, attempts: lost.attempts }
  expect(await beginArchive(pool, stale, 'conv_1')).toMatchObject({
    archiving: { provider_thread_id: 'conv_1', turn: 1, after: null, position: 0 },
  })
  await addArchivePage(pool, stale, [item(1)], 'msg_1')
  await one.settle(lost, retryIn(0))

  expect(await addArchivePage(pool, stale, [item(2)], 'msg_2')).toBeNull()
  expect(await beginArchive(pool, stale, 'conv_1')).toBeNull()
  expect(await completeArchive(pool, stale, facts)).toBeNull()
  const claimed = await other.claimOnly()
  expect(await addArchivePage(pool, stale, [item(2)], 'msg_2')).toBeNull()
  expect(await completeArchive(pool, stale, facts)).toBeNull()
  const stored = () => pool.query('select item_id from archived_messages order by position')
  expect((await stored()).rows).toEqual([{ item_id: 'msg_1' }])

  const own = { dispatcherId: 'other', id: claimed.id, attempts: claimed.attempts }
  expect(claimed.progress?.archiving).toMatchObject({ after: 'msg_1', position: 1 })
  // Sent once more, because its answer was lost.
  for (let i = 0; i < 2; i++)
    expect(await addArchivePage(pool, own, [item(2)], 'msg_2')).toMatchObject({
      archiving: { after: 'msg_2', position: 2 },
    })
  expect((await stored()).rows).toEqual([{ item_id: 'msg_1' }, { item_id: 'msg_2' }])
  const first = await completeArchive(pool, own, facts)
  expect(first).toMatchObject({ archived: { items: 2, last_item_id: 'msg_2', turn: 1 } })
  expect(await completeArchive(pool, own, facts)).toEqual(first)
  expect((await pool.query('select from thread_archives')).rowCount).toBe(1)
  await other.settle(claimed, {
    ...completed,
    result: { provider_thread_id: 'conv_1', items: 2 },
  } as typeof completed)
  await expectHealthy(pool)
})

test('a second look finds any difference, and none where only the order within a second is another', async ({
  pool,
}) => {
  const store = async (archive: number, items: StoredItem[]) => {
    for (const [i, one] of items.entries())
      await pool.query(
        `insert into archived_messages (archive_id, position, item_id, type, said_at, item) values ($1, $2, $3, 'message', $4, $5)`,
        [archive, i + 1, one.id, one.said_at, one.item],
      )
  }
  const plain = [item(1), item(2), item(3)]
  await store(1, plain)
  const compare = (archive: number, position: number, items: StoredItem[]) =>
    compareArchivePage(pool, archive, position, items)
  expect(await compare(1, 0, plain)).toBe(3)
  expect(await compare(1, 0, plain.slice(0, 2))).toBe(2)
  expect(await compare(1, 2, [item(3)])).toBe(3)
  expect(await compare(1, 0, [])).toBe(0)
  expect(await compare(1, 0, [item(2), item(1), item(3)])).toBeNull()
  expect(await compare(1, 0, [...plain, item(4)])).toBeNull()
  expect(await compare(1, 0, [item(1), item(3)])).toBeNull()
  expect(
    await compare(1, 0, [item(1), { ...item(2), item: { id: 'msg_2', text: 'other' } }]),
  ).toBeNull()

  const [early, late] = ['2026-01-01T00:00:01.000Z', '2026-01-01T00:00:02.000Z']
  const tied = [item(1, early), item(2, early), item(3, late), item(4, late)]
  await store(2, tied)
  expect(await compare(2, 0, tied)).toBe(4)
  expect(
    await compare(
      2,
      0,
      [1, 0, 3, 2].map((i) => tied[i] as StoredItem),
    ),
  ).toBe(4)
  expect(
    await compare(2, 0, [item(1, early), item(2, early), item(3, late), item(5, late)]),
  ).toBeNull()
  // One of the page before is listed again.
  expect(await compare(2, 2, [item(1, early), item(3, late), item(4, late)])).toBe(4)
})
