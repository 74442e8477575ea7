import type pg from 'pg'
import { describe, expect } from 'vitest'
import type { Progress } from '../../src/store/progress.ts'
import { noteProgress } from '../../src/store/release.ts'
import { completed, failed, HandDriven, heldBecause, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow, refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'

const thread = { thread_id: 't' }
const healthy = (pool: pg.Pool) =>
  expectHealthy(pool, { graceMs: 0, without: ['results_are_there'] })

const retry = async (database: pg.Pool | pg.ClientBase, id: number, at: string | null) =>
  (await database.query('select * from retry_operation($1, $2)', [id, at])).rows[0]

/** Puts operations into the line; their ids. Only `count` of the three are there. */
async function insertMany(pool: pg.Pool, count = 3): Promise<[a: number, b: number, c: number]> {
  const ids: number[] = []
  while (ids.length < count) ids.push((await insertRow(pool, thread)).id)
  return ids as [number, number, number]
}

/** Serves everything that is in line; the ids in the order of their turns. */
async function serveAll(d: HandDriven): Promise<Array<[id: number, turn: number]>> {
  const served: Array<[number, number]> = []
  let { claimed } = await d.round()
  while (claimed.length > 0) {
    served.push(...claimed.map(({ id, turn }): [number, number] => [id, turn]))
    claimed = (await d.settle(claimed, completed, { free: 10 })).claimed
  }
  return served
}

const isMarked = async (pool: pg.Pool, id: number) => (await readRow(pool, id)).ready_at !== null

describe('a failed operation', () => {
  test.for(['head', 'tail'])(
    'is served once more at the %s, under a new turn',
    async (at, { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      const [a, b, c] = await insertMany(pool)
      await d.settle(await d.claimOnly(), failed)
      expect(await retry(pool, a, at)).toEqual({ thread_id: 't', place: expect.any(Number) })
      await healthy(pool)
      expect(await serveAll(d)).toEqual(
        at === 'head'
          ? [
              [a, 2],
              [b, 3],
              [c, 4],
            ]
          : [
              [b, 2],
              [c, 3],
              [a, 4],
            ],
      )
      await healthy(pool)
    },
  )

  test('begins anew, but for the number of its attempts and what exists at the provider', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id, created_at } = await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), { ...retryIn(0), burnsAttempt: true } as never)
    const claim = await d.claimOnly()
    const intent = { call: 'start_run', after: null, timeout_ms: 1, at: '2026-01-01T00:00:00Z' }
    const known = {
      message_id: 'msg_1',
      run_id: 'run_2',
      after: 'msg_0',
      failed_run_ids: ['run_1'],
    }
    await noteProgress(pool, d.id, claim, intent, { ...known, foreign_run: {} } as Progress)
    await d.settle(claim, { ...failed, result: { text: 'half' } } as never)
    await retry(pool, id, 'tail')
    expect(await readRow(pool, id)).toMatchObject({
      status: 'pending',
      turn: null,
      started_at: null,
      finished_at: null,
      result: null,
      error: null,
      failures: 0,
      attempts: 2,
      intent: { ...intent, sent_back: true },
      created_at,
    })
    expect((await readRow(pool, id)).progress).toEqual({
      message_id: 'msg_1',
      after: 'msg_0',
      sent_back: 1,
      failed_run_ids: ['run_1', 'run_2'],
    })
    expect(await d.claimOnly()).toMatchObject({ id, turn: 2, attempts: 3, failures: 0 })
    await healthy(pool)
  })

  test.for([
    [
      { run_id: 'run_1', failed_run_ids: ['run_1'] },
      { sent_back: 1, failed_run_ids: ['run_1'] },
    ],
    [
      { run_id: 'run_1', run_since: 'now', stopping: { run_id: 'run_1', since: 'now' } },
      { sent_back: 1, failed_run_ids: ['run_1'] },
    ],
    [
      { message_id: 'msg_1', repaired: true, missing: null },
      { sent_back: 1, message_id: 'msg_1' },
    ],
    [{ sent_back: 7 }, { sent_back: 7 }],
    [null, null],
  ] as Array<[Progress | null, unknown]>)(
    'keeps of %j: %j',
    async ([known, kept], { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      const { id } = await insertRow(pool, thread)
      const claim = await d.claimOnly()
      if (known) await noteProgress(pool, d.id, claim, null, known)
      await d.settle(claim, failed)
      await retry(pool, id, 'head')
      expect((await readRow(pool, id)).progress).toEqual(kept)
    },
  )

  test('with the highest turn leaves it to nobody, also when the thread is otherwise empty', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [a] = await insertMany(pool, 1)
    await d.settle(await d.claimOnly(), failed)
    await retry(pool, a, 'tail')
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [a])
    const next = await insertRow(pool, thread)
    expect(await serveAll(d)).toEqual([[next.id, 2]])
    await retry(pool, a, 'head')
    expect(await serveAll(d)).toEqual([[a, 3]])
    await healthy(pool)
  })

  test('lets a halted line go on behind it; any other does not', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await pool.query(`insert into threads (id, on_failure) values ('t', 'halt')`)
    const [a, b, c] = await insertMany(pool)
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [b])
    await d.settle(await d.claimOnly(), failed)
    await retry(pool, b, 'head')
    expect(await d.claim()).toEqual([])
    await healthy(pool)
    await retry(pool, a, 'head')
    expect(await serveAll(d)).toEqual([
      [a, 2],
      [b, 3],
      [c, 4],
    ])
    await healthy(pool)
  })

  test('of a line that had gone on after an earlier failure does not halt it by that one', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [a, b, c] = await insertMany(pool)
    await d.settle(await d.claimOnly(), failed)
    await d.settle(await d.claimOnly(), failed)
    await pool.query(`update threads set on_failure = 'halt'`)
    expect(await d.claim()).toEqual([])
    await retry(pool, b, 'tail')
    expect(await serveAll(d)).toEqual([
      [c, 3],
      [b, 4],
    ])
    expect((await readRow(pool, a)).status).toBe('failed')
    await healthy(pool)
  })
})

