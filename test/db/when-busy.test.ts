import { readFile } from 'node:fs/promises'
import type pg from 'pg'
import { describe, expect } from 'vitest'
import { busyStrategies } from '../../src/model/operation.ts'
import { test } from '../support/database.ts'
import { asLine, insertRow, moveTo, readRow, refusal } from '../support/line.ts'
import { decisions, decisionTable } from '../support/when-busy.ts'

const page = '../../docs/when-busy.md'
const events = async (pool: pg.Pool, id: number) =>
  (
    await pool.query(
      `select from_status, to_status, turn, attempt, actor, code, detail from operation_events where operation_id = $1`,
      [id],
    )
  ).rows
const cancels = async (pool: pg.Pool, thread: string) =>
  (
    await pool.query(
      `select target_id, data from thread_operations where thread_id = $1 and operation = 'cancel_run' order by id`,
      [thread],
    )
  ).rows
const run = { operation: 'add_message_and_run', data: { message: 'Hi', model: 'm' } }
const settings = (pool: pg.Pool, thread: string, columns: object) =>
  pool.query(
    `insert into threads (id, if_busy, debounce_ms, debounce_max_ms)
     select $1, coalesce(if_busy, 'enqueue'), debounce_ms, debounce_max_ms
       from jsonb_to_record($2) as s (if_busy text, debounce_ms integer, debounce_max_ms integer)`,
    [thread, columns],
  )

test('the table of docs/when-busy.md is made from the function (-u writes it)', async ({
  pool,
}) => {
  const text = await readFile(new URL(page, import.meta.url), 'utf8')
  const [before, , after] = text.split(/<!-- \/?table -->/)
  const table = decisionTable(await decisions(pool))
  const expected = `${before}<!-- table -->\n\n${table}\n\n<!-- /table -->${after}`
  await expect(expected).toMatchFileSnapshot(page)
})

test('the index holds those who wait with a strategy that concerns others who wait', async ({
  pool,
}) => {
  const { rows } = await pool.query(
    `select pg_get_expr(indpred, indrelid) as predicate from pg_index where indexrelid = 'operations_to_arrange'::regclass`,
  )
  const indexed = busyStrategies.filter((strategy) => rows[0].predicate.includes(`'${strategy}'`))
  const concerned = (await decisions(pool)).filter(
    ({ situation, actions }) =>
      situation === 'others wait' && actions.some((action) => /_waiting|fail/.test(action)),
  )
  expect(indexed).toEqual(concerned.map(({ strategy }) => strategy))
})

describe('an operation that is refused because its thread is busy', () => {
  test('is born failed, is in the ledger, and is no dead letter', async ({ pool }) => {
    const first = await insertRow(pool, { thread_id: 'refused' })
    const row = await insertRow(pool, { thread_id: 'refused', if_busy: 'reject' })
    expect(row).toMatchObject({
      status: 'failed',
      place: null,
      turn: null,
      ready_at: null,
      finished_at: row.created_at,
      error: { code: 'thread_busy', operation_id: first.id },
    })
    expect(await events(pool, row.id)).toEqual([
      {
        from_status: 'pending',
        to_status: 'failed',
        turn: null,
        attempt: 0,
        actor: row.created_by,
        code: 'thread_busy',
        detail: { operation_id: first.id },
      },
    ])
    const { rows } = await pool.query(`select from dead_letters where thread_id = 'refused'`)
    expect(rows).toEqual([])
    const story = await pool.query(
      `select event from thread_timeline where operation_id = $1 order by at`,
      [row.id],
    )
    expect(story.rows.map(({ event }) => event)).toEqual([
      'was asked for',
      `was refused, behind operation ${first.id}`,
    ])
  })

  test('may be sent back, and waits then', async ({ pool }) => {
    await insertRow(pool, { thread_id: 'sent back' })
    const row = await insertRow(pool, { thread_id: 'sent back', if_busy: 'reject' })
    await pool.query(`select retry_operation($1, 'tail')`, [row.id])
    expect(await readRow(pool, row.id)).toMatchObject({ status: 'pending', if_busy: null })
  })

  test('leaves nothing behind where its idempotency key is taken', async ({ pool }) => {
    const thread_id = 'same key'
    const first = await insertRow(pool, { thread_id, idempotency_key: 'k', ...run })
    await moveTo(pool, first.id, 'processing')
    for (const strategy of ['reject', 'interrupt'])
      await pool.query(
        `insert into thread_operations (thread_id, operation, data, idempotency_key, if_busy)
         values ($1, 'add_message', '{"message": "Hi"}', 'k', $2)
         on conflict (thread_id, idempotency_key) where idempotency_key is not null do nothing`,
        [thread_id, strategy],
      )
    const { rows } = await pool.query('select id from thread_operations where thread_id = $1', [
      thread_id,
    ])
    expect(rows).toEqual([{ id: first.id }])
    expect(await events(pool, first.id)).toHaveLength(1)
  })
})

