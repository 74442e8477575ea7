import type pg from 'pg'
import { expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { asLine, insertRow, moveTo } from '../support/line.ts'
import { decisions, situations } from '../support/when-busy.ts'
import { type Row, startLine, who } from './line.ts'

/** Written by hand, so that the function and the line are both judged by it. */
const wait = ['wait']
const supersede = ['supersede_waiting', 'wait']
const merge = ['merge_waiting', 'wait']
const interrupt = ['cancel_active', 'wait']
const both = ['cancel_active', 'merge_waiting', 'wait']
const fail = ['fail']
const start = ['start']
const expected: Record<string, string[][]> = {
  //                idle, others wait, processing, + others, requires_action, + others, retrying, + others
  enqueue: [start, wait, wait, wait, wait, wait, wait, wait],
  reject: [start, fail, fail, fail, fail, fail, fail, fail],
  interrupt: [start, wait, interrupt, interrupt, interrupt, interrupt, interrupt, interrupt],
  latest: [start, supersede, wait, supersede, wait, supersede, wait, supersede],
  merge: [start, merge, wait, merge, wait, merge, wait, merge],
  'interrupt+merge': [start, merge, interrupt, both, interrupt, both, interrupt, both],
}
const cells = Object.entries(expected).flatMap(([strategy, actions]) =>
  situations.map((situation, i) => [strategy, situation, actions[i] as string[]] as const),
)

type Ids = { first?: number; waiting?: number; last: number }

const say = (thread_id: string, text: string, more = {}) => ({
  thread_id,
  operation: 'add_message_and_run',
  data: { message: `reply with exactly: ${text}`, ...who },
  ...more,
})

/** Brings a line into its situation, then inserts the operation that is judged. */
async function enter(pool: pg.Pool, strategy: string, situation: string): Promise<Ids> {
  const thread = `${strategy} / ${situation}`
  const [status = ''] = situation.split(',')
  const ids: Partial<Ids> = {}
  if (situation !== 'idle' && status !== 'others wait') {
    const { id } = await insertRow(pool, say(thread, 'first'))
    await moveTo(pool, id, 'processing')
    await become(pool, id, status)
    ids.first = id
  }
  if (situation.endsWith('others wait'))
    ids.waiting = (await insertRow(pool, say(thread, 'waiting'))).id
  const { id: last } = await insertRow(pool, say(thread, 'last', { if_busy: strategy }))
  return { ...ids, last }
}

/** Is being served by one who has died, or waits for tool outputs or its next attempt, for an hour. */
const become = (pool: pg.Pool, id: number, status: string) =>
  asLine(pool, (line) =>
    line.query(
      `update thread_operations
          set provider = 'responses', status = $2, claimed_by = case when $2 = 'processing' then 'd1' end,
              ready_at = case when $2 <> 'processing' then clock_timestamp() + interval '1 hour' end
        where id = $1`,
      [id, status === 'retrying' ? 'pending' : status],
    ),
  )

type Served = {
  ids: Ids
  first: Row | null
  atOnce: Row
  cancels: any[]
  end: Row
  waiting: Row | null
  said: string[]
}

let served: Promise<Map<string, Served>> | undefined

/** All cells at once, each on a thread of its own: judged at the INSERT first, then served. */
async function serveAll(pool: pg.Pool): Promise<Map<string, Served>> {
  const entered = new Map<string, { ids: Ids; atOnce: Row }>()
  for (const [strategy, situation] of cells) {
    const ids = await enter(pool, strategy, situation)
    entered.set(`${strategy} / ${situation}`, { ids, atOnce: await rowOf(pool, ids.last) })
  }
  const { rows: cancels } = await pool.query(
    `select thread_id, target_id, data from thread_operations where operation = 'cancel_run'`,
  )
  const line = await startLine(pool, 'responses')
  await asLine(pool, (client) =>
    client.query(
      `update thread_operations set ready_at = clock_timestamp() where turn is not null and ready_at is not null`,
    ),
  )
  const all = new Map<string, Served>()
  for (const [thread, { ids, atOnce }] of entered) {
    const first = ids.first === undefined ? null : await line.end(ids.first)
    const waiting = ids.waiting === undefined ? null : await line.end(ids.waiting)
    const end = await line.end(ids.last)
    const said = await line.said(thread)
    all.set(thread, {
      ids,
      first,
      atOnce,
      cancels: cancels.filter((c) => c.thread_id === thread),
      end,
      waiting,
      said,
    })
  }
  await expectHealthy(pool)
  return all
}

const rowOf = async (pool: pg.Pool, id: number): Promise<Row> =>
  (await pool.query('select * from thread_operations where id = $1', [id])).rows[0]

test('when_busy decides as the table says, and knows every strategy', async ({ pool }) => {
  expect(
    (await decisions(pool)).map(({ strategy, situation, actions }) => [
      strategy,
      situation,
      actions,
    ]),
  ).toEqual(cells)
})

test.for(cells)('%s, %s: %j', async ([strategy, situation, actions], { pool }) => {
  served ??= serveAll(pool)
  const { ids, first, atOnce, cancels, end, waiting, said } = (await served).get(
    `${strategy} / ${situation}`,
  ) as Served
  const has = (action: string) => actions.includes(action)

  if (has('fail')) {
    const operation_id = ids.first ?? ids.waiting
    for (const row of [atOnce, end])
      expect(row).toMatchObject({
        status: 'failed',
        turn: null,
        error: { code: 'thread_busy', operation_id },
      })
  } else {
    expect(atOnce.status).toBe('pending')
    expect(end).toMatchObject({ status: 'completed', result: { text: 'last' } })
  }

  const cancel = {
    target_id: ids.first,
    data: { operation_id: ids.first, interrupted_by: ids.last },
  }
  expect(cancels).toMatchObject(has('cancel_active') ? [cancel] : [])

  const firstTurn = ['user: reply with exactly: first', 'assistant: first']
  const waitingTurn = ['user: reply with exactly: waiting', 'assistant: waiting']
  const lastTurn = has('fail') ? [] : ['user: reply with exactly: last', 'assistant: last']
  if (first === null) {
    firstTurn.length = 0
  } else if (has('cancel_active')) {
    expect(first).toMatchObject({
      status: 'cancelled',
      error: { code: 'interrupted', operation_id: ids.last },
      result: { message_id: expect.any(String) },
    })
    firstTurn.pop()
  } else {
    expect(first.status).toBe('completed')
  }
  const by = { operation_id: ids.last }
  if (waiting === null) {
    waitingTurn.length = 0
  } else if (has('supersede_waiting')) {
    expect(waiting).toMatchObject({ status: 'cancelled', error: { code: 'superseded', ...by } })
    waitingTurn.length = 0
  } else if (has('merge_waiting')) {
    expect(waiting).toMatchObject({ status: 'cancelled', error: { code: 'merged', ...by } })
    expect(end.result.merged).toEqual([ids.waiting])
    waitingTurn.pop()
  } else {
    expect(waiting.status).toBe('completed')
  }
  expect(said).toEqual([...firstTurn, ...waitingTurn, ...lastTurn])
})
