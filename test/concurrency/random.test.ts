import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { expect } from 'vitest'
import type { Claim } from '../../src/dispatcher/dispatcher.ts'
import type { Outcome } from '../../src/model/outcome.ts'
import { completed, retryIn } from '../support/hand-driven.ts'
import { insertRow } from '../support/line.ts'
import { Random } from '../support/random.ts'
import { test } from '../support/scripted.ts'
import { waitFor } from '../support/wait-for.ts'

const isolations = ['read committed', 'repeatable read', 'serializable']
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const threads = 10
const writers = 8
const transactionsEach = 40

/** One committed INSERT, on a clock that only tells what was before what. */
type Inserted = { id: number; thread: string; began: number; transaction: Transaction }
type Transaction = { committed: number }

class History {
  #now = 0
  readonly inserted: Inserted[] = []
  readonly starts: Claim[] = []
  readonly active = new Set<string>()
  /** What must never be: two operations of one thread at once. */
  readonly overlaps: string[] = []

  now(): number {
    return ++this.#now
  }
}

/** Writes transactions of random length, isolation and outcome into random threads. */
async function write(client: pg.PoolClient, history: History, random: Random): Promise<void> {
  for (let i = 0; i < transactionsEach; i++) {
    const transaction: Transaction = { committed: 0 }
    const rows: Inserted[] = []
    try {
      await client.query(`begin isolation level ${random.of(isolations)}`)
      if (random.chance(0.3)) await client.query('select 1 from threads limit 1') // takes its snapshot
      for (let n = random.below(4); n >= 0; n--) {
        if (random.chance(0.3)) await sleep(random.below(15))
        const undone = random.chance(0.15)
        if (undone) await client.query('savepoint s')
        const thread = `t${random.below(threads)}`
        const began = history.now()
        const { id } = await insertRow(client, { thread_id: thread, priority: random.below(2) })
        if (undone) await client.query('rollback to savepoint s')
        else rows.push({ id, thread, began, transaction })
      }
      await client.query(random.chance(0.2) ? 'rollback' : 'commit')
      const { rows: found } = await client.query(
        'select count(*) as found from thread_operations where id = any ($1)',
        [rows.map(({ id }) => id)],
      )
      if (found[0].found === 0) continue
      transaction.committed = history.now()
      history.inserted.push(...rows)
      if (random.chance(0.1)) {
        await client.query(
          `update thread_operations set status = 'cancelled' where id = $1 and status = 'pending'`,
          [random.of(rows).id],
        )
      }
    } catch (error) {
      // Serializable transactions may be refused; they are not tried again.
      if ((error as pg.DatabaseError).code !== '40001') throw error
      await client.query('rollback')
    }
  }
}

/** Executes nothing, for a moment, with a random outcome. */
async function execute(claim: Claim, history: History, random: Random): Promise<Outcome> {
  const { thread_id, attempts, failures } = claim.operation
  if (history.active.has(thread_id)) history.overlaps.push(thread_id)
  history.active.add(thread_id)
  history.starts.push(claim)
  if (random.chance(0.3)) await sleep(random.below(4))
  history.active.delete(thread_id)
  if (attempts < 4 && failures === 0 && random.chance(0.2)) return retryIn(random.below(10))
  if (random.chance(0.1)) return { status: 'failed', error: { code: 'no', message: 'No.' } }
  return completed
}

test(`the promised order holds, whoever writes how (SEED=${seed})`, async ({ pool, start }) => {
  const history = new History()
  const random = new Random(seed)
  for (let i = 0; i < 3; i++) {
    const own = new Random(random.below(2 ** 31))
    await start((claim) => execute(claim, history, own), { concurrency: 4, pollMs: 10 })
  }
  await Promise.all(
    Array.from({ length: writers }, async () => {
      const own = new Random(random.below(2 ** 31))
      const client = await pool.connect()
      await write(client, history, own).finally(() => client.release(true))
    }),
  )
  const left = 'select from thread_operations where finished_at is null'
  await waitFor(async () => (await pool.query(left)).rowCount === 0, { timeoutMs: 15_000 })

  const { rows } = await pool.query(
    'select id, thread_id, turn, attempts, status from thread_operations',
  )
  expect(history.overlaps).toEqual([])
  expect(rows.map(({ id }) => id).sort()).toEqual(history.inserted.map(({ id }) => id).sort())

  const turnOf = new Map<number, number>()
  for (const { id, turn, status } of rows) {
    if (turn === null) expect(status).toBe('cancelled')
    else turnOf.set(id, turn)
  }
  // Exactly once per attempt, and none but the committed ones.
  const attempts = rows.reduce((sum, row) => sum + row.attempts, 0)
  const distinct = new Set(
    history.starts.map(({ operation }) => `${operation.id}/${operation.attempts}`),
  )
  expect([history.starts.length, distinct.size]).toEqual([attempts, attempts])

  for (let i = 0; i < threads; i++) {
    const thread = `t${i}`
    const started = history.starts
      .map(({ operation }) => operation)
      .filter(({ thread_id }) => thread_id === thread)
    // A retried operation comes again at once, so each id stands in one piece.
    const order = started.map(({ id }) => id).filter((id, n, ids) => id !== ids[n - 1])
    const inTurn = rows
      .filter(({ thread_id, turn }) => thread_id === thread && turn !== null)
      .sort((a, b) => a.turn - b.turn)
    expect(order).toEqual(inTurn.map(({ id }) => id))
    expect(inTurn.map(({ turn }) => turn)).toEqual(inTurn.map((_, n) => n + 1))

    const inserted = history.inserted.filter((row) => row.thread === thread && turnOf.has(row.id))
    for (const a of inserted) {
      for (const b of inserted) {
        const promised =
          a.transaction === b.transaction ? a.began < b.began : a.transaction.committed < b.began
        if (promised && Number(turnOf.get(a.id)) > Number(turnOf.get(b.id))) {
          expect.fail(`${a.id} was committed before ${b.id} began, and started after it`)
        }
      }
    }
  }
})