describe('an operation cancelled', () => {
  test('before it was started goes back as one that never was', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const [a, b] = await insertMany(pool, 2)
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [a])
    await retry(pool, a, 'tail')
    expect(await serveAll(d)).toEqual([
      [b, 1],
      [a, 2],
    ])
    await healthy(pool)
  })

  test('after a failure is served once it was sent back, before the failed one too', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    await pool.query(`insert into threads (id, on_failure) values ('t', 'cancel_rest')`)
    const [a, b, c] = await insertMany(pool)
    await d.settle(await d.claimOnly(), failed)
    await retry(pool, c, 'tail')
    expect(await serveAll(d)).toEqual([[c, 2]])
    await retry(pool, a, 'tail')
    const again = await d.claimOnly()
    await retry(pool, b, 'tail')
    await d.settle(again, failed, { free: 1 }) // b waited at that moment, c was done
    expect(await readRow(pool, b)).toMatchObject({
      status: 'cancelled',
      error: { message: expect.stringContaining(`Operation ${a} `) },
    })
    await healthy(pool)
  })

  test('while it was held for an operator is served after all', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), heldBecause('outcome_unknown'))
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
    await retry(pool, id, 'head')
    expect(await d.claimOnly()).toMatchObject({ id, turn: 2, attempts: 2 })
    await healthy(pool)
  })
})

describe('the head of the line', () => {
  test('is behind whoever was started, whether served, retried or held', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [a, b, c] = await insertMany(pool)
    await d.settle(await d.claimOnly(), failed)
    const second = await d.claimOnly()
    await retry(pool, a, 'head')
    expect(await d.claim()).toEqual([])
    await d.settle(second, retryIn(60_000))
    expect(await d.claim({ emptied: ['t'] })).toEqual([])
    expect([await isMarked(pool, a), await isMarked(pool, b)]).toEqual([false, true])
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [b])
    expect(await serveAll(d)).toEqual([
      [a, 3],
      [c, 4],
    ])
    await healthy(pool)
  })

  test('belongs to who was sent there last', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const [a, b, c] = await insertMany(pool)
    await d.settle(await d.claimOnly(), failed)
    await d.settle(await d.claimOnly(), failed)
    await retry(pool, a, 'head')
    await retry(pool, b, 'head')
    expect(await serveAll(d)).toEqual([
      [b, 3],
      [a, 4],
      [c, 5],
    ])
  })

  test('is marked alone, also where the former head is marked at that moment', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [a, b] = await insertMany(pool, 2)
    await d.settle(await d.claimOnly(), failed)
    expect(await isMarked(pool, b)).toBe(true)
    await retry(pool, a, 'head')
    expect([await isMarked(pool, a), await isMarked(pool, b)]).toEqual([true, false])
    expect(await serveAll(d)).toEqual([
      [a, 2],
      [b, 3],
    ])
    await healthy(pool)
  })

  test('keeps its order where somebody’s transaction holds the former head', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [a, b] = await insertMany(pool, 2)
    await d.settle(await d.claimOnly(), failed)
    const user = await connected()
    await user.query('begin')
    await user.query('select from thread_operations where id = $1 for update', [b])
    await retry(pool, a, 'head')
    await user.query('rollback')
    expect([await isMarked(pool, a), await isMarked(pool, b)]).toEqual([true, true])
    expect(await serveAll(d)).toEqual([
      [a, 2],
      [b, 3],
    ])
    await healthy(pool)
  })

  test('is found when the line was emptied while the operation was sent back', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const [a] = await insertMany(pool, 2)
    await d.settle(await d.claimOnly(), failed)
    const second = await d.claimOnly()
    const operator = await connected()
    await operator.query('begin')
    await retry(operator, a, 'head') // sees a busy line
    expect(await d.settle(second)).toMatchObject({ emptied: ['t'] })
    await operator.query('commit')
    const { claimed } = await d.round({ emptied: ['t'] })
    expect(claimed).toMatchObject([{ id: a, turn: 3 }])
  })
})

