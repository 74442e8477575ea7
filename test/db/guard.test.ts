import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { insertRow, moveTo, readRow, refusal } from '../support/line.ts'

/** What callers may change, within limits, and what the database keeps up by itself. */
const open = ['data', 'status', 'priority', 'updated_at']

const update = 'update thread_operations set'

test('no column but data, status and priority can be changed by an UPDATE', async ({ pool }) => {
  const { id } = await insertRow(pool, { thread_id: 'columns' })
  const { rows: columns } = await pool.query(
    `select column_name as name, data_type as type from information_schema.columns
      where table_name = 'thread_operations' and column_name <> all ($1)`,
    [open],
  )
  expect(columns.length).toBeGreaterThan(15)
  for (const { name, type } of columns) {
    const empty = type === 'jsonb' || type === 'ARRAY'
    const another = type.startsWith('timestamp') ? '2001-01-01' : empty ? '{}' : '77'
    const refused = await refusal(pool.query(`${update} ${name} = $2 where id = $1`, [id, another]))
    expect.soft(refused).toEqual({
      code: '23514',
      constraint: 'line_column_is_guarded',
      message: `${name} of operation ${id} is written by inturn alone`,
      hint: "You may set status to 'cancelled', and change data or priority while the operation waits.",
    })
  }
})

describe('data of a pending operation', () => {
  test('can be changed, and the change is noted in updated_at', async ({ pool }) => {
    const { id, updated_at } = await insertRow(pool, { thread_id: 'data' })
    await pool.query(
      `${update} data = '{"message": "Bye"}', updated_at = '2001-01-01' where id = $1`,
      [id],
    )
    const row = await readRow(pool, id)
    expect(row.data).toEqual({ message: 'Bye' })
    expect(Number(row.updated_at)).toBeGreaterThan(Number(updated_at))
  })

  test.for(['{}', '{"message": 5}', '{"mesage": "Hi"}', '[]', null])(
    'is checked again, so that it cannot become %s',
    async (data, { pool }) => {
      const { id } = await insertRow(pool, { thread_id: 'data checked' })
      expect(
        await refusal(pool.query(`${update} data = $2 where id = $1`, [id, data])),
      ).toMatchObject({ constraint: 'operation_data_is_valid' })
    },
  )

  test('takes the head to another provider, where it names another one', async ({ pool }) => {
    const { id } = await insertRow(pool, {
      thread_id: 'data provider',
      operation: 'create_thread',
      data: { provider: 'assistants' },
    })
    for (const [data, provider] of [
      [{ provider: 'responses' }, 'responses'],
      [{ metadata: {} }, ''],
    ] as const) {
      await pool.query(`${update} data = $2 where id = $1`, [id, data])
      expect(await readRow(pool, id)).toMatchObject({ provider })
    }
  })

  test('is fixed once the operation was started', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'data fixed' })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, 'pending')
    expect(
      await refusal(pool.query(`${update} data = '{"message": "Bye"}' where id = $1`, [id])),
    ).toMatchObject({
      constraint: 'data_is_fixed_once_started',
      message: expect.stringContaining(`data of operation ${id} is fixed`),
      hint: 'Cancel this operation and insert a new one.',
    })
  })
})

test('priority of a pending operation can be changed within its bounds', async ({ pool }) => {
  const { id } = await insertRow(pool, { thread_id: 'priority' })
  await pool.query(`${update} priority = 5 where id = $1`, [id])
  expect(await readRow(pool, id)).toMatchObject({ priority: 5 })
  expect(await refusal(pool.query(`${update} priority = 101 where id = $1`, [id]))).toMatchObject({
    constraint: 'priority_is_between_minus_100_and_100',
  })
})

test.for(['processing', 'requires_action', 'completed', 'failed', 'done'])(
  'a pending operation cannot be made %s by an UPDATE',
  async (status, { pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'status' })
    expect(await refusal(pool.query(`${update} status = $2 where id = $1`, [id, status]))).toEqual({
      code: '23514',
      constraint: 'transition_is_legal',
      message: `operation ${id} cannot go from pending to ${status} by an UPDATE`,
      hint: "The only status you may write is 'cancelled'.",
    })
  },
)

