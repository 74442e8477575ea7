import type pg from 'pg'
import { describe, expect } from 'vitest'
import { sweepLines } from '../../src/store/release.ts'
import { completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { asLine, insertRow, readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'

const thread = { thread_id: 't' }
const sweep = (pool: pg.Pool) => sweepLines(pool, 'sweeper', '', 1000)
const isMarked = async (pool: pg.Pool, { id }: { id: number }) =>
  (await readRow(pool, id)).ready_at !== null

/** Makes the mark of an operation due now, as if its pause were over. */
const endPause = (pool: pg.Pool, { id }: { id: number }) =>
  asLine(pool, (line) =>
    line.query(
      `update thread_operations set ready_at = clock_timestamp() where id = $1 and ready_at is not null`,
      [id],
    ),
  )

describe('a head that nobody has marked', () => {
  test('because its INSERT overlapped the settle, is missed by the settle and found by the look at the emptied line', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const writer = await connected()
    await insertRow(pool, thread)
    const first = await d.claimOnly()

    await writer.query('begin')
    const next = await insertRow(writer, thread) // sees a busy line
    const settled = await d.settle(first)
    expect(settled.emptied).toEqual(['t'])
    const looked = await d.round({ emptied: ['t'] })
    expect(looked.claimed).toEqual([])
    // As long as the writer is among the open transactions, the line is looked at again.
    const { rows } = await writer.query('select pg_current_xact_id()::text as xid')
    expect(looked.oldestXid).toBeLessThanOrEqual(BigInt(rows[0].xid))
    expect(looked.nextXid).toBeGreaterThan(BigInt(rows[0].xid))
    await writer.query('commit')

    expect(await isMarked(pool, next)).toBe(false)
    expect(await d.claim()).toEqual([])
    const found = await d.round({ emptied: ['t'] })
    expect(found.claimed.map(({ id }) => id)).toEqual([next.id])
  })

  test('because its INSERT began while the settle was being committed, is found by the look as well', async ({
    pool,
    connected,
  }) => {
    const settler = await connected()
    const d = await HandDriven.signOn(settler)
    const writer = await connected()
    await insertRow(pool, thread)
    const first = await d.claimOnly()

    await settler.query('begin')
    const settled = await d.settle(first)
    expect(settled.emptied).toEqual(['t'])
    await writer.query('begin')
    const next = await insertRow(writer, thread) // sees a busy line; its transaction is the newest
    await settler.query('commit')
    const looked = await d.round({ emptied: ['t'] })
    const { rows } = await writer.query('select pg_current_xact_id()::text as xid')
    expect(looked.oldestXid).toBeLessThanOrEqual(BigInt(rows[0].xid))
    expect(looked.nextXid).toBeGreaterThan(BigInt(rows[0].xid))
    await writer.query('commit')
    expect((await d.round({ emptied: ['t'] })).claimed.map(({ id }) => id)).toEqual([next.id])
  })

  test('because it was inserted from an old REPEATABLE READ snapshot, is found by the sweep', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const writer = await connected()
    await insertRow(pool, thread)
    const first = await d.claimOnly()
    await writer.query('begin isolation level repeatable read')
    await writer.query('select 1 from threads')
    await d.settle(first)

    const next = await insertRow(writer, thread) // the line is empty, but not in its snapshot
    await writer.query('commit')
    expect(await d.claim()).toEqual([])
    expect(await sweep(pool)).toMatchObject({ seen: 1, marked: 1 })
    expect(await d.claimOnly()).toMatchObject({ id: next.id, turn: 2 })
  })

  test('because the one before it was cancelled meanwhile, is found by the sweep', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [one, two] = [await connected(), await connected()]
    const rows = [await insertRow(pool, thread), await insertRow(pool, thread)]
    const third = await insertRow(pool, thread)
    const cancel = `update thread_operations set status = 'cancelled' where id = $1`
    await one.query('begin')
    await two.query('begin')
    await two.query(cancel, [rows[1]?.id])
    await one.query(cancel, [rows[0]?.id]) // would mark the next one, but somebody holds it
    await one.query('commit')
    await two.query('commit')

    expect(await d.claim()).toEqual([])
    expect(await sweep(pool)).toMatchObject({ marked: 1 })
    expect(await d.claimOnly()).toMatchObject({ id: third.id })
  })

  test('is marked once, and a line whose first is marked or active is left alone', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, { thread_id: 'active' })
    await insertRow(pool, { thread_id: 'active' })
    await d.claimOnly()
    await insertRow(pool, { thread_id: 'waits' })
    expect(await sweep(pool)).toEqual({ lastThread: null, seen: 2, marked: 0 })
  })

  test('is found in passes of a few threads, however long their lines are', async ({ pool }) => {
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select 't' || i % 5, 'add_message', '{"message": "Hi"}' from generate_series(1, 200) i`,
    )
    await asLine(pool, (line) => line.query('update thread_operations set ready_at = null'))
    const first = await sweepLines(pool, 's', '', 3)
    expect(first).toEqual({ lastThread: 't2', seen: 3, marked: 3 })
    const second = await sweepLines(pool, 's', 't2', 3)
    expect(second).toEqual({ lastThread: null, seen: 2, marked: 2 })
  })

  test('is left alone while somebody holds it, and the other lines are not', async ({
    pool,
    connected,
  }) => {
    const held = await insertRow(pool, { thread_id: 'held' })
    const free = await insertRow(pool, { thread_id: 'free' })
    await asLine(pool, (line) => line.query('update thread_operations set ready_at = null'))
    const user = await connected()
    await user.query('begin')
    await user.query('select 1 from thread_operations where id = $1 for update', [held.id])
    expect(await sweep(pool)).toMatchObject({ seen: 2, marked: 1 })
    expect(await isMarked(pool, free)).toBe(true)
    await user.query('rollback')
    expect(await sweep(pool)).toMatchObject({ marked: 1 })
  })
})

describe('two heads of one line', () => {
  test.for(['the first to insert commits first', 'the second to insert commits first'])(
    'are served one after the other, in one order: %s',
    async (order, { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      const [one, two] = [await connected(), await connected()]
      await one.query('begin')
      await two.query('begin')
      const earlier = await insertRow(one, thread)
      const later = await insertRow(two, thread) // both see an empty line
      const inOrder = order.startsWith('the first')
      await (inOrder ? one : two).query('commit')
      await (inOrder ? two : one).query('commit')
      expect([await isMarked(pool, earlier), await isMarked(pool, later)]).toEqual([true, true])

      const claimed = await d.claimOnly()
      expect(claimed).toMatchObject({ id: earlier.id, turn: 1 })
      expect(await isMarked(pool, later)).toBe(false)
      const { claimed: then } = await d.settle(claimed, completed, { free: 10 })
      expect(then).toMatchObject([{ id: later.id, turn: 2 }])
    },
  )

  test('of which the later one was claimed before the earlier one was seen: that one stays first', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [one, two] = [await connected(), await connected()]
    await one.query('begin')
    const earlier = await insertRow(one, thread)
    const later = await insertRow(two, thread)
    const claimed = await d.claimOnly()
    expect(claimed.id).toBe(later.id)
    await one.query('commit')

    expect(await d.claim()).toEqual([]) // marked, but not first: the mark goes
    expect(await isMarked(pool, earlier)).toBe(false)
    const { claimed: then } = await d.settle(claimed, completed, { free: 10 })
    expect(then).toMatchObject([{ id: earlier.id, turn: 2 }])
  })

  test('in a claim that finds only the stale mark, give the first one its own', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const first = await insertRow(pool, thread)
    const second = await insertRow(pool, thread)
    await asLine(pool, async (line) => {
      await line.query('update thread_operations set ready_at = null where id = $1', [first.id])
      await line.query('update thread_operations set ready_at = now() where id = $1', [second.id])
    })
    expect(await d.claim()).toEqual([])
    expect(await d.claimOnly()).toMatchObject({ id: first.id })
  })

  test('of different priorities are still one line', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const [one, two] = [await connected(), await connected()]
    await one.query('begin')
    const usual = await insertRow(one, thread)
    await insertRow(two, { ...thread, priority: 50 })
    await one.query('commit')
    const claimed = await d.claim({ priorities: [50, 0] })
    expect(claimed.map(({ id }) => id)).toEqual([usual.id])
  })

  test('claimed by two dispatchers at the same moment start once', async ({ pool, connected }) => {
    const [d1, d2] = [
      await HandDriven.signOn(await connected(), 'd1'),
      await HandDriven.signOn(await connected(), 'd2'),
    ]
    const [one, two] = [await connected(), await connected()]
    for (let i = 0; i < 20; i++) {
      const name = { thread_id: `t${i}` }
      await one.query('begin')
      await two.query('begin')
      await insertRow(one, name)
      await insertRow(two, name)
      await two.query('commit')
      await one.query('commit')
    }
    const both = await Promise.all([d1.round({ free: 40 }), d2.round({ free: 40 })])
    const claimed = both.flatMap((round) => round.claimed)
    const { rows } = await pool.query(
      `select count(*) as active, count(distinct thread_id) as threads from thread_operations where status = 'processing'`,
    )
    expect(claimed.length).toBe(rows[0].active)
    expect(rows[0].threads).toBe(rows[0].active)
  })
})

describe('a started operation that waits for its next attempt', () => {
  test('stays first, also before an earlier one that is committed only now', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const writer = await connected()
    await writer.query('begin')
    const earlier = await insertRow(writer, thread)
    const started = await insertRow(pool, thread)
    const first = await d.claimOnly()
    expect(first.id).toBe(started.id)
    await d.settle(first, retryIn(60_000))
    await writer.query('commit')

    expect(await d.claim()).toEqual([]) // the earlier one has a mark, and no right to it
    expect((await sweep(pool)).marked).toBe(0)
    expect(await d.claim()).toEqual([])
    await endPause(pool, started)
    const second = await d.claimOnly()
    expect(second).toMatchObject({ id: started.id, turn: 1, attempts: 2 })
    const { claimed } = await d.settle(second, completed, { free: 1 })
    expect(claimed).toMatchObject([{ id: earlier.id, turn: 2 }])
  })

  test('is not served before its pause is over', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, thread)
    await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), retryIn(60_000))
    expect(await d.claim()).toEqual([])
    expect(await d.claim({ emptied: ['t'] })).toEqual([])
  })
})

describe('marks and the clock', () => {
  test('a mark in the future without a reason is pulled back by the sweep', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    await asLine(pool, (line) =>
      line.query(`update thread_operations set ready_at = now() + interval '1 hour'`),
    )
    expect(await d.claim()).toEqual([])
    expect(await sweep(pool)).toMatchObject({ marked: 1 })
    expect(await d.claimOnly()).toMatchObject({ id })
  })

  test('the future mark of a retry is left alone', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), retryIn(3_600_000))
    expect(await sweep(pool)).toMatchObject({ seen: 1, marked: 0 })
    expect(await d.claim()).toEqual([])
  })

  test('a retry that was settled by a clock that ran ahead is pulled back', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), retryIn(1000))
    // The guard writes updated_at itself, by the clock.
    await pool.query('alter table thread_operations disable trigger guard_operation')
    await asLine(pool, (line) =>
      line.query(
        `update thread_operations set ready_at = ready_at + interval '1 hour', updated_at = updated_at + interval '1 hour'`,
      ),
    )
    await pool.query('alter table thread_operations enable trigger guard_operation')
    expect(await sweep(pool)).toMatchObject({ marked: 1 })
    expect(await d.claimOnly()).toMatchObject({ id, attempts: 2 })
  })
})

describe('who is served first', () => {
  test('the oldest head within a priority, the higher priority before', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    for (const priority of [0, 5, 0, 5]) {
      await insertRow(pool, { thread_id: `p${priority} ${Math.random()}`, priority })
    }
    const claimed = await d.claim({ priorities: [5, 0], free: 3 })
    expect(claimed.map(({ id }) => id).sort()).toEqual([1, 2, 4])
  })

  test('a priority compares heads of threads and never overtakes within a line', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, { thread_id: 'a' })
    await insertRow(pool, { thread_id: 'b' })
    await insertRow(pool, { thread_id: 'b', priority: 100 })
    const claimed = await d.claim({ priorities: [100, 0], free: 1 })
    expect(claimed).toMatchObject([{ thread_id: 'a' }])
  })

  test('lines of a provider that nobody serves do not stand before others', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    for (let i = 0; i < 50; i++) {
      const thread_id = `thread_${String(i).padStart(24, '0')}` // an Assistants thread's own id
      await insertRow(pool, { thread_id })
    }
    const { id } = await insertRow(pool, thread)
    expect(await d.claim({ free: 1 })).toMatchObject([{ id, provider: 'responses' }])
    expect(await d.claim()).toEqual([])
    expect(await d.claim({ providers: ['assistants'], free: 50 })).toHaveLength(50)
  })

  test('a priority that was not looked at keeps its floor, so that its old heads are not passed over', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const old = await insertRow(pool, { thread_id: 'old' })
    await asLine(pool, (line) =>
      line.query(`update thread_operations set ready_at = now() - interval '1 minute'`),
    )
    await insertRow(pool, { thread_id: 'urgent', priority: 9 })
    const full = await d.round({ priorities: [9, 0], free: 1 })
    expect(full).toMatchObject({ fullHouse: true, claimed: [{ thread_id: 'urgent' }] })
    const next = await d.round({ priorities: [9, 0], free: 1, floors: full.floors })
    expect(next.claimed).toMatchObject([{ id: old.id }])
  })

  test('any priority that there is, where nobody says which', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    for (const priority of [-3, 42, 0])
      await insertRow(pool, { thread_id: `${priority}`, priority })
    const looked = await d.round({ priorities: null, free: 1 })
    expect(looked).toMatchObject({ claimed: [{ thread_id: '42' }], priorities: [42, 0, -3] })
    expect(await d.claim({ priorities: null })).toHaveLength(2)
    expect(await d.round({ priorities: null })).toMatchObject({ claimed: [], priorities: [0] })
  })

  test('who is urgent, also where his priority is new to the dispatcher', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    for (let i = 0; i < 9; i++) await insertRow(pool, { thread_id: `flood ${i}`, priority: -5 })
    const first = await d.round({ priorities: null, free: 2 })
    expect(first).toMatchObject({ priorities: [0, -5], claimed: [{ id: 1 }, { id: 2 }] })
    const known = { priorities: first.priorities, floors: first.floors }
    const { id } = await insertRow(pool, { thread_id: 'chat', priority: 3 })
    const next = await d.settle(first.claimed, completed, { ...known, free: 2 })
    expect(next.priorities).toEqual([3, 0, -5])
    expect(next.claimed.map(({ thread_id }) => thread_id).sort()).toEqual(['chat', 'flood 2'])
  })

  test('other threads that have waited longer, before the next of a long line', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    for (let i = 0; i < 50; i++) await insertRow(pool, { thread_id: 'hot' })
    const hot = await d.claimOnly({ free: 1 })
    for (let i = 0; i < 3; i++) await insertRow(pool, { thread_id: `other ${i}` })
    const served: string[] = []
    for (let held = [hot]; served.length < 5; ) {
      const { claimed } = await d.settle(held, completed, { free: 1 })
      served.push(...claimed.map(({ thread_id }) => thread_id))
      held = claimed
    }
    expect(served).toEqual(['other 0', 'other 1', 'other 2', 'hot', 'hot'])
  })

  test('a floor never hides a mark of the last second', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const writer = await connected()
    await writer.query('begin')
    const { id } = await insertRow(writer, thread)
    const before = await d.round()
    await writer.query('commit')
    expect(await d.claimOnly({ floors: before.floors })).toMatchObject({ id })
  })
})

describe('turns', () => {
  const turns = async (pool: pg.Pool) =>
    (
      await pool.query('select turn from thread_operations where turn is not null order by turn')
    ).rows.map(({ turn }) => turn)

  test('are dense: a retry keeps its own, a cancelled one draws none', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [, cancelled] = [await insertRow(pool, thread), await insertRow(pool, thread)]
    await insertRow(pool, thread)
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [
      cancelled.id,
    ])
    await d.settle(await d.claimOnly(), retryIn(0))
    await d.settle(await d.claimOnly())
    await d.settle(await d.claimOnly())
    expect(await turns(pool)).toEqual([1, 2])
  })

  test('go on where they were when the finished rows are deleted', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    for (let turn = 1; turn <= 3; turn++) {
      await insertRow(pool, thread)
      await d.settle(await d.claimOnly())
    }
    await pool.query('delete from thread_operations')
    await insertRow(pool, thread)
    await insertRow(pool, thread)
    const claimed = await d.claimOnly()
    expect(claimed.turn).toBe(4)
    await pool.query('delete from thread_operations where finished_at is not null')
    const { claimed: then } = await d.settle(claimed, completed, { free: 1 })
    expect(then).toMatchObject([{ turn: 5 }])
  })
})

describe('what an outcome may hold', () => {
  test('is any text, also such as jsonb does not take, without harm to others of its round', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const odd = await insertRow(pool, { thread_id: 'odd' })
    const usual = await insertRow(pool, { thread_id: 'usual' })
    const claimed = await d.claim()
    const text = 'nul \0, half \ud83d, whole 👍, \\u0000 as it is written'
    const settlements = claimed.map((operation) => ({
      operation,
      outcome: operation.id === odd.id ? { ...completed, result: { text } } : completed,
    }))
    await d.round({ settlements, free: 0 })
    expect((await readRow(pool, odd.id)).result).toEqual({
      text: 'nul \ufffd, half \ufffd, whole 👍, \\u0000 as it is written',
    })
    expect((await readRow(pool, usual.id)).status).toBe('completed')
  })

  test('is any pause that a provider asks for; a week at most is kept', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), retryIn(1e15))
    const { rows } = await pool.query(
      `select ready_at > now() + interval '6 days' and ready_at < now() + interval '8 days' as week from thread_operations`,
    )
    expect(rows).toEqual([{ week: true }])
  })
})
