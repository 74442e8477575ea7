import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { expect } from 'vitest'
import type { ClaimedOperation } from '../../src/store/claim.ts'
import { completed, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow } from '../support/line.ts'
import { brokenPromises, type Sent } from '../support/promised-order.ts'
import { Random } from '../support/random.ts'
import { test } from '../support/scripted.ts'
import { waitFor } from '../support/wait-for.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const strategies = [
  null,
  null,
  'reject',
  'interrupt',
  'latest',
  'merge',
  'merge',
  'interrupt+merge',
]
const kinds = [
  { operation: 'add_message', data: { message: 'Hi' } },
  { operation: 'add_message_and_run', data: { message: 'Hi', model: 'm' } },
  { operation: 'add_message_and_run', data: { message: 'Hi', model: 'm' } },
  { operation: 'create_run', data: { model: 'm' } },
  { operation: 'update_thread', data: { metadata: {} } },
]

let clock = 0
let transactions = 0

/** Transactions of random length into a few threads; some hold rows that wait, for a moment. */
async function write(client: pg.PoolClient, random: Random): Promise<Sent[]> {
  const sent: Sent[] = []
  for (let i = 0; i < 40; i++) {
    const transaction = ++transactions
    const rows: Sent[] = []
    await client.query('begin')
    if (random.chance(0.2))
      await client.query(
        `select from thread_operations where thread_id = $1 and status = 'pending' for update skip locked`,
        [`t${random.below(5)}`],
      )
    for (let n = random.below(3); n >= 0; n--) {
      const thread = `t${random.below(5)}`
      const insertBegan = ++clock
      const { id } = await insertRow(client, {
        thread_id: thread,
        if_busy: random.of(strategies),
        debounce_ms: random.chance(0.3) ? 1 + random.below(30) : null,
        ...random.of(kinds),
      })
      rows.push({ id, thread, transaction, insertBegan, committed: null })
      if (random.chance(0.3)) await sleep(random.below(10))
    }
    const undone = random.chance(0.1)
    await client.query(undone ? 'rollback' : 'commit')
    const committed = undone ? null : ++clock
    sent.push(...rows.map((row) => ({ ...row, committed })))
  }
  return sent
}

test(`everybody ends with an outcome, once, and in order (SEED=${seed})`, async ({
  pool,
  start,
}) => {
  const random = new Random(seed)
  const served: ClaimedOperation[] = []
  for (let i = 0; i < 2; i++) {
    const randomly = new Random(random.below(2 ** 31))
    const work = async ({ operation }: { operation: ClaimedOperation }) => {
      if (randomly.chance(0.5)) await sleep(randomly.below(10))
      if (operation.attempts < 3 && randomly.chance(0.2)) return retryIn(randomly.below(10))
      served.push(operation)
      return completed
    }
    await start(work, { concurrency: 3, pollMs: 10 })
  }
  const writers = Array.from({ length: 6 }, async () => {
    const own = new Random(random.below(2 ** 31))
    const client = await pool.connect()
    return write(client, own).finally(() => client.release(true))
  })
  const sent = (await Promise.all(writers)).flat()
  const left = `select from thread_operations where place is not null`
  await waitFor(async () => (await pool.query(left)).rowCount === 0)

  const { rows } = await pool.query(
    `select id::int, thread_id, status, turn, error, merges from thread_operations where operation <> 'cancel_run'`,
  )
  const rowOf = new Map(rows.map((row) => [row.id, row]))
  const committed = sent.filter((row) => row.committed !== null)
  expect([...rowOf.keys()].sort()).toEqual(committed.map(({ id }) => id).sort())
  for (const { id, thread_id, status, turn, error } of rows) {
    if (status === 'completed') continue
    const other = rowOf.get(error.operation_id)
    expect(turn).toBeNull()
    expect(other).toMatchObject({ thread_id })
    expect([
      ['failed', 'thread_busy'],
      ['cancelled', 'superseded'],
      ['cancelled', 'merged'],
    ]).toContainEqual([status, error.code])
    if (error.code === 'merged') expect(other?.merges).toContain(id)
  }

  // What the provider would hold: each message once, that of a merged one with whoever took it along.
  const effects = served.flatMap(({ id, merges }) => [...(merges ?? []), id])
  expect(new Set(effects).size).toBe(effects.length)
  const silent = rows.filter(({ id }) => !effects.includes(id))
  const lost = silent.filter(({ error }) => error?.code === 'merged')
  for (const { error } of lost)
    expect(rowOf.get(error.operation_id)?.error?.code).toBe('superseded')
  expect(silent.filter(({ status }) => status === 'completed')).toEqual([])
  const order = new Map(effects.map((id, n) => [id, n]))
  const visible = sent.filter(({ id }) => order.has(id))
  expect(brokenPromises(visible, order)).toEqual([])
  await expectHealthy(pool, { without: ['results_are_there'] })
})
