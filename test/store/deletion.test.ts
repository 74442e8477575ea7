import { expect } from 'vitest'
import { HandDriven, heldBecause, retryIn } from '../support/hand-driven.ts'
import { insertRow, readRow, refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'

const deletion = { thread_id: 't', operation: 'delete_thread', data: {} }

test('a deletion stands before all who wait, and is the head at once', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  const first = await insertRow(pool, { thread_id: 't' })
  const id = (await insertRow(pool, deletion)).id
  expect(await d.claimOnly()).toMatchObject({ id, is_ended: false })
  expect(await readRow(pool, first.id)).toMatchObject({ status: 'pending', ready_at: null })
})

test('of two deletions the later one is served first, and neither cancels the other', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  const [one, two] = [await insertRow(pool, deletion), await insertRow(pool, deletion)]
  const claim = await d.claimOnly()
  expect(claim.id).toBe(two.id)
  const three = await insertRow(pool, deletion)
  await d.settle(claim)
  const next = await d.claimOnly()
  expect(next.id).toBe(three.id)
  await d.settle(next)
  expect((await d.claimOnly()).id).toBe(one.id)
  const { rows } = await pool.query(`select from thread_operations where operation = 'cancel_run'`)
  expect(rows).toEqual([])
})

test('a deletion asks for whoever was started to be cancelled, once', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  const active = await insertRow(pool, { thread_id: 't' })
  const claim = await d.claimOnly()
  const { id } = await insertRow(pool, deletion)
  await insertRow(pool, deletion)
  const { rows } = await pool.query(
    `select target_id, data from thread_operations where operation = 'cancel_run'`,
  )
  expect(rows).toEqual([
    {
      target_id: active.id,
      data: { operation_id: active.id, reason: `operation ${id} deletes the conversation` },
    },
  ])
  expect(await d.claim()).toEqual([])
  await d.settle(claim, retryIn(3_600_000))
  expect(await d.claim()).toEqual([])
})

test('a deletion whose INSERT overlaps the start of another one asks at its claim', async ({
  pool,
  connected,
}) => {
  const [d, client] = [await HandDriven.signOn(await connected()), await connected()]
  const active = await insertRow(pool, { thread_id: 't' })
  await client.query('begin')
  const { id } = await insertRow(client, deletion)
  const claim = await d.claimOnly()
  expect(claim.id).toBe(active.id)
  await client.query('commit')
  const asked = `select target_id from thread_operations where operation = 'cancel_run'`
  expect((await pool.query(asked)).rows).toEqual([])
  expect(await d.claim()).toEqual([])
  expect((await pool.query(asked)).rows).toEqual([{ target_id: active.id }])
  await d.settle(claim)
  expect((await d.claimOnly()).id).toBe(id)
})

test('an INSERT of a deletion waits for nobody who holds the head', async ({ pool, connected }) => {
  const client = await connected()
  const { id } = await insertRow(pool, { thread_id: 't' })
  await client.query('begin')
  await client.query('select from thread_operations where id = $1 for update', [id])
  await pool.query(`set lock_timeout = '1s'`)
  expect((await insertRow(pool, deletion)).status).toBe('pending')
  await client.query('rollback')
})

test('a deletion that was rolled back or met its key cancels nothing', async ({
  pool,
  connected,
}) => {
  const [d, client] = [await HandDriven.signOn(await connected()), await connected()]
  const key = { ...deletion, idempotency_key: 'once' }
  const { id } = await insertRow(pool, key)
  await d.settle(await d.claimOnly())
  await insertRow(pool, { thread_id: 't' })
  await d.claimOnly()
  const again = pool.query(
    `insert into thread_operations (thread_id, operation, idempotency_key) values ('t', 'delete_thread', 'once') on conflict do nothing`,
  )
  expect((await again).rowCount).toBe(0)
  await client.query('begin')
  await insertRow(client, deletion)
  await client.query('rollback')
  const { rows } = await pool.query(
    `select id from thread_operations where operation in ('cancel_run', 'delete_thread')`,
  )
  expect(rows).toEqual([{ id }])
})

