import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow, moveTo, refusal } from '../support/line.ts'
import { query, withClient } from '../support/query.ts'

const canary = 'canary-7d1f'

test('every change of status is one row, in order, with who made it', async ({ pool }) => {
  const { id } = await insertRow(pool, { thread_id: 'story' })
  await moveTo(pool, id, 'processing', { progress: { run_id: 'run_1' } })
  await moveTo(pool, id, 'pending', {
    error: { code: 'rate_limited', message: 'slow down' },
    ready_at: '2999-01-01T00:00:00Z',
  })
  await moveTo(pool, id, 'processing')
  await moveTo(pool, id, 'requires_action')
  await moveTo(pool, id, 'processing')
  await moveTo(pool, id, 'failed', { error: { code: 'run_expired', message: 'too late' } })

  const { rows } = await pool.query(
    `select operation_id, thread_id, from_status, to_status, turn, attempt, actor, code, run_id, retry_at
       from operation_events where thread_id = 'story' order by id`,
  )
  const same = { operation_id: id, thread_id: 'story', turn: 1, actor: 'd1', run_id: 'run_1' }
  const none = { code: null, retry_at: null }
  const due = new Date('2999-01-01')
  expect(rows).toEqual([
    { ...same, ...none, from_status: 'pending', to_status: 'processing', attempt: 1 },
    {
      ...same,
      from_status: 'processing',
      to_status: 'pending',
      attempt: 1,
      code: 'rate_limited',
      retry_at: due,
    },
    { ...same, ...none, from_status: 'pending', to_status: 'processing', attempt: 2 },
    { ...same, ...none, from_status: 'processing', to_status: 'requires_action', attempt: 2 },
    { ...same, ...none, from_status: 'requires_action', to_status: 'processing', attempt: 3 },
    {
      ...same,
      from_status: 'processing',
      to_status: 'failed',
      attempt: 3,
      code: 'run_expired',
      retry_at: null,
    },
  ])
})

test('changes of anything else, and changes that are rolled back, are not in it', async ({
  url,
  pool,
}) => {
  const { id } = await insertRow(pool, { thread_id: 'no change' })
  await pool.query(
    `update thread_operations set data = '{"message": "Bye"}', priority = 3 where id = $1`,
    [id],
  )
  await withClient(url, async (client) => {
    await client.query('begin')
    await client.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
    await client.query('rollback')
  })
  expect(await query(url, `select * from operation_events where thread_id = 'no change'`)).toEqual(
    [],
  )
})

test('an UPDATE of many rows writes one row for each that changed its status', async ({ pool }) => {
  await pool.query(`insert into thread_operations (thread_id, operation)
                    select 'bulk', 'create_thread' from generate_series(1, 5)`)
  await pool.query(`update thread_operations set priority = 1,
                      status = case when id % 2 = 0 then 'cancelled' else status end
                     where thread_id = 'bulk'`)
  const { rows } = await pool.query(
    `select o.id from thread_operations o where thread_id = 'bulk' and status = 'cancelled' order by id`,
  )
  const { rows: events } = await pool.query(
    `select operation_id as id from operation_events where thread_id = 'bulk' order by id`,
  )
  expect(events.length).toBeGreaterThan(1)
  expect(events).toEqual(rows)
})

describe('the actor', () => {
  test('is the dispatcher where the line moves on', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'dispatched' })
    await moveTo(pool, id, 'processing')
    const { rows } = await pool.query(
      `select actor from operation_events where operation_id = $1`,
      [id],
    )
    expect(rows).toEqual([{ actor: 'd1' }])
  })

  test.for([
    ['shop', ' (shop)'],
    ['', ''],
  ] as const)(
    'is who logged in, with the application name "%s"',
    async ([name, suffix], { url }) => {
      await withClient(url, async (client) => {
        await client.query(`select set_config('application_name', $1, false)`, [name])
        const { id } = await insertRow(client, { thread_id: `actor${suffix}` })
        // Neither a role taken on nor a dispatcher's name left behind hides who it is.
        await client.query(`set inturn.actor = 'd1'`)
        await client.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
        const { rows } = await client.query(
          `select actor, session_user || $2 as expected from operation_events where operation_id = $1`,
          [id, suffix],
        )
        expect(rows).toHaveLength(1)
        expect(rows[0].actor).toBe(rows[0].expected)
      })
    },
  )

  test('is who logged in, whatever role that session has taken on', async ({ url, pool }) => {
    const role = `inturn_owner_${process.pid}`
    await pool.query(`create role ${role}; grant all on thread_operations to ${role}`)
    try {
      await withClient(url, async (client) => {
        await client.query(`set role ${role}`)
        const { id } = await insertRow(client, { thread_id: 'role' })
        await client.query(`update thread_operations set status = 'cancelled' where id = $1`, [id])
        await client.query('reset role')
        const { rows } = await client.query(
          `select actor = session_user || ' (inturn)' as same from operation_events where operation_id = $1`,
          [id],
        )
        expect(rows).toEqual([{ same: true }])
      })
    } finally {
      await pool.query(`drop owned by ${role}; drop role ${role}`)
    }
  })
})

test.for([
  `update operation_events set actor = 'nobody'`,
  'update operation_events set actor = actor where false',
  'delete from operation_events',
  'truncate operation_events',
])('is append-only, also for its owner: %s', async (statement, { pool }) => {
  const operation = statement.split(' ')[0]
  expect(await refusal(pool.query(statement))).toEqual({
    code: '23514',
    constraint: 'ledger_is_append_only',
    message: `${operation} of operation_events is refused: the ledger is append-only`,
    hint: "Read it with SELECT. Its rows are written by inturn's triggers alone, and go with their operation when the operation_retention of its policy is over.",
  })
})

test('keeps the events of operations that were deleted', async ({ pool }) => {
  const { id } = await insertRow(pool, { thread_id: 'kept' })
  await moveTo(pool, id, 'cancelled')
  await pool.query('delete from thread_operations where id = $1', [id])
  const { rowCount } = await pool.query('select from operation_events where operation_id = $1', [
    id,
  ])
  expect(rowCount).toBe(1)
})

test('never holds content, whatever column carried it', async ({ pool }) => {
  const { id } = await insertRow(pool, { thread_id: 'secret', data: { message: canary } })
  const content = { progress: { run_id: 'run_1', note: canary }, result: { text: canary } }
  const error = { code: 'server_error', message: canary }
  await moveTo(pool, id, 'processing', content)
  await moveTo(pool, id, 'pending', { ...content, error })
  await moveTo(pool, id, 'processing', content)
  await moveTo(pool, id, 'failed', { ...content, error })
  const { rows } = await pool.query(
    `select count(*) as events, count(*) filter (where to_jsonb(e)::text like $2) as with_content
       from operation_events e where operation_id = $1`,
    [id, `%${canary}%`],
  )
  expect(rows).toEqual([{ events: 4, with_content: 0 }])
})
