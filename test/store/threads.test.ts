import type pg from 'pg'
import { describe, expect } from 'vitest'
import { settleAndClaim } from '../../src/store/claim.ts'
import { type Fence, noteThread } from '../../src/store/threads.ts'
import { test } from '../support/database.ts'
import { withTransaction } from '../support/transaction.ts'
import { waitFor } from '../support/wait-for.ts'

const never = new AbortController().signal

/** The claim of the only operation of a new thread. */
async function claimed(pool: pg.Pool, thread_id: string): Promise<Fence> {
  await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     values ($1, 'add_message', '{"message": "Hi"}')`,
    [thread_id],
  )
  const round = {
    settlements: [],
    emptied: [],
    free: 1,
    providers: [''],
    defaultProvider: 'responses',
    priorities: [0],
    floors: null,
    awake: false,
    prepared: false,
  }
  const client = await pool.connect()
  const { claimed } = await settleAndClaim(client, 'd', round).finally(() => client.release())
  const { id, attempts } = claimed[0] ?? { id: 0, attempts: 0 }
  return { dispatcherId: 'd', id, attempts, thread_id }
}

const thread = async (pool: pg.Pool, id: string) =>
  (await pool.query('select * from threads where id = $1', [id])).rows[0]

describe('what is learned of a thread', () => {
  test('is written down, and what is not said stays', async ({ pool }) => {
    const fence = await claimed(pool, 'facts')
    await noteThread(pool, fence, { provider_thread_id: 'conv_1', last_item_id: 'msg_1' }, never)
    await noteThread(pool, fence, { metadata: { a: 'b' } }, never)
    expect(await thread(pool, 'facts')).toMatchObject({
      provider: 'responses',
      provider_thread_id: 'conv_1',
      last_item_id: 'msg_1',
      metadata: { a: 'b' },
    })
    await noteThread(pool, fence, { last_item_id: null }, never)
    expect(await thread(pool, 'facts')).toMatchObject({
      provider_thread_id: 'conv_1',
      last_item_id: null,
    })
  })

  test('is not written by those who lost the claim', async ({ pool }) => {
    const fence = await claimed(pool, 'late')
    await noteThread(pool, { ...fence, attempts: 0 }, { last_item_id: 'late' }, never)
    await noteThread(pool, { ...fence, dispatcherId: 'x' }, { last_item_id: 'late' }, never)
    expect(await thread(pool, 'late')).toMatchObject({ last_item_id: null })
  })

  test('waits for a row that is held, without holding up its owner', async ({ pool }) => {
    const fence = await claimed(pool, 'held')
    const noting = await withTransaction(pool, async (client) => {
      await client.query(`update threads set metadata = '{"by": "user"}' where id = 'held'`)
      const noting = { done: noteThread(pool, fence, { last_item_id: 'msg_1' }, never) }
      await client.query(`select from threads where id = 'held' for update`)
      expect(await thread(pool, 'held')).toMatchObject({ last_item_id: null })
      return noting
    })
    await noting.done
    expect(await thread(pool, 'held')).toMatchObject({
      last_item_id: 'msg_1',
      metadata: { by: 'user' },
    })
  })

  test('is given up when the claim is called off', async ({ pool }) => {
    const fence = await claimed(pool, 'called off')
    const abort = new AbortController()
    await withTransaction(pool, async (client) => {
      await client.query(`select from threads where id = 'called off' for update`)
      const noting = noteThread(pool, fence, { last_item_id: 'msg_1' }, abort.signal)
      const refused = expect(noting).rejects.toThrow(/abort/i)
      abort.abort()
      await refused
    })
    expect(await thread(pool, 'called off')).toMatchObject({ last_item_id: null })
  })

  test('outlives a connection that breaks', async ({ pool }) => {
    const fence = await claimed(pool, 'broken')
    const abort = new AbortController()
    const noting = await withTransaction(pool, async (client) => {
      await client.query(`select from threads where id = 'broken' for update`)
      const noting = { done: noteThread(pool, fence, { last_item_id: 'msg_1' }, abort.signal) }
      await waitFor(async () => {
        const { rowCount } = await pool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
            where query like '%jsonb_populate_record%' and pid <> pg_backend_pid()
              and datname = current_database()`,
        )
        return rowCount
      })
      return noting
    })
    await noting.done
    expect(await thread(pool, 'broken')).toMatchObject({ last_item_id: 'msg_1' })
  })

  test('is refused at once where it cannot be written at all', async ({ pool }) => {
    const fence = await claimed(pool, 'wrong')
    const facts = { provider: 'nobody' as 'responses' }
    await expect(noteThread(pool, fence, facts, never)).rejects.toMatchObject({ code: '23514' })
  })
})