test('one that is held for an operator is asked to make way', async ({ pool, connected }) => {
  const d = await HandDriven.signOn(await connected())
  await insertRow(pool, { thread_id: 't' })
  const claim = await d.claimOnly()
  await d.settle(claim, heldBecause('outcome_unknown'))
  const { id } = await insertRow(pool, deletion)
  const { rows } = await pool.query(`select * from take_cancellations('d1')`)
  expect(rows[0].ready).toBe(true)
  expect((await d.claimOnly()).id).toBe(id)
})

test('who lost the claim ends no conversation', async ({ pool, connected }) => {
  const d = await HandDriven.signOn(await connected())
  await pool.query(
    `insert into threads (id, provider, provider_thread_id) values ('t', 'responses', 'conv_1')`,
  )
  await insertRow(pool, deletion)
  const { id, attempts } = await d.claimOnly()
  const end = (dispatcher: string, attempt: number) =>
    pool.query('select end_conversation($1, $2, $3, $4, $5) as noted', [
      dispatcher,
      id,
      attempt,
      'deleted',
      { reopen: false },
    ])
  for (const [dispatcher, attempt] of [
    ['d2', attempts],
    ['d1', attempts + 1],
  ] as const)
    expect((await end(dispatcher, attempt)).rows).toEqual([{ noted: null }])
  const thread = async () => (await pool.query(`select * from threads where id = 't'`)).rows[0]
  expect(await thread()).toMatchObject({ provider_thread_id: 'conv_1', closed_at: null })
  expect((await end('d1', attempts)).rows[0].noted).toMatchObject({ deleting: { reopen: false } })
  expect(await thread()).toMatchObject({
    provider_thread_id: null,
    closed_at: expect.any(Date),
    deleted_at: null,
  })
  const refused = await refusal(insertRow(pool, { thread_id: 't' }))
  expect(refused.message).toBe(
    'the conversation of thread t is being deleted, and it takes no more operations',
  )
  const opened = await refusal(pool.query(`select reopen_thread('t')`))
  expect(opened).toMatchObject({
    constraint: 'deletion_is_over',
    hint: expect.stringContaining('when that operation is final'),
  })
})

test('an operation sent back before its conversation was ended forgets what it did there', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  await pool.query(
    `insert into threads (id, provider, provider_thread_id) values ('t', 'responses', 'conv_1')`,
  )
  const { id } = await insertRow(pool, { thread_id: 't' })
  const claim = await d.claimOnly()
  await pool.query('select note_progress($1, $2, $3, null, $4)', [
    'd1',
    id,
    claim.attempts,
    { message_id: 'msg_1' },
  ])
  await d.settle(claim, { status: 'failed', error: { code: 'no', message: 'No.' } })
  await pool.query(`select retry_operation($1, 'tail')`, [id])
  expect((await readRow(pool, id)).progress).toEqual({
    sent_back: 1,
    generation: 1,
    message_id: 'msg_1',
  })
  await pool.query(`update threads set provider_thread_id = null where id = 't'`)
  expect(await d.claimOnly()).toMatchObject({ id, intent: null, progress: null })
})

test('an erased operation holds nothing, stays final, and the guard lets nobody else do that', async ({
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  const { id } = await insertRow(pool, {
    thread_id: 't',
    operation: 'add_message',
    data: { message: 'secret' },
    user_id: '42',
  })
  await d.settle(await d.claimOnly(), {
    status: 'completed',
    result: { message_id: 'msg_1', text: 'secret' },
  })
  const refused = await refusal(
    pool.query(
      `update thread_operations set data = '{}', progress = '{"erased": true}' where id = $1`,
      [id],
    ),
  )
  expect(refused.constraint).toBe('final_operation_is_frozen')
  await pool.query('select erase_operations($1)', [[id]])
  expect(await readRow(pool, id)).toMatchObject({
    status: 'completed',
    data: {},
    user_id: null,
    result: { message_id: 'msg_1' },
    progress: { erased: true },
  })
})