describe('an operation that interrupts', () => {
  test('asks for the run to be cancelled that is active, once', async ({ pool }) => {
    const thread_id = 'interrupted'
    const first = await insertRow(pool, { thread_id, ...run })
    await moveTo(pool, first.id, 'processing')
    const row = await insertRow(pool, { thread_id, if_busy: 'interrupt' })
    await insertRow(pool, { thread_id, if_busy: 'interrupt+merge' })
    expect(await cancels(pool, thread_id)).toEqual([
      { target_id: first.id, data: { operation_id: first.id, interrupted_by: row.id } },
    ])
  })

  test.for(['add_message', 'update_thread', 'hold'])(
    'leaves a %s alone, which has no run',
    async (operation, { pool }) => {
      const thread_id = `not interrupted: ${operation}`
      const data = { add_message: { message: 'Hi' }, update_thread: { metadata: {} } }[operation]
      const first = await insertRow(pool, { thread_id, operation, data: data ?? {} })
      await moveTo(pool, first.id, 'processing')
      await insertRow(pool, { thread_id, if_busy: 'interrupt', ...run })
      expect(await cancels(pool, thread_id)).toEqual([])
    },
  )

  test('leaves one alone that was started after it came', async ({ pool }) => {
    const thread_id = 'the next one'
    const first = await insertRow(pool, { thread_id, ...run })
    const row = await insertRow(pool, { thread_id, if_busy: 'interrupt' })
    await moveTo(pool, first.id, 'processing')
    await asLine(pool, (client) =>
      client.query('select interrupt_active(o) from thread_operations o where id = $1', [row.id]),
    )
    expect(await cancels(pool, thread_id)).toEqual([])
  })
})

describe('what the thread says', () => {
  test('counts for messages and runs that say nothing of their own', async ({ pool }) => {
    const thread_id = 'defaults'
    await settings(pool, thread_id, { if_busy: 'merge', debounce_ms: 500 })
    const plain = { if_busy: null, debounce_ms: null, debounce_max_ms: null }
    const own = await insertRow(pool, { thread_id })
    expect(own).toMatchObject({ if_busy: 'merge', debounce_ms: 500, debounce_max_ms: 5_000 })
    const other = { if_busy: 'latest', debounce_ms: 7, debounce_max_ms: 9 }
    expect(await insertRow(pool, { thread_id, ...other })).toMatchObject(other)
    const alone = await insertRow(pool, { thread_id: 'plain', debounce_max_ms: 9 })
    expect(alone).toMatchObject({ debounce_ms: null, debounce_max_ms: null })
    const enqueue = await insertRow(pool, { thread_id, if_busy: 'enqueue' })
    expect(enqueue).toMatchObject({ if_busy: null, debounce_ms: 500 })
    for (const [operation, data] of [
      ['hold', {}],
      ['update_thread', { metadata: {} }],
      ['create_thread', {}],
      ['cancel_run', {}],
    ])
      expect(await insertRow(pool, { thread_id, operation, data })).toMatchObject(plain)
  })

  test('leaves alone what waits already', async ({ pool }) => {
    const thread_id = 'later'
    const row = await insertRow(pool, { thread_id })
    await settings(pool, thread_id, { if_busy: 'merge' })
    expect(await readRow(pool, row.id)).toMatchObject({ if_busy: null })
  })
})

describe('is refused by the database:', () => {
  test('a strategy or a pause of what acts beside the line', async ({ pool }) => {
    for (const wish of [{ if_busy: 'reject' }, { debounce_ms: 5 }])
      expect(
        await refusal(
          insertRow(pool, { thread_id: 't', operation: 'cancel_run', data: {}, ...wish }),
        ),
      ).toMatchObject({ code: '23514', constraint: 'beside_the_line_acts_at_once' })
  })

  test('to send back or delete what was merged into an operation that goes on', async ({
    pool,
  }) => {
    const thread_id = 'merged'
    const first = await insertRow(pool, { thread_id })
    const into = await insertRow(pool, { thread_id, if_busy: 'merge', ...run })
    await asLine(pool, (client) => client.query('select arrange_line($1)', [thread_id]))
    expect(await readRow(pool, first.id)).toMatchObject({ error: { code: 'merged' } })
    expect(await refusal(pool.query(`select retry_operation($1, 'head')`, [first.id]))).toEqual({
      code: '23514',
      constraint: 'merged_operation_is_not_retried',
      message: expect.stringContaining(`went along with operation ${into.id}`),
      hint: `Send that one back instead: SELECT retry_operation(${into.id}, 'head');`,
    })
    const deleted = () => pool.query('delete from thread_operations where id = $1', [first.id])
    expect(await refusal(deleted())).toMatchObject({ constraint: 'message_is_still_needed' })
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [into.id])
    await deleted()
  })
})
