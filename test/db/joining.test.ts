import { pipeline } from 'node:stream/promises'
import { from as copyFrom } from 'pg-copy-streams'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow } from '../support/line.ts'
import { withClient } from '../support/query.ts'

test('the plain row joins its line, marked as the head of an empty one', async ({ pool }) => {
  const { rows } = await pool.query(
    `INSERT INTO thread_operations (thread_id, operation, data, status)
     VALUES ('t1', 'add_message_and_run', '{"message": "Hi", "assistant_id": "asst_1"}', 'pending')
     RETURNING *`,
  )
  const [row] = rows
  expect(row).toMatchObject({
    thread_id: 't1',
    status: 'pending',
    place: row.id,
    turn: null,
    provider: '',
    priority: 0,
    attempts: 0,
    failures: 0,
    claimed_by: null,
    started_at: null,
    finished_at: null,
  })
  expect(row.head_since).toEqual(row.created_at)
  expect(row.ready_at).toEqual(row.created_at)
  expect(row.updated_at).toEqual(row.created_at)
})

test('the next row of that line joins it unmarked, behind the first', async ({ pool }) => {
  const first = await insertRow(pool, { thread_id: 'second' })
  const second = await insertRow(pool, { thread_id: 'second' })
  expect(second).toMatchObject({ head_since: null, ready_at: null })
  expect(second.place).toBeGreaterThan(first.place)
})

test('a row without status, or with null, is pending', async ({ pool }) => {
  expect(await insertRow(pool, { thread_id: 'status' })).toMatchObject({ status: 'pending' })
  expect(await insertRow(pool, { thread_id: 'status', status: null })).toMatchObject({
    status: 'pending',
  })
})

test('a row without data is one with an empty object', async ({ pool }) => {
  expect(await insertRow(pool, { thread_id: 'no data', operation: 'create_thread' })).toMatchObject(
    { data: {} },
  )
})

test.for([
  ['with a zone', '2001-02-03T04:05:06+07:00'],
  ['without a zone', '2001-02-03 04:05:06'],
  ['from the future', '2999-01-01T00:00:00Z'],
  ['as null', null],
])(
  'created_at and updated_at sent along %s are accepted, but the database clock counts',
  async ([, sent], { url }) => {
    await withClient(url, async (client) => {
      await client.query(`set timezone = 'Asia/Kathmandu'`)
      const clock = async () => (await client.query('select clock_timestamp() as now')).rows[0].now
      const before = await clock()
      const row = await insertRow(client, {
        thread_id: 'clock',
        created_at: sent,
        updated_at: sent,
      })
      const after = await clock()
      for (const time of [row.created_at, row.updated_at] as Date[]) {
        expect(time >= before && time <= after).toBe(true)
      }
    })
  },
)

test('who inserted a row is noted by the database, whatever the row says', async ({ pool }) => {
  const { rows } = await pool.query('select session_user as name')
  expect(await insertRow(pool, { thread_id: 'who', created_by: 'somebody else' })).toMatchObject({
    created_by: `${rows[0].name} (inturn test)`,
  })
})

test('many rows of one statement stand in the order of the statement', async ({ pool }) => {
  const { rows } = await pool.query(`
    insert into thread_operations (thread_id, operation, data)
    select 'many ' || n % 3, 'add_message', jsonb_build_object('message', n::text)
      from generate_series(1, 30) as n returning *`)
  expect(rows.map(({ data }) => Number(data.message))).toEqual(rows.map((_, i) => i + 1))
  expect(rows.map(({ place }) => place)).toEqual(
    rows.map(({ place }) => place).toSorted((a, b) => a - b),
  )
  expect(rows.filter(({ ready_at }) => ready_at !== null)).toEqual(rows.slice(0, 3))
})

