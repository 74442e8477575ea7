import type pg from 'pg'
import { describe, expect } from 'vitest'
import { beginBatch, noteBatch } from '../../src/store/batches.ts'
import { takeCancellations } from '../../src/store/cancellations.ts'
import type { ClaimedOperation } from '../../src/store/claim.ts'
import { noteProgress } from '../../src/store/release.ts'
import { requestRotations } from '../../src/store/rotation.ts'
import { appendToStreams, deleteOldStreams } from '../../src/store/streams.ts'
import { explain, type Work, workOf } from '../support/explained.ts'
import { completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { asLine, insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'

/** Pages that a step may look at, on whatever table: a few per operation or thread it concerns. */
const most = {
  claim: 400,
  round: 1100,
  retry: 400,
  sweep: 2000,
  release: 700,
  'settle what is noted': 40,
  'give back': 400,
  'note progress': 60,
  'take cancellations': 400,
  'append to streams': 150,
  'delete old streams': 150,
  'begin a batch': 900,
  'end a batch': 900,
  'expire holds': 400,
  'cancel holds': 20,
  'request rotations': 600,
}

/** The statements of a dispatcher's life, five operations or a hundred threads at a time. */
async function expectFewPages(
  client: pg.PoolClient,
  pool: pg.Pool,
  more: Partial<typeof most> = {},
): Promise<void> {
  const d = await HandDriven.signOn(client, `d${Math.random()}`)
  await explain(client)
  const works: Partial<Record<keyof typeof most, Work>> = {}
  const measure = async <T>(step: keyof typeof most, call: () => Promise<T>): Promise<T> => {
    let result: T | undefined
    works[step] = await workOf(client, async () => {
      result = await call()
    })
    return result as T
  }
  const { floors } = await d.round({ free: 1 })
  const claimed = await measure('claim', () => d.claim({ free: 5, priorities: null, floors }))
  expect(claimed).toHaveLength(5)
  const onClient = client as unknown as pg.Pool
  const first = claimed[0] as (typeof claimed)[number]
  await measure('note progress', () => noteProgress(onClient, d.id, first, null, {}))
  const said = claimed.map(({ id, attempts }) => ({ id, attempts }))
  for (let times = 0; times < 3; times++) {
    await measure('append to streams', () =>
      appendToStreams(
        onClient,
        said.map(({ id, attempts }) => ({
          dispatcherId: d.id,
          operationId: id,
          attempts,
          events: [{ type: 'text', delta: 'Hi' }],
        })),
      ),
    )
  }
  await pool.query(
    `insert into thread_operations (thread_id, operation) select unnest($1::text[]), 'cancel_run'`,
    [[...claimed.map(({ thread_id }) => thread_id), 'nobody']],
  )
  const { wanted } = await measure('take cancellations', () => takeCancellations(onClient, d.id))
  expect(wanted.size).toBe(5)
  await pool.query(
    `insert into thread_policies (name, pattern, max_messages, max_age) values ('all', 'any', 1000000, '1 day')
         on conflict do nothing`,
  )
  await pool.query(`update threads set provider_thread_id = 'conv_' || id where id = any ($1)`, [
    claimed.map(({ thread_id }) => thread_id),
  ])
  const rotations = await measure('request rotations', () =>
    requestRotations(
      onClient,
      d.id,
      claimed.map(({ thread_id }) => thread_id),
    ),
  )
  expect(rotations).toEqual({ rotates: true, ready: false })
  const intent = { call: 'add_message', after: null, timeout_ms: 1_000 }
  const members = await measure('begin a batch', () =>
    beginBatch(onClient, d.id, first, intent, 20),
  )
  const batch = members.map(({ id }) => id)
  expect(batch[0]).toBe(first.id)
  await measure('end a batch', () => noteBatch(onClient, d.id, first, null, {}, batch, {}))
  const next = await measure('round', () => d.settle(claimed, completed, { free: 5, floors }))
  expect(next.claimed).toHaveLength(5)
  const deleted = await measure('delete old streams', () => deleteOldStreams(onClient, 0, 10))
  expect(deleted).toBe(5)
  await measure('retry', () => d.settle(next.claimed.slice(0, 2), retryIn(60_000)))
  await measure('give back', () =>
    client.query('select give_back_operations($1, $2, $3)', [
      d.id,
      next.claimed.slice(2, 4).map(({ id }) => id),
      next.claimed.slice(2, 4).map(({ attempts }) => attempts),
    ]),
  )
  await pool.query('delete from dispatchers')
  await measure('sweep', () => client.query(`select * from sweep_lines('s', '', 100)`))
  await measure('release', () => client.query(`select release_lost_operations('s')`))
  await measure('expire holds', () => client.query(`select expire_holds('s')`))
  await measure('cancel holds', () => client.query(`select cancel_holds('s')`))
  await measure('settle what is noted', () => client.query('select settle_noted(10)'))

  for (const [step, { pages, scans, largest }] of Object.entries(works)) {
    const whole = scans.filter((scan) => /^Seq Scan (thread_operations|threads)$/.test(scan))
    expect(whole, `${step} reads a table from one end to the other`).toEqual([])
    const few = { ...most, ...more }[step as keyof typeof most]
    expect(pages, `${step}: ${largest.join('\n')}`).toBeLessThanOrEqual(few)
  }
}

/** Inserts `count` operations; `thread` is an SQL expression of their number `i`. */
const load = (pool: pg.Pool, count: number, thread: string) =>
  pool.query(
    `insert into thread_operations (thread_id, operation, data)
     select ${thread}, 'add_message', '{"message": "Hi"}' from generate_series(1, ${count}) i`,
  )

describe('the statements of the line look at a few pages and never at a whole table', () => {
  test.beforeEach(async ({ pool, skip }) => {
    const { rows } = await pool.query('select rolsuper from pg_roles where rolname = current_user')
    // Only a superuser may have plans explained.
    if (!rows[0].rolsuper) skip('needs a superuser')
    // Statistics stay what they are: none.
    await pool.query(
      `alter table thread_operations set (autovacuum_enabled = false);
       alter table threads set (autovacuum_enabled = false)`,
    )
  })

  test('on a fresh table that was never analyzed', async ({ pool, connected }) => {
    await load(pool, 50, `'t' || i % 10`)
    await expectFewPages(await connected(), pool)
  })

  test('on a table that was empty when the plans were made', async ({ pool, connected }) => {
    const client = await connected()
    const d = await HandDriven.signOn(client)
    for (let i = 0; i < 10; i++) {
      await load(pool, 1, `'t'`)
      await d.settle(await d.claim())
    }
    await load(pool, 100_000, `case when i % 2 = 0 then 'hot' else 'u' || i % 1000 end`)
    await expectFewPages(client, pool)
  })

  test('after a bulk load that nobody has analyzed', async ({ pool, connected }) => {
    await load(pool, 100_000, `case when i % 2 = 0 then 'hot' else 'u' || i % 1000 end`)
    await expectFewPages(await connected(), pool)
  })

  test('on a table analyzed while it was empty, then loaded', async ({ pool, connected }) => {
    await pool.query('analyze thread_operations; analyze threads')
    await load(pool, 20_000, `'u' || i % 2000`)
    await expectFewPages(await connected(), pool)
  })

  test('on a table full of dead rows that an old snapshot keeps', async ({ pool, connected }) => {
    const old = await connected()
    await load(pool, 3000, `'u' || i`)
    await old.query('begin isolation level repeatable read')
    await old.query('select count(*) from thread_operations')
    for (let i = 0; i < 10; i++) {
      await asLine(pool, (line) =>
        line.query(
          `update thread_operations set ready_at = clock_timestamp() - interval '1 hour' where finished_at is null`,
        ),
      )
    }
    const d = await HandDriven.signOn(await connected())
    let claimed = await d.claim({ free: 500 })
    while (claimed.length > 0) {
      claimed = (await d.settle(claimed, completed, { free: 500 })).claimed
    }
    await load(pool, 50, `'n' || i % 20`)
    // The safety nets go from thread to thread, past the dead entries of those that are done.
    await expectFewPages(await connected(), pool, {
      sweep: 40_000,
      release: 6000,
      'expire holds': 2000,
    })
  })

  test('before 100,000 heads that wait for their time', async ({ pool, connected }) => {
    await pool.query('alter table thread_operations disable trigger user')
    await pool.query(
      `insert into thread_operations (id, place, thread_id, operation, head_since, ready_at, attempts)
       select n, n, 'f' || n, 'add_message', now(), now() + interval '1 hour', 1
         from (select nextval('thread_operations_id_seq') as n from generate_series(1, 100000)) as s`,
    )
    await pool.query('alter table thread_operations enable trigger user')
    await load(pool, 50, `'t' || i % 20`)
    await expectFewPages(await connected(), pool)
  })

  test.for([false, true])(
    'arranging a long line, and one among many (analyzed: %s)',
    async (isAnalyzed, { pool, connected }) => {
      const client = await connected()
      await load(pool, 50_000, `case when i % 2 = 0 then 'hot' else 'u' || i % 5000 end`)
      const wishes = [{ if_busy: 'merge' }, { debounce_ms: 1 }, { if_busy: 'interrupt+merge' }]
      for (const wish of wishes) await insertRow(pool, { thread_id: 'hot', ...wish })
      await pool.query(
        `insert into thread_operations (thread_id, operation, data, if_busy)
         select 'm' || i, 'add_message', '{"message": "Hi"}', 'merge' from generate_series(1, 20000) i`,
      )
      if (isAnalyzed) await pool.query('analyze thread_operations')
      // The heads alone, so that they are claimed first.
      await pool.query(
        `update thread_operations set priority = case thread_id when 'm8' then 6 else 5 end
          where thread_id in ('hot', 'm8', 'm9') and ready_at is not null`,
      )
      const d = await HandDriven.signOn(client)
      await d.settle(await d.claim({ free: 1, priorities: null }))
      await explain(client)
      let claimed: ClaimedOperation[] = []
      const claiming = await workOf(client, async () => {
        claimed = await d.claim({ free: 2, priorities: null })
      })
      expect(claimed.map(({ thread_id }) => thread_id).toSorted()).toEqual(['hot', 'm9'])
      const settling = await workOf(client, () => d.settle(claimed, completed, { free: 2 }))
      for (const { scans, pages, largest } of [claiming, settling]) {
        expect(scans.filter((scan) => /^Seq Scan t/.test(scan))).toEqual([])
        expect(pages, largest.join('\n')).toBeLessThan(600)
      }
    },
  )

  test('joining a line and sweeping, where a thread has finished a lot', async ({ pool }) => {
    await load(pool, 50_000, "'hot'")
    await pool.query('analyze thread_operations') // all that the planner ever learns: one hot thread
    const client = await pool.connect()
    try {
      await explain(client)
      const join = async (...threads: string[]) => {
        for (const thread of threads) {
          await client.query(
            `insert into thread_operations (thread_id, operation, data) values ($1, 'add_message', '{"message": "Hi"}')`,
            [thread],
          )
        }
      }
      const sweep = () => client.query(`select sweep_lines('s', '', 100)`)
      const joining = await workOf(client, () => join('a', 'b', 'c', 'd', 'e', 'f'))
      await pool.query(`update thread_operations set status = 'cancelled' where thread_id = 'hot'`)
      await sweep() // the first one passes the dead entries, and marks them as such
      const sweeping = await workOf(client, sweep)
      const again = await workOf(client, () => join('hot'))
      for (const { scans, pages, largest } of [joining, sweeping, again]) {
        expect(scans.filter((scan) => /one_operation_per_turn|^Seq Scan t/.test(scan))).toEqual([])
        expect(pages, largest.join('\n')).toBeLessThan(400)
      }
      expect(joining.scans.join()).toContain('Scan line_by_place')
    } finally {
      client.release()
    }
  })
})