describe.for(['processing', 'requires_action'] as const)('an operation that is %s', (status) => {
  test.for([
    `status = 'cancelled'`,
    `data = '{"message": "Bye"}'`,
    'priority = 1',
    'updated_at = now()',
  ])(`refuses %s`, async (change, { pool }) => {
    const { id } = await insertRow(pool, { thread_id: `${status} ${change}` })
    await moveTo(pool, id, 'processing')
    if (status !== 'processing') await moveTo(pool, id, status)
    expect(await refusal(pool.query(`${update} ${change} where id = $1`, [id]))).toMatchObject({
      constraint: 'active_operation_is_not_updated',
      message: `operation ${id} is ${status === 'processing' ? 'processing by d1' : status}, and an UPDATE does not reach what is under way`,
      hint: expect.any(String),
    })
  })
})

describe.for(['completed', 'failed', 'cancelled'] as const)('an operation that is %s', (status) => {
  test('is frozen', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: `frozen ${status}` })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, status)
    for (const change of [
      `status = 'pending'`,
      `result = '{}'`,
      'priority = 1',
      'updated_at = now()',
    ]) {
      expect
        .soft(await refusal(pool.query(`${update} ${change} where id = $1`, [id])), change)
        .toMatchObject({
          constraint: 'final_operation_is_frozen',
          message: `operation ${id} is ${status}, and what is final stays as it is`,
          hint:
            status === 'completed'
              ? 'Insert a new operation instead.'
              : expect.stringContaining(`SELECT retry_operation(${id}, 'head')`),
        })
    }
  })
})

test('an UPDATE that writes what is there already, as an ORM does, changes nothing', async ({
  pool,
}) => {
  const rows = []
  for (const status of ['pending', 'processing', 'completed'] as const) {
    const { id } = await insertRow(pool, { thread_id: `same ${status}` })
    if (status !== 'pending') await moveTo(pool, id, 'processing')
    if (status === 'completed') await moveTo(pool, id, 'completed', { result: { text: 'Hi' } })
    rows.push(await readRow(pool, id))
  }
  for (const row of rows) {
    const columns = Object.keys(row)
    await pool.query(
      `${update} (${columns}) = (select ${columns} from thread_operations where id = $1) where id = $1`,
      [row.id],
    )
    // What the ledger trigger looks at is of the last UPDATE.
    expect(await readRow(pool, row.id as number)).toEqual({ ...row, prev_status: null })
  }
  const { rows: events } = await pool.query(
    `select to_status from operation_events where thread_id like 'same %' order by id`,
  )
  expect(events.map(({ to_status }) => to_status)).toEqual([
    'processing',
    'processing',
    'completed',
  ])
})

describe('rows', () => {
  test('cannot be deleted while they are unfinished', async ({ pool }) => {
    const { id } = await insertRow(pool, { thread_id: 'delete' })
    const remove = () => pool.query('delete from thread_operations where id = $1', [id])
    expect(await refusal(remove())).toEqual({
      code: '23514',
      constraint: 'unfinished_operation_is_not_deleted',
      message: `operation ${id} is pending and cannot be deleted`,
      hint: `Cancel it instead: UPDATE thread_operations SET status = 'cancelled' WHERE id = ${id};`,
    })
    await moveTo(pool, id, 'processing')
    expect((await refusal(remove())).message).toBe(
      `operation ${id} is processing and cannot be deleted`,
    )
  })

  test('can be deleted when they are final, and the thread keeps the highest turn', async ({
    pool,
  }) => {
    await pool.query(`insert into threads (id) values ('retention')`)
    for (let turn = 1; turn <= 3; turn++) {
      const { id } = await insertRow(pool, { thread_id: 'retention' })
      await moveTo(pool, id, 'processing')
      await moveTo(pool, id, 'completed')
    }
    const { rowCount } = await pool.query(
      `delete from thread_operations where thread_id = 'retention' and turn > 1`,
    )
    expect(rowCount).toBe(2)
    const { rows } = await pool.query(`select last_turn from threads where id = 'retention'`)
    expect(rows).toEqual([{ last_turn: 3 }])
  })

  test.for(['truncate thread_operations', 'truncate thread_operations restart identity cascade'])(
    'cannot be removed by %s',
    async (statement, { pool }) => {
      expect(await refusal(pool.query(statement))).toEqual({
        code: '23514',
        constraint: 'thread_operations_is_not_truncated',
        message:
          'thread_operations cannot be truncated: unfinished operations and the ledger would be lost',
        hint: 'Cancel what waits, then DELETE the finished rows you no longer need.',
      })
    },
  )
})