test('rows come by COPY as well', async ({ url, pool }) => {
  const text = ['one', 'two', 'three']
    .map((message) => `copied\tadd_message\t${JSON.stringify({ message })}\n`)
    .join('')
  await withClient(url, async (client) => {
    const copy = client.query(
      copyFrom('copy thread_operations (thread_id, operation, data) from stdin'),
    )
    await pipeline([text], copy)
  })
  const { rows } = await pool.query(
    `select data ->> 'message' as message, ready_at is not null as marked
       from thread_operations where thread_id = 'copied' order by place`,
  )
  expect(rows).toEqual([
    { message: 'one', marked: true },
    { message: 'two', marked: false },
    { message: 'three', marked: false },
  ])
})

test('the id is what lastval() says, as some database layers ask for it', async ({ url }) => {
  await withClient(url, async (client) => {
    const { id } = await insertRow(client, { thread_id: 'last id' })
    expect((await client.query('select lastval() as id')).rows).toEqual([{ id }])
  })
})

test('the thread row is not made by the INSERT, where it would be a lock', async ({ pool }) => {
  await insertRow(pool, { thread_id: 'no thread yet' })
  const { rowCount } = await pool.query(`select from threads where id = 'no thread yet'`)
  expect(rowCount).toBe(0)
})

describe('the provider of a head', () => {
  const letters = 'abcdefABCDEF0123456789xyzXYZ'
  test.for([
    ['thread_ and 24 letters or digits', `thread_${letters.slice(0, 24)}`, 'assistants'],
    ['thread_ and 23', `thread_${letters.slice(0, 23)}`, ''],
    ['thread_ and 25', `thread_${letters.slice(0, 25)}`, ''],
    ['thread_ and 24 with an underscore', `thread_${letters.slice(0, 23)}_`, ''],
    ['conv_ and 32 hex digits', `conv_${'0123456789abcdef'.repeat(2)}`, 'responses'],
    ['conv_ and 31', `conv_${'f'.repeat(31)}`, ''],
    ['conv_ and 50', `conv_${'a'.repeat(50)}`, 'responses'],
    ['conv_ and 32 that are not hex', `conv_${'g'.repeat(32)}`, ''],
    ['a name of the caller like thread_worker_7_12', 'thread_worker_7_12', ''],
    ['a name of the caller like thread_abc', 'thread_abc', ''],
    ['an id inside a longer name', `my thread_${letters.slice(0, 24)}`, ''],
    ['an id and a line break', `thread_${letters.slice(0, 24)}\n`, ''],
  ])('of %s', async ([, threadId, provider], { pool }) => {
    expect(await insertRow(pool, { thread_id: threadId })).toMatchObject({ provider })
  })

  test('is the one that a create_thread names', async ({ pool }) => {
    const data = { provider: 'assistants', provider_thread_id: 'thread_x' }
    expect(
      await insertRow(pool, { thread_id: 'named', operation: 'create_thread', data }),
    ).toMatchObject({ provider: 'assistants' })
  })

  test('is the one of its thread before all else', async ({ pool }) => {
    await pool.query(`insert into threads (id, provider) values ('known', 'responses')`)
    const data = { provider: 'assistants' }
    expect(
      await insertRow(pool, { thread_id: 'known', operation: 'create_thread', data }),
    ).toMatchObject({ provider: 'responses' })
  })
})

test('a role that may only INSERT can join a line', async ({ url, pool }) => {
  const role = `inturn_test_${process.pid}`
  await pool.query(`create role ${role}; grant insert on thread_operations to ${role}`)
  try {
    await withClient(url, async (client) => {
      await client.query(`set session authorization ${role}`)
      await expect(client.query('select id from thread_operations')).rejects.toThrow(/denied/)
      await client.query(
        `insert into thread_operations (thread_id, operation, data) values
           ('only insert', 'add_message', '{"message": "Hi"}'),
           ('only insert', 'add_message', '{"message": "Hi again"}')`,
      )
    })
    const { rows } = await pool.query(
      `select created_by, ready_at is not null as marked from thread_operations
        where thread_id = 'only insert' order by place`,
    )
    expect(rows).toEqual([
      { created_by: `${role} (inturn)`, marked: true },
      { created_by: `${role} (inturn)`, marked: false },
    ])
  } finally {
    await pool.query(`drop owned by ${role}; drop role ${role}`)
  }
})
