import type pg from 'pg'
import { describe, expect } from 'vitest'
import {
  giveBackOperations,
  noteProgress,
  settleNoted,
  sweepLines,
} from '../../src/store/release.ts'
import { completed, HandDriven, isBlocked, retryIn } from '../support/hand-driven.ts'
import { asLine, insertRow, readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const held = { thread_id: 'held' }
const cancel = `update thread_operations set status = 'cancelled' where id = $1`
const lock = 'select 1 from thread_operations where id = $1 for update'
const sweep = (pool: pg.Pool) => sweepLines(pool, 'sweeper', '', 1000)
const threads = (claimed: { thread_id: string }[]) => claimed.map(({ thread_id }) => thread_id)

/** 20 lines of two operations each, which must get on whatever happens to `held`. */
async function insertOthers(pool: pg.Pool): Promise<void> {
  await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     select 'other ' || i % 20, 'add_message', '{"message": "Hi"}' from generate_series(1, 40) i`,
  )
}

/** Serves all that can be served, a few at a time; the threads in the order of their starts. */
async function serveAll(d: HandDriven): Promise<string[]> {
  const started: string[] = []
  for (let round = await d.round(); round.claimed.length > 0 || round.fullHouse; ) {
    started.push(...threads(round.claimed))
    round = await d.settle(round.claimed, completed, { free: 10 })
  }
  return started
}

/** Others get all their turns, and `held` gets `heldTurns` of its own. */
async function expectOthersServed(d: HandDriven, heldTurns = 0): Promise<void> {
  const started = await serveAll(d)
  expect(started.filter((thread) => thread !== 'held')).toHaveLength(40)
  expect(started.filter((thread) => thread === 'held')).toHaveLength(heldTurns)
}

describe('an idle transaction stalls at most the threads whose rows it holds:', () => {
  test('one that has inserted into a thread stalls nobody', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    await user.query('begin')
    await insertRow(user, held)
    await insertRow(pool, held)
    await insertOthers(pool)
    await expectOthersServed(d, 1)
    await user.query('commit')
    expect(await serveAll(d)).toEqual(['held'])
  })

  test.for(['commit', 'rollback'])(
    'one that cancelled a head, until its %s',
    async (end, { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      const user = await connected()
      const head = await insertRow(pool, held)
      await insertRow(pool, held)
      await insertOthers(pool)
      await user.query('begin')
      await user.query(cancel, [head.id])
      await expectOthersServed(d)
      expect((await sweep(pool)).marked).toBe(0)
      await user.query(end)
      expect(await serveAll(d)).toEqual(end === 'commit' ? ['held'] : ['held', 'held'])
    },
  )

  test('one that locked a head', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const head = await insertRow(pool, held)
    await insertRow(pool, held)
    await insertOthers(pool)
    await user.query('begin')
    await user.query(lock, [head.id])
    await expectOthersServed(d)
    await user.query('rollback')
    expect(await serveAll(d)).toEqual(['held', 'held'])
  })

  test('one that locked an operation in the middle, which is never passed over', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const rows = [await insertRow(pool, held), await insertRow(pool, held)]
    await insertRow(pool, held)
    await insertOthers(pool)
    await user.query('begin')
    await user.query(lock, [rows[1]?.id])
    await expectOthersServed(d, 1)
    expect((await sweep(pool)).marked).toBe(0)
    await user.query('rollback')
    expect((await sweep(pool)).marked).toBe(1)
    expect(await serveAll(d)).toEqual(['held', 'held'])
  })

  test('one that locked many in the middle: next ones of other threads settled in the same round start all the same', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    await insertRow(pool, held)
    await insertOthers(pool)
    const claimed = await d.claim({ free: 50 })
    expect(claimed).toHaveLength(21)
    const next = await insertRow(pool, held)
    await user.query('begin')
    await user.query(lock, [next.id])
    const round = await d.settle(claimed, completed, { free: 50 })
    const then = [...round.claimed, ...(await d.claim({ free: 50 }))]
    expect(new Set(threads(then)).size).toBe(20)
  })

  test.for([
    'select 1 from threads for update',
    `update threads set metadata = '{"a": "b"}'`,
    'delete from threads',
  ])('one that holds the rows of threads stalls nobody: %s', async (hold, { pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    await insertRow(pool, held)
    await d.settle(await d.claimOnly())
    await insertRow(pool, held)
    await insertOthers(pool)
    await user.query('begin')
    await user.query(`${hold}${hold.includes('for update') ? '' : ` where id = 'held'`}`)
    await expectOthersServed(d, 1)
  })

  test('ones that inserted threads of the same ids', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    await user.query('begin')
    for (let i = 0; i < 10; i++) {
      await user.query('insert into threads (id) values ($1)', [`held ${i}`])
      await insertRow(pool, { thread_id: `held ${i}` })
    }
    await insertOthers(pool)
    const started = await serveAll(d)
    expect(started.filter((thread) => thread.startsWith('other'))).toHaveLength(40)
    expect(started).toHaveLength(40)

    await user.query('commit')
    const late = await waitFor(async () => {
      const claimed = await d.claim()
      return claimed.length > 0 && claimed
    })
    expect(threads(late)).toContain('held 0')
  })

  test('one that holds an idempotency key stalls only who sends the same key', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [user, second] = [await connected(), await connected()]
    await user.query('begin')
    await insertRow(user, { ...held, idempotency_key: 'k' })
    const waiting = insertRow(second, { ...held, idempotency_key: 'k' })
    await waitFor(() => isBlocked(pool, second))
    await insertRow(pool, { ...held, idempotency_key: 'another' })
    await insertOthers(pool)
    await expectOthersServed(d, 1)
    await user.query('rollback')
    await waiting
    expect(await serveAll(d)).toEqual(['held'])
  })

  test('one that holds what a sign-off would give back', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    await insertRow(pool, held)
    await insertRow(pool, { thread_id: 'free' })
    const claimed = await d.claim()
    await user.query('begin')
    await user.query(lock, [claimed.find((c) => c.thread_id === 'held')?.id])
    const back = await giveBackOperations(pool, d.id, claimed)
    expect(back).toEqual([claimed.find((c) => c.thread_id === 'free')?.id])
  })
})

describe('an outcome that cannot be settled because somebody holds the row', () => {
  const notes = async (pool: pg.Pool) =>
    (await pool.query('select operation_id from unsettled_outcomes order by 1')).rows.map(
      (row) => row.operation_id,
    )

  test('is noted at once, holds up no other settle of its round, and is settled later by anybody', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const { id } = await insertRow(pool, held)
    const next = await insertRow(pool, held)
    await insertOthers(pool)
    const claimed = await d.claim({ free: 30 })
    await user.query('begin')
    await user.query(lock, [id])

    const round = await d.settle(claimed)
    expect(round.late).toBe(0)
    expect(await notes(pool)).toEqual([id])
    const { rows } = await pool.query(
      `select count(*) from thread_operations where status = 'completed'`,
    )
    expect(rows[0].count).toBe(20)
    expect(await settleNoted(pool, 10)).toBe(0)
    expect(await serveAll(d)).not.toContain('held')

    await user.query('rollback')
    expect(await settleNoted(pool, 10)).toBe(1)
    expect(await notes(pool)).toEqual([])
    expect((await readRow(pool, id)).status).toBe('completed')
    const { rows: ledger } = await pool.query(
      `select actor from operation_events where operation_id = $1 and to_status = 'completed'`,
      [id],
    )
    expect(ledger).toEqual([{ actor: d.id }])
    expect(await d.claimOnly()).toMatchObject({ id: next.id, turn: 2 })
  })

  test('is not given back to others: it is done', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const { id } = await insertRow(pool, held)
    const claimed = await d.claimOnly()
    await user.query('begin')
    await user.query(lock, [id])
    await d.settle(claimed, retryIn(60_000))
    await user.query('rollback')
    await pool.query('delete from dispatchers')
    const { rows } = await pool.query(`select release_lost_operations('d2') as released`)
    expect(rows).toEqual([{ released: [] }])
    expect(await settleNoted(pool, 10)).toBe(1)
    expect((await readRow(pool, id)).status).toBe('pending')
  })

  test('is not hidden by any number of those that are still held', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const [long, short] = [await connected(), await connected()]
    const brief = await insertRow(pool, { thread_id: 'brief' })
    await insertOthers(pool)
    const claimed = await d.claim({ free: 30 })
    await long.query('begin')
    await long.query('select 1 from thread_operations where id <> $1 for update', [brief.id])
    await short.query('begin')
    await short.query(lock, [brief.id])
    await d.settle(claimed.filter(({ id }) => id !== brief.id))
    await d.settle(claimed.filter(({ id }) => id === brief.id))
    expect(await notes(pool)).toHaveLength(21)
    await short.query('rollback')
    expect(await settleNoted(pool, 5)).toBe(1)
    expect((await readRow(pool, brief.id)).status).toBe('completed')
  })

  test('replaces the note of an earlier attempt that was settled another way', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const { id } = await insertRow(pool, held)
    const first = await d.claimOnly()
    await user.query('begin')
    await user.query(lock, [id])
    await d.settle(first, retryIn(0))
    await user.query('rollback')
    await d.settle(first, retryIn(0)) // the answer to the first try was lost
    const second = await d.claimOnly()
    await user.query('begin')
    await user.query(lock, [id])
    expect((await d.settle(second)).late).toBe(0)
    await user.query('rollback')
    expect(await settleNoted(pool, 10)).toBe(1)
    expect(await readRow(pool, id)).toMatchObject({ status: 'completed', attempts: 2 })
  })

  test('that came too late is not even noted', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const { id } = await insertRow(pool, held)
    const claimed = await d.claimOnly()
    await giveBackOperations(pool, d.id, [claimed])
    await user.query('begin')
    await user.query(lock, [id])
    expect((await d.settle(claimed)).late).toBe(1)
    expect(await notes(pool)).toEqual([])
  })

  test('waits no longer for a lock than it takes to note it, also to write down progress', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const { id } = await insertRow(pool, held)
    const claimed = await d.claimOnly()
    await user.query('begin')
    await user.query(lock, [id])
    await expect(noteProgress(pool, d.id, claimed, null, {})).rejects.toMatchObject({
      code: '55P03',
    })
  })
})

describe('a conflict in the claim', () => {
  test('over a turn costs at most that operation, not the settle of its round', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, { thread_id: 'settles' })
    const settles = await d.claimOnly()
    // Somebody wrote the next turn of the thread into a row that is not in the line yet.
    const odd = await insertRow(pool, held)
    await insertOthers(pool)
    const user = await connected()
    await user.query('begin')
    await user.query(`select set_config('inturn.line', 'on', true)`)
    await user.query(
      `insert into thread_operations (thread_id, operation, data) values ('held', 'add_message', '{"message": "Hi"}')`,
    )
    await user.query(
      `update thread_operations set turn = 1 where thread_id = 'held' and id <> $1`,
      [odd.id],
    )
    const { claimed } = await d.settle(settles, completed, { free: 30 })
    expect(threads(claimed)).not.toContain('held')
    expect(claimed).toHaveLength(20)
    expect((await readRow(pool, settles.id)).status).toBe('completed')
    await user.query('rollback')
    const late = await waitFor(async () => {
      const again = await d.claim()
      return again.length > 0 && again
    })
    expect(late.map(({ id }) => id)).toEqual([odd.id])
  })

  test('over the one active operation of a thread is settled by the database', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const started = await insertRow(pool, held)
    await d.claimOnly()
    await insertRow(pool, held)
    const both = asLine(pool, (line) =>
      line.query(
        `update thread_operations set status = 'processing', claimed_by = 'd2' where id <> $1`,
        [started.id],
      ),
    )
    await expect(both).rejects.toMatchObject({ constraint: 'one_active_operation_per_thread' })
  })

  test('with a transaction that starts the earlier one meanwhile starts nothing twice', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const other = await connected()
    const earlier = await insertRow(pool, held)
    const later = await insertRow(pool, held)
    // Both are marked, as after two overlapping inserts, and another dispatcher is starting the first.
    await asLine(pool, (line) =>
      line.query('update thread_operations set ready_at = now() where id = $1', [later.id]),
    )
    await pool.query(`insert into threads (id) values ('held')`)
    await other.query('begin')
    await other.query(
      `select set_config('inturn.line', 'on', true), set_config('inturn.actor', 'd2', true)`,
    )
    await other.query(`select start_operations('d2', array[$1::bigint], 'responses')`, [earlier.id])
    await insertOthers(pool)
    await expectOthersServed(d)
    await other.query('commit')
    expect(await serveAll(d)).toEqual([])
    expect(await readRow(pool, later.id)).toMatchObject({ status: 'pending', turn: null })
  })
})