describe('retry_operation refuses', () => {
  test('a place that is neither head nor tail', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), failed)
    for (const at of ['front', 'HEAD', '', null]) {
      expect(await refusal(retry(pool, id, at))).toMatchObject({
        code: '23514',
        constraint: 'place_is_head_or_tail',
        hint: `Write SELECT retry_operation(${id}, 'head'), or 'tail'.`,
      })
    }
  })

  test('an operation that does not exist', async ({ pool }) => {
    expect(await refusal(retry(pool, 999, 'head'))).toMatchObject({
      constraint: 'operation_exists',
      message: 'there is no operation 999',
      hint: expect.stringContaining('dead_letters'),
    })
  })

  test('what has neither failed nor was cancelled, each with its own hint', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    const refused = async () => {
      const { constraint, message, hint } = await refusal(retry(pool, id, 'head'))
      expect(constraint).toBe('only_failed_and_cancelled_go_back')
      return `${message}. ${hint}`
    }
    expect(await refused()).toMatch(/is pending: .* It is in its line already/)
    const claimed = await d.claimOnly()
    expect(await refused()).toMatch(/is processing: .* It is in its line already/)
    await d.settle(claimed, heldBecause('outcome_unknown'))
    expect(await refused()).toMatch(/is pending: .* It is held: SELECT resume_thread\('t'\)/)
    await pool.query('select resume_thread($1)', ['t'])
    await d.settle(await d.claimOnly(), completed)
    expect(await refused()).toMatch(/is completed: .* insert a new operation/)
  })

  test('what stood on a thread that is closed', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), failed)
    await pool.query('update threads set closed_at = now()')
    expect(await refusal(retry(pool, id, 'head'))).toMatchObject({ constraint: 'thread_is_open' })
    expect((await readRow(pool, id)).status).toBe('failed')
  })

  test('the second of two at once', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    await d.settle(await d.claimOnly(), failed)
    const results = await Promise.allSettled([retry(pool, id, 'head'), retry(pool, id, 'tail')])
    const reasons = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason] : [],
    )
    expect(reasons).toMatchObject([{ constraint: 'only_failed_and_cancelled_go_back' }])
    expect(await serveAll(d)).toEqual([[id, 2]])
  })

  test.for(['thread_operations', 'threads'])(
    'to wait for somebody’s open transaction that holds the row in %s',
    async (table, { pool, connected }) => {
      const d = await HandDriven.signOn(await connected())
      const { id } = await insertRow(pool, thread)
      await d.settle(await d.claimOnly(), failed)
      const user = await connected()
      await user.query('begin')
      await user.query(`select from ${table} for update`)
      expect(await refusal(retry(pool, id, 'head'))).toMatchObject({
        code: '55P03',
        constraint: 'nobody_holds_the_row',
        hint: expect.stringContaining('pg_stat_activity'),
      })
      await user.query('rollback')
      expect((await readRow(pool, id)).status).toBe('failed')
      await retry(pool, id, 'head')
    },
  )
})

test('whoever may call it sends an operation back, and the ledger names who it was', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  const { id } = await insertRow(pool, thread)
  await d.settle(await d.claimOnly(), failed)
  const operator = await connected()
  await operator.query('set role pg_read_all_data')
  await retry(operator, id, 'head')
  await d.settle(await d.claimOnly(), failed)
  const { rows } = await pool.query(
    `select from_status, to_status, turn, attempt, actor from operation_events where operation_id = $1 order by id`,
    [id],
  )
  const by =
    (actor: unknown) =>
    (from_status: string, to_status: string, turn: number | null, attempt: number) => ({
      from_status,
      to_status,
      turn,
      attempt,
      actor,
    })
  const d1 = by('d1')
  expect(rows).toEqual([
    d1('pending', 'processing', 1, 1),
    d1('processing', 'failed', 1, 1),
    by(expect.stringMatching(/\(inturn test\)$/))('failed', 'pending', null, 1),
    d1('pending', 'processing', 2, 2),
    d1('processing', 'failed', 2, 2),
  ])
})
