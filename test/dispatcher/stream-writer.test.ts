import type pg from 'pg'
import pino from 'pino'
import { describe, expect } from 'vitest'
import type { Claim } from '../../src/dispatcher/dispatcher.ts'
import { StreamWriter } from '../../src/dispatcher/stream-writer.ts'
import type { ClaimedOperation } from '../../src/store/claim.ts'
import { deleteOldStreams, readLoggedEvents } from '../../src/store/streams.ts'
import { completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const text = (delta: string) => ({ type: 'text', delta }) as const
const never = new AbortController().signal

const claimOf = (operation: ClaimedOperation, dispatcherId: string): Claim => ({
  operation,
  dispatcherId,
  signal: never,
  cancelWanted: never,
  sent: true,
})

function writerOf(pool: pg.Pool, lines: string[] = []): StreamWriter {
  return new StreamWriter({ pool, log: pino({}, { write: (line) => void lines.push(line) }) })
}

/** Numbers of the first and the last event of each piece. */
async function pieces(pool: pg.Pool, id: number): Promise<Array<[number, number]>> {
  const { rows } = await pool.query(
    'select first_seq, last_seq from operation_stream where operation_id = $1 order by first_seq',
    [id],
  )
  return rows.map(({ first_seq, last_seq }) => [first_seq, last_seq])
}

/** A statement that waits for somebody's transaction. */
const blocked = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`

describe('a claim', () => {
  test('writes what it says now and then, without being asked', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, { thread_id: 't' })
    const stream = await writerOf(pool).open(claimOf(await d.claimOnly(), 'd1'))
    for (const word of ['one ', 'two ', 'three ']) stream.write(text(word))
    await waitFor(async () => (await pieces(pool, id)).length > 0)
    expect(await readLoggedEvents(pool, id)).toEqual([text('one two three ')])
    stream.write({ type: 'restarted' })
    stream.write(text('four'))
    await stream.close()
    expect(await pieces(pool, id)).toEqual([
      [1, 1],
      [2, 3],
    ])
  })

  test('writes in one statement with all others', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    for (let i = 0; i < 10; i++) await insertRow(pool, { thread_id: `t${i}` })
    const writer = writerOf(pool)
    const claims = await d.claim()
    const streams = await Promise.all(claims.map((one) => writer.open(claimOf(one, 'd1'))))
    for (const stream of streams) stream.write(text('Hi'))
    await Promise.all(streams.map((stream) => stream.close()))
    const { rows } = await pool.query(
      'select count(*) as pieces, count(distinct xmin::text) as statements from operation_stream',
    )
    expect(rows).toEqual([{ pieces: 10, statements: 1 }])
  })

  test('goes on behind what an earlier one has written', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, { thread_id: 't' })
    const writer = writerOf(pool)
    const first = await d.claimOnly()
    const earlier = await writer.open(claimOf(first, 'd1'))
    earlier.write(text('one'))
    await earlier.close()
    await d.settle(first, retryIn(0))
    const again = { ...(await d.claimOnly()), progress: {} }
    const later = await writer.open(claimOf(again, 'd1'))
    expect(later.earlier).toEqual([text('one')])
    later.write(text('two'))
    await later.close()
    expect(await pieces(pool, id)).toEqual([
      [1, 1],
      [2, 2],
    ])
  })

  test('that was lost writes nothing, whoever has it now', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected(), 'd1')
    const d2 = await HandDriven.signOn(await connected(), 'd2')
    const { id } = await insertRow(pool, { thread_id: 't' })
    const writer = writerOf(pool)
    const lost = await d1.claimOnly()
    const late = await writer.open(claimOf(lost, 'd1'))
    await d1.settle(lost, retryIn(0))
    late.write(text('between two claims'))
    await late.close()
    const mine = await writer.open(claimOf(await d2.claimOnly(), 'd2'))
    const later = await writer.open(claimOf(lost, 'd1'))
    later.write(text('too late'))
    mine.write(text('in time'))
    await Promise.all([later.close(), mine.close()])
    expect(await readLoggedEvents(pool, id)).toEqual([text('in time')])
  })

  test('counts on behind whoever writes under the same number at that moment', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, { thread_id: 't' })
    const other = await connected()
    await other.query('begin')
    await other.query('insert into operation_stream values ($1, 1, 2, $2)', [
      id,
      JSON.stringify([text('one'), text('two')]),
    ])
    const stream = await writerOf(pool).open(claimOf(await d.claimOnly(), 'd1'))
    stream.write(text('three'))
    const closed = stream.close()
    await waitFor(async () => (await pool.query(blocked)).rowCount === 1)
    await other.query('commit')
    await closed
    expect(await pieces(pool, id)).toEqual([
      [1, 2],
      [3, 3],
    ])
  })

  test('says nothing any more once it is settled', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, { thread_id: 't' })
    const operation = await d.claimOnly()
    const stream = await writerOf(pool).open(claimOf(operation, 'd1'))
    await d.settle(operation, completed)
    stream.write(text('too late'))
    await stream.close()
    expect(await pieces(pool, id)).toEqual([])
  })
})

describe('a table that somebody holds', () => {
  test('lets everything be written when it is free again, and nothing twice', async ({
    pool,
    connected,
  }) => {
    const lines: string[] = []
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, { thread_id: 't' })
    const stream = await writerOf(pool, lines).open(claimOf(await d.claimOnly(), 'd1'))
    const user = await connected()
    await user.query('begin; lock table operation_stream')
    stream.write(text('my secret '))
    await waitFor(() => lines.length > 0, { message: 'a flush fails' })
    stream.write(text('is safe'))
    await user.query('rollback')
    await stream.close()
    expect(await readLoggedEvents(pool, id)).toEqual([text('my secret is safe')])
    expect(lines.join('')).toContain('will try again')
    expect(lines.join('')).not.toContain('secret')
  })

  test('does not hold up the end of an operation for long', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, { thread_id: 't' })
    const stream = await writerOf(pool).open(claimOf(await d.claimOnly(), 'd1'))
    const user = await connected()
    await user.query('begin; lock table operation_stream')
    stream.write(text('unheard'))
    await stream.close()
    const held = `select from pg_locks where mode = 'AccessExclusiveLock' and granted
                     and relation = 'operation_stream'::regclass`
    expect((await pool.query(held)).rowCount).toBe(1)
    await user.query('rollback')
  })
})

describe('what was said', () => {
  const say = async (pool: pg.Pool, d: HandDriven, thread_id: string) => {
    const { id } = await insertRow(pool, { thread_id })
    const operation = await d.claimOnly()
    const stream = await writerOf(pool).open(claimOf(operation, d.id))
    stream.write(text('Hi'))
    await stream.close()
    return { id, operation }
  }
  const left = async (pool: pg.Pool): Promise<number[]> => {
    const { rows } = await pool.query('select operation_id from operation_stream order by 1')
    return rows.map(({ operation_id }) => operation_id)
  }

  test('is deleted when its operation has been over for long, and not before', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const over = await say(pool, d, 'over')
    const goesOn = await say(pool, d, 'goes on')
    await d.settle(over.operation)
    expect(await deleteOldStreams(pool, 60_000, 10)).toBe(0)
    expect(await left(pool)).toEqual([over.id, goesOn.id])
    expect(await deleteOldStreams(pool, 0, 10)).toBe(1)
    expect(await left(pool)).toEqual([goesOn.id])
  })

  test('is deleted in small bites, past what somebody holds', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const ids = []
    for (const thread of ['a', 'b', 'c']) {
      const { id, operation } = await say(pool, d, thread)
      await d.settle(operation)
      ids.push(id)
    }
    const user = await connected()
    await user.query('begin')
    await user.query('select from operation_stream where operation_id = $1 for update', [ids[0]])
    expect(await deleteOldStreams(pool, 0, 1)).toBe(1)
    expect(await left(pool)).toEqual([ids[0], ids[2]])
    await user.query('rollback')
    expect(await deleteOldStreams(pool, 0, 10)).toBe(2)
    expect(await left(pool)).toEqual([])
  })

  test('goes with its operation', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id, operation } = await say(pool, d, 'deleted')
    await d.settle(operation)
    await pool.query('delete from thread_operations where id = $1', [id])
    expect(await left(pool)).toEqual([])
  })
})
