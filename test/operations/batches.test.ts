import type pg from 'pg'
import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { asLine } from '../support/line.ts'
import { waitFor } from '../support/wait-for.ts'
import { Line, loseFirstAnswer, messagesPath, type Row, startLine } from './line.ts'

/** Inserts these messages in one statement; ids in their order. */
async function insertAll(
  pool: pg.Pool,
  thread: string,
  messages: readonly unknown[],
): Promise<number[]> {
  const { rows } = await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     select $1, 'add_message', jsonb_build_object('message', m)
       from jsonb_array_elements($2) with ordinality as m (m, n) order by n returning id`,
    [thread, JSON.stringify(messages)],
  )
  return rows.map(({ id }) => id).toSorted((a, b) => a - b)
}

const ends = (line: Line, ids: readonly number[]): Promise<Row[]> =>
  Promise.all(ids.map((id) => line.end(id)))
const statuses = async (line: Line, ids: readonly number[]) =>
  (await ends(line, ids)).map(({ status }) => status)
const texts = (count: number) => Array.from({ length: count }, (_, n) => `message ${n}`)
const posts = (line: Line) => line.sent('POST', messagesPath)

/** A thread whose conversation exists. */
async function open(line: Line, thread: string): Promise<void> {
  await line.do(thread, 'create_thread', {})
}

describe('neighbouring add_messages on "responses"', () => {
  test('take one call for twenty, and each has its own turn, result and ledger', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses')
    await open(line, 'hundred')
    const asked = line.relay.requests.length
    const ids = await insertAll(pool, 'hundred', texts(100))
    const rows = await ends(line, ids)
    expect(line.relay.requests.slice(asked).map(({ method }) => method)).toEqual([
      'GET', // what a thread that was adopted held before
      ...Array(5).fill('POST'),
    ])
    expect(rows.map(({ turn }) => turn)).toEqual(ids.map((_, n) => n + 2))
    for (const row of rows)
      expect(row).toMatchObject({ status: 'completed', attempts: 1, failures: 0, intent: null })
    const { provider_thread_id } = await line.thread('hundred')
    const history = line.emulator.history(provider_thread_id)
    expect(history.map(({ text }) => text)).toEqual(texts(100))
    expect(rows.map(({ result }) => result.message_id)).toEqual(history.map(({ id }) => id))
    const ledger = await pool.query(
      `select array_agg(from_status || ' → ' || to_status order by id) as story
         from operation_events where thread_id = 'hundred' group by operation_id`,
    )
    expect(ledger.rows).toHaveLength(101)
    for (const { story } of ledger.rows)
      expect(story).toEqual(['pending → processing', 'processing → completed'])
    expect((await line.thread('hundred')).last_item_id).toBe(history.at(-1)?.id)
    await expectHealthy(pool)
  })

  test('are those only that stand right behind one another', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await open(line, 'mixed')
    const hold = await heldLine(line, 'mixed')
    await insertAll(pool, 'mixed', ['a', 'b'])
    await line.insert('mixed', 'update_thread', { metadata: { a: 'b' } })
    const last = await insertAll(pool, 'mixed', ['c', 'd', 'e'])
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [last[1]])
    await pool.query('select release_hold($1)', [hold])
    await ends(line, last)
    expect(posts(line)).toHaveLength(2)
    expect(await line.said('mixed')).toEqual(['a', 'b', 'c', 'e'].map((text) => `user: ${text}`))
    await expectHealthy(pool)
  })

  test('leave out what somebody’s transaction holds, and all behind it', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await open(line, 'locked')
    const hold = await heldLine(line, 'locked')
    const ids = await insertAll(pool, 'locked', texts(4))
    const client = await pool.connect()
    await client.query('begin')
    await client.query('select from thread_operations where id = $1 for update', [ids[2]])
    await pool.query('select release_hold($1)', [hold])
    expect(await statuses(line, ids.slice(0, 2))).toEqual(['completed', 'completed'])
    expect(posts(line)).toHaveLength(1)
    await client.query('rollback')
    client.release()
    expect(await statuses(line, ids)).toEqual(Array(4).fill('completed'))
    expect(posts(line)).toHaveLength(2)
    expect(await line.said('locked')).toEqual(texts(4).map((text) => `user: ${text}`))
    await expectHealthy(pool)
  })

  test('cannot be changed or cancelled once they are on their way', async ({ pool }) => {
    const answer = Promise.withResolvers<undefined>()
    const line = await startLine(pool, 'responses', {
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && messagesPath.test(path) ? answer.promise : undefined,
      },
    })
    await open(line, 'under way')
    const ids = await insertAll(pool, 'under way', texts(3))
    const last = ids[2] as number
    await waitFor(async () => (await line.row(last)).intent)
    for (const change of [`status = 'cancelled'`, `data = '{"message": "else"}'`])
      await expect(
        pool.query(`update thread_operations set ${change} where id = $1`, [last]),
      ).rejects.toMatchObject({
        constraint: 'message_is_sent_along',
        hint: expect.stringContaining('completed when its turn comes'),
      })
    await pool.query('update thread_operations set priority = 5 where id = $1', [last])
    answer.resolve(undefined)
    expect(await statuses(line, ids)).toEqual(Array(3).fill('completed'))
    await expectHealthy(pool)
  })

  test('are not sent along where somebody who came meanwhile supersedes them', async ({ pool }) => {
    const look = Promise.withResolvers<undefined>()
    let looks = false
    const line = await startLine(pool, 'responses', {
      emulator: {
        onRequest: ({ method, path }) => {
          if (method !== 'GET' || !messagesPath.test(path)) return undefined
          looks = true
          return look.promise
        },
      },
    })
    await open(line, 'superseded')
    const ids = await insertAll(pool, 'superseded', texts(3))
    await waitFor(() => looks)
    await pool.query(
      `insert into thread_operations (thread_id, operation, data, if_busy) values ('superseded', 'add_message', '{"message": "latest"}', 'latest')`,
    )
    look.resolve(undefined)
    expect(await statuses(line, ids)).toEqual(['completed', 'cancelled', 'cancelled'])
    await waitFor(async () => (await line.said('superseded')).length === 2)
    expect(await line.said('superseded')).toEqual(['user: message 0', 'user: latest'])
    await expectHealthy(pool)
  })

  test('are completed where a cancel_run comes too late, which says so', async ({ pool }) => {
    const answer = Promise.withResolvers<undefined>()
    const line = await startLine(pool, 'responses', {
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && messagesPath.test(path) ? answer.promise : undefined,
      },
    })
    await open(line, 'too late')
    const ids = await insertAll(pool, 'too late', texts(3))
    const last = ids[2] as number
    await waitFor(async () => (await line.row(last)).intent)
    const data = { operation_id: last }
    const cancel = await line.insert('too late', 'cancel_run', data)
    answer.resolve(undefined)
    expect(await statuses(line, ids)).toEqual(Array(3).fill('completed'))
    expect((await line.end(cancel)).result).toEqual({ ...data, outcome: 'completed' })
    expect(await line.said('too late')).toEqual(texts(3).map((text) => `user: ${text}`))
    await expectHealthy(pool)
  })

  test('are not overtaken by an earlier INSERT that commits while they are on their way', async ({
    pool,
  }) => {
    const answer = Promise.withResolvers<undefined>()
    const line = await startLine(pool, 'responses', {
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && messagesPath.test(path) ? answer.promise : undefined,
      },
    })
    await open(line, 'overtaken')
    const hold = await heldLine(line, 'overtaken')
    const [first] = await insertAll(pool, 'overtaken', ['first'])
    const client = await pool.connect()
    await client.query('begin')
    const { rows } = await client.query(
      `insert into thread_operations (thread_id, operation, data)
       values ('overtaken', 'add_message', '{"message": "late"}') returning id`,
    )
    const [second] = await insertAll(pool, 'overtaken', ['second'])
    await pool.query('select release_hold($1)', [hold])
    await waitFor(async () => (await line.row(second as number)).intent)
    await client.query('commit')
    client.release()
    answer.resolve(undefined)
    const late = await line.end(rows[0].id)
    const turns = (await ends(line, [first, second] as number[])).map(({ turn }) => turn)
    expect([...turns, late.turn]).toEqual([3, 4, 5])
    expect(await line.said('overtaken')).toEqual(['user: first', 'user: second', 'user: late'])
    await expectHealthy(pool)
  })

  test('of which one is refused go on without it: it alone fails', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await open(line, 'refused')
    const bad = { content: [{ text: 'without a type' }] }
    const unknown = { content: 'x', metadata: { a: 'b' } }
    const ids = await insertAll(pool, 'refused', ['a', bad, 'b', unknown, 'c', 'd'])
    expect(await statuses(line, ids)).toEqual([
      'completed',
      'failed',
      'completed',
      'failed',
      'completed',
      'completed',
    ])
    expect(await line.said('refused')).toEqual(['a', 'b', 'c', 'd'].map((text) => `user: ${text}`))
    expect((await line.row(ids[3] as number)).error.code).toBe('unsupported_parameter')
    const left = await pool.query(
      `select id from thread_operations where thread_id = 'refused' and intent is not null`,
    )
    expect(left.rows).toEqual([])
    await expectHealthy(pool)
  })

  test('under cancel_rest, those behind the one that was refused are cancelled', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses')
    await open(line, 'rest')
    await pool.query(`update threads set on_failure = 'cancel_rest' where id = 'rest'`)
    const ids = await insertAll(pool, 'rest', [{ content: 'x', metadata: { a: 'b' } }, 'b', 'c'])
    expect(await statuses(line, ids)).toEqual(['failed', 'cancelled', 'cancelled'])
    expect(posts(line)).toEqual([])
    await expectHealthy(pool)
  })

  test('wait for a run of somebody else together, and nobody else is held up', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await open(line, 'foreign')
    const { provider_thread_id } = await line.thread('foreign')
    line.emulator.foreignRun(provider_thread_id, { ms: 400 })
    const ids = await insertAll(pool, 'foreign', texts(3))
    await line.waiting(ids[0] as number, 'conversation_locked')
    // Nothing of them is under way: they can be withdrawn.
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [ids[1]])
    expect(await statuses(line, ids)).toEqual(['completed', 'cancelled', 'completed'])
    expect((await line.said('foreign')).slice(1)).toEqual(['user: message 0', 'user: message 2'])
    await expectHealthy(pool)
  })

  test('are found after a lost answer, also where all of them say the same', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await open(line, 'lost')
    await line.do('lost', 'add_message', { message: 'ok' })
    loseFirstAnswer(line.relay, 'POST', messagesPath)
    const ids = await insertAll(pool, 'lost', ['ok', 'ok', 'ok'])
    const rows = await ends(line, ids)
    expect(rows.map(({ status, attempts }) => [status, attempts])).toEqual([
      ['completed', 2],
      ['completed', 1],
      ['completed', 1],
    ])
    expect(posts(line)).toHaveLength(2)
    const { provider_thread_id } = await line.thread('lost')
    const history = line.emulator.history(provider_thread_id).map(({ id }) => id)
    expect(history).toHaveLength(4)
    expect(rows.map(({ result }) => result.message_id)).toEqual(history.slice(1))
    await expectHealthy(pool)
  })

  test('that never arrived are sent again as one, once reads can be trusted', async ({ pool }) => {
    let resets = 1
    const line = await startLine(pool, 'responses', {
      settleMs: 300,
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && messagesPath.test(path) && resets-- > 0 ? 'reset' : undefined,
      },
    })
    await open(line, 'never arrived')
    const ids = await insertAll(pool, 'never arrived', texts(3))
    const waiting = await line.waiting(ids[0] as number, 'outcome_unknown')
    expect(waiting.intent).toMatchObject({ call: 'add_message', batch: ids })
    expect(await statuses(line, ids)).toEqual(Array(3).fill('completed'))
    expect(posts(line)).toHaveLength(2)
    expect(await line.said('never arrived')).toEqual(texts(3).map((text) => `user: ${text}`))
  })

  test.for([
    ['arrived', 1],
    ['never arrived', 2],
  ] as const)(
    'that %s look for themselves where whoever sent them along is given up',
    async ([how, calls], { pool }) => {
      let sent = false
      const line = await startLine(pool, 'responses', {
        settleMs: 300,
        emulator: {
          onRequest: ({ method, path }) => {
            if (sent || method !== 'POST' || !messagesPath.test(path)) return undefined
            sent = true
            return how === 'arrived' ? undefined : 'reset'
          },
        },
      })
      const thread = `given up, ${how}`
      await open(line, thread)
      line.relay.loseFrom = ({ path }) => (sent && messagesPath.test(path) ? '' : undefined)
      const ids = await insertAll(pool, thread, texts(3))
      await waitFor(() => sent)
      await line.dispatcher.stop()
      await asLine(pool, (client) =>
        client.query(
          `update thread_operations
              set status = 'cancelled', finished_at = clock_timestamp(), place = null, ready_at = null, claimed_by = null,
                  error = '{"code": "given_up"}' where id = $1`,
          [ids[0]],
        ),
      )
      line.relay.loseFrom = () => undefined
      const next = new Line(pool, 'responses', line.emulator, line.relay, { settleMs: 300 })
      await next.dispatcher.start()
      try {
        expect(await statuses(next, ids)).toEqual(['cancelled', 'completed', 'completed'])
      } finally {
        await next.dispatcher.stop()
      }
      expect(posts(line)).toHaveLength(calls)
      const all = texts(3).map((text) => `user: ${text}`)
      expect(await line.said(thread)).toEqual(how === 'arrived' ? all : all.slice(1))
      await expectHealthy(pool)
    },
  )

  test('whose row was locked when the answer came find their message in their turn', async ({
    pool,
  }) => {
    const answer = Promise.withResolvers<undefined>()
    const line = await startLine(pool, 'responses', {
      emulator: {
        onRequest: ({ method, path }) =>
          method === 'POST' && messagesPath.test(path) ? answer.promise : undefined,
      },
    })
    await open(line, 'locked later')
    const ids = await insertAll(pool, 'locked later', ['ok', 'ok', 'ok'])
    await waitFor(async () => (await line.row(ids[2] as number)).intent)
    const client = await pool.connect()
    await client.query('begin')
    await client.query('select from thread_operations where id = $1 for update', [ids[1]])
    answer.resolve(undefined)
    expect((await line.end(ids[0] as number)).status).toBe('completed')
    expect((await line.row(ids[1] as number)).intent).toBeTruthy()
    await client.query('rollback')
    client.release()
    expect(await statuses(line, ids)).toEqual(Array(3).fill('completed'))
    expect(posts(line)).toHaveLength(1)
    const { provider_thread_id } = await line.thread('locked later')
    const history = line.emulator.history(provider_thread_id).map(({ id }) => id)
    const rows = await ends(line, ids)
    expect(rows.map(({ result }) => result.message_id)).toEqual(history)
    await expectHealthy(pool)
  })

  test('of a dispatcher that had to stop are found by the next', async ({ pool }) => {
    let arrived = false
    const line = await startLine(pool, 'responses', { settleMs: 300 })
    await open(line, 'handed on')
    line.relay.loseFrom = ({ method, path }) => {
      if (method !== 'POST' || !messagesPath.test(path)) return undefined
      arrived = true
      return ''
    }
    const ids = await insertAll(pool, 'handed on', texts(3))
    await waitFor(() => arrived)
    await line.dispatcher.stop()
    line.relay.loseFrom = () => undefined
    const next = new Line(pool, 'responses', line.emulator, line.relay, { settleMs: 300 })
    await next.dispatcher.start()
    try {
      expect(await statuses(next, ids)).toEqual(Array(3).fill('completed'))
    } finally {
      await next.dispatcher.stop()
    }
    expect(posts(line)).toHaveLength(1)
    expect(await line.said('handed on')).toEqual(texts(3).map((text) => `user: ${text}`))
  })
})

/** Has the thread held, so that what is inserted waits; gives the hold. */
async function heldLine(line: Line, thread: string): Promise<number> {
  const id = await line.insert(thread, 'hold', {})
  await waitFor(async () => ((await line.row(id)) as Row & { held_until: unknown }).held_until)
  return id
}
