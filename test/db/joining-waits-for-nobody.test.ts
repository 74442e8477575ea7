import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow, moveTo, readRow } from '../support/line.ts'
import { withClient } from '../support/query.ts'
import { waitFor } from '../support/wait-for.ts'

const isolationLevels = ['read committed', 'repeatable read', 'serializable']

/** An insert that would rather fail than wait for a lock. */
async function insertAtOnce(url: string, threadId: string): Promise<void> {
  await withClient(url, async (client) => {
    await client.query(`set lock_timeout = '100ms'`)
    await insertRow(client, { thread_id: threadId })
  })
}

describe.for(isolationLevels)('an INSERT under %s', (isolation) => {
  test('joins, and marks the head of an empty line', async ({ url }) => {
    await withClient(url, async (client) => {
      await client.query(`begin isolation level ${isolation}`)
      const thread = { thread_id: `${isolation} alone` }
      const head = await insertRow(client, thread)
      const next = await insertRow(client, thread)
      await client.query('commit')
      expect([head.ready_at !== null, next.ready_at !== null]).toEqual([true, false])
    })
  })

  test('stands behind everything that was committed before it, also with an old snapshot', async ({
    url,
    pool,
  }) => {
    const thread = { thread_id: `${isolation} old snapshot` }
    await withClient(url, async (client) => {
      await client.query(`begin isolation level ${isolation}`)
      await client.query('select 1 from threads')
      const earlier = await insertRow(pool, thread)
      const later = await insertRow(client, thread)
      await client.query('commit')
      expect(Number(later.place)).toBeGreaterThan(earlier.place)
    })
  })

  test('waits for no open transaction that has inserted into the same line', async ({ url }) => {
    const thread = { thread_id: `${isolation} long` }
    await withClient(url, async (client) => {
      await client.query(`begin isolation level ${isolation}`)
      await insertRow(client, thread)
      await insertAtOnce(url, thread.thread_id)
      await insertRow(client, thread)
      await client.query('commit')
    })
  })

  test('waits for nobody who holds the rows of its line and its thread', async ({ url, pool }) => {
    const thread = { thread_id: `${isolation} held` }
    const head = await insertRow(pool, thread)
    await pool.query('insert into threads (id) values ($1)', [thread.thread_id])
    await withClient(url, async (client) => {
      await client.query('begin')
      await client.query('select from threads where id = $1 for update', [thread.thread_id])
      await client.query('delete from threads where id = $1', [thread.thread_id])
      await client.query(`update thread_operations set status = 'cancelled' where id = $1`, [
        head.id,
      ])
      await withClient(url, async (inserter) => {
        await inserter.query(`set lock_timeout = '100ms'`)
        await inserter.query(`begin isolation level ${isolation}`)
        await insertRow(inserter, thread)
        await inserter.query('commit')
      })
      await client.query('rollback')
    })
  })
})

describe('an idempotency key', () => {
  const request = { idempotency_key: 'request 1' }

  test('that is taken is refused by a constraint with a name', async ({ pool }) => {
    await insertRow(pool, { thread_id: 'key taken', ...request })
    await expect(insertRow(pool, { thread_id: 'key taken', ...request })).rejects.toMatchObject({
      code: '23505',
      constraint: 'idempotency_key_is_unique_per_thread',
    })
  })

  test('is taken for its own thread alone, and also by a final operation', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'key here', ...request })
    await insertRow(pool, { thread_id: 'key there', ...request })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'completed')
    await expect(insertRow(pool, { thread_id: 'key here', ...request })).rejects.toThrow()
  })

  test('may be left out by any number of rows', async ({ pool }) => {
    await insertRow(pool, { thread_id: 'no key' })
    await insertRow(pool, { thread_id: 'no key', idempotency_key: null })
  })

  test.for(['', '(thread_id, idempotency_key) where idempotency_key is not null'])(
    'that is taken is left alone by ON CONFLICT %s DO NOTHING',
    async (target, { pool }) => {
      const insert = () =>
        pool.query(
          `insert into thread_operations (thread_id, operation, data, idempotency_key)
         values ('on conflict ${target}', 'add_message', '{"message": "Hi"}', 'a key')
         on conflict ${target} do nothing returning id`,
        )
      expect((await insert()).rowCount).toBe(1)
      expect((await insert()).rowCount).toBe(0)
      expect((await insert()).rowCount).toBe(0)
    },
  )

  describe('of another open transaction is the one thing that an INSERT waits for', () => {
    const endings = [
      ['commit', 'is refused'],
      ['rollback', 'joins'],
    ] as const
    test.for(endings)('until the %s there, when it %s', async ([ending, then], { url, pool }) => {
      const row = { thread_id: `key until ${ending}`, ...request }
      await withClient(url, async (first) => {
        await withClient(url, async (second) => {
          await first.query('begin')
          await insertRow(first, row)
          const result = insertRow(second, row).then(
            () => 'joins',
            (error: pg.DatabaseError) => error.code === '23505' && 'is refused',
          )
          await waitFor(() => isWaiting(pool, second), { message: 'the second INSERT waits' })
          await first.query(ending)
          expect(await result).toBe(then)
        })
      })
    })
  })

  test('of an open transaction on another thread is waited for by nobody', async ({ url }) => {
    await withClient(url, async (first) => {
      await withClient(url, async (second) => {
        await first.query('begin')
        await insertRow(first, { thread_id: 'key of one', ...request })
        await second.query(`set lock_timeout = '100ms'`)
        const { id } = await insertRow(second, { thread_id: 'key of another', ...request })
        expect(await readRow(second, id)).toMatchObject(request)
      })
    })
  })
})

async function isWaiting(pool: pg.Pool, client: pg.Client): Promise<boolean> {
  const { rows } = await pool.query(
    'select cardinality(pg_blocking_pids($1)) > 0 as waiting',
    // The process id is no part of the typings.
    [(client as unknown as { processID: number }).processID],
  )
  return rows[0].waiting
}
