import type pg from 'pg'
import { describe, expect } from 'vitest'
import {
  isFinal,
  type OperationStatus,
  operationStatuses,
  transitions,
} from '../../src/model/operation.ts'
import { test } from '../support/database.ts'
import { asLine, insertRow, moveTo, readRow, refusal } from '../support/line.ts'

/** The shortest way from the INSERT to each status. */
const wayTo: Record<OperationStatus, OperationStatus[]> = {
  scheduled: [],
  pending: [],
  processing: ['processing'],
  requires_action: ['processing', 'requires_action'],
  completed: ['processing', 'completed'],
  failed: ['processing', 'failed'],
  cancelled: ['cancelled'],
}

async function operationIn(pool: pg.Pool, threadId: string, status: OperationStatus) {
  const scheduled_at = status === 'scheduled' ? '2100-01-01' : undefined
  const { id } = await insertRow(pool, { thread_id: threadId, scheduled_at })
  for (const step of wayTo[status]) await moveTo(pool, id, step)
  return id
}

describe('the guard and src/model/operation.ts have the same transitions:', () => {
  const pairs = operationStatuses.flatMap((from) =>
    operationStatuses.map((to) => [from, to] as const),
  )

  test.for(pairs)('from %s to %s', async ([from, to], { pool }) => {
    const id = await operationIn(pool, `${from} to ${to}`, from)
    // Staying is no transition; only what is final may not even be touched.
    const legal = from === to ? !isFinal(from) : transitions[from].includes(to)
    if (legal) {
      await moveTo(pool, id, to)
      expect(await readRow(pool, id)).toMatchObject({
        status: to,
        prev_status: from === to ? null : from,
      })
    } else {
      expect(await refusal(moveTo(pool, id, to))).toMatchObject({
        code: '23514',
        constraint: 'transition_is_legal',
        message: `operation ${id} cannot go from ${from} to ${to}`,
      })
      expect(await readRow(pool, id)).toMatchObject({ status: from })
    }
  })

  test('and none to a status that does not exist', async ({ pool }) => {
    const id = await operationIn(pool, 'unknown status', 'processing')
    expect(await refusal(moveTo(pool, id, 'done' as OperationStatus))).toMatchObject({
      constraint: 'transition_is_legal',
    })
  })
})

test.for(['failed', 'cancelled'] as const)(
  'what is %s goes back to pending only without its turn, which is what retry_operation does',
  async (status, { pool }) => {
    const { id } = await insertRow(pool, { thread_id: `back from ${status}` })
    await moveTo(pool, id, 'processing')
    await moveTo(pool, id, status)
    const keepingItsTurn = asLine(pool, (client) =>
      client.query(
        `update thread_operations set status = 'pending', finished_at = null where id = $1`,
        [id],
      ),
    )
    expect(await refusal(keepingItsTurn)).toMatchObject({ constraint: 'transition_is_legal' })
    await pool.query(`select retry_operation($1, 'tail')`, [id])
    expect(await readRow(pool, id)).toMatchObject({ status: 'pending', turn: null })
  },
)

const activeStatuses = ['processing', 'requires_action'] as const

describe('what goes with a status is kept to, whoever writes:', () => {
  test('finished_at with the final ones, claimed_by with those being served, a place with those in line', async ({
    pool,
  }) => {
    for (const status of operationStatuses) {
      const row = await readRow(pool, await operationIn(pool, `goes with ${status}`, status))
      expect.soft(row.finished_at !== null, status).toBe(isFinal(status))
      const isActive = (activeStatuses as readonly string[]).includes(status)
      expect.soft(row.claimed_by !== null, status).toBe(status === 'processing')
      expect.soft(row.place !== null, status).toBe(isActive || status === 'pending')
      expect.soft(row.ready_at !== null, status).toBe(status === 'pending')
    }
  })
})

describe('a thread never has two active operations', () => {
  test.for(activeStatuses)(
    'while one is %s, not even by the line itself',
    async (status, { pool }) => {
      const thread = `active ${status}`
      await operationIn(pool, thread, status)
      const { id } = await insertRow(pool, { thread_id: thread })
      expect(await refusal(moveTo(pool, id, 'processing'))).toMatchObject({
        code: '23505',
        constraint: 'one_active_operation_per_thread',
      })
    },
  )

  test('and gets the next one when that one is over', async ({ pool }) => {
    const first = await operationIn(pool, 'one by one', 'processing')
    await moveTo(pool, first, 'failed')
    await operationIn(pool, 'one by one', 'processing')
  })
})

test('no turn of a thread is given twice', async ({ pool }) => {
  await operationIn(pool, 'turns', 'completed')
  const { id } = await insertRow(pool, { thread_id: 'turns' })
  const second = asLine(pool, (client) =>
    client.query('update thread_operations set turn = 1 where id = $1', [id]),
  )
  expect(await refusal(second)).toMatchObject({
    code: '23505',
    constraint: 'one_operation_per_turn',
  })
})
