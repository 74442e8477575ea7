import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { expect } from 'vitest'
import type { Claim } from '../../src/dispatcher/dispatcher.ts'
import type { Outcome } from '../../src/model/outcome.ts'
import { completed, failed, heldBecause, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow } from '../support/line.ts'
import { Random } from '../support/random.ts'
import { test } from '../support/scripted.ts'
import { waitFor } from '../support/wait-for.ts'

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const policies = ['continue', 'halt', 'cancel_rest']
const threads = Array.from({ length: 9 }, (_, i) => ({ id: `t${i}`, policy: policies[i % 3] }))

/** What an operator may be told: nothing to resume, sent back already, held by somebody. */
const expectedRefusals = ['23514', '55P03']
const tolerate = (error: pg.DatabaseError) => {
  if (!expectedRefusals.includes(String(error.code))) throw error
}

/** Executes nothing, for a moment, with a random outcome. */
async function execute({ operation }: Claim, random: Random): Promise<Outcome> {
  if (random.chance(0.3)) await sleep(random.below(4))
  if (random.chance(0.1)) return retryIn(random.below(10))
  if (random.chance(0.05)) return heldBecause('outcome_unknown')
  return operation.attempts < 4 && random.chance(0.2) ? failed : completed
}

/** Inserts into random lines; now and then cancels what it has inserted. */
async function write(client: pg.PoolClient, random: Random): Promise<void> {
  for (let i = 0; i < 60; i++) {
    await client.query('begin')
    const { id } = await insertRow(client, { thread_id: random.of(threads).id })
    if (random.chance(0.3)) await sleep(random.below(10))
    await client.query(random.chance(0.1) ? 'rollback' : 'commit')
    if (!random.chance(0.1)) continue
    await client.query(
      `update thread_operations set status = 'cancelled' where id = $1 and status = 'pending'`,
      [id],
    )
  }
}

/** Resumes lines and sends operations back, also in transactions that take a while or are undone. */
async function operate(
  client: pg.PoolClient,
  random: Random,
  isOver: () => boolean,
): Promise<void> {
  while (!isOver()) {
    await client.query('begin')
    const { rows } = await client.query(
      `select id from thread_operations where status in ('failed', 'cancelled') and attempts < 6`,
    )
    const act =
      rows.length > 0 && random.chance(0.6)
        ? client.query('select retry_operation($1, $2)', [
            random.of(rows).id,
            random.of(['head', 'tail']),
          ])
        : client.query('select resume_thread($1)', [random.of(threads).id])
    await act.catch(tolerate)
    if (random.chance(0.3)) await sleep(random.below(10))
    await client.query(random.chance(0.2) ? 'rollback' : 'commit')
  }
}

type Event = {
  thread_id: string
  operation_id: number
  from_status: string
  to_status: string
  at: Date
}

/**
 * The first start after each failure, with the claim that failed and all events since that claim, oldest
 * first. What came while the failure was being written down may count as before or after it.
 */
function* startsAfterFailures(events: readonly Event[]) {
  for (const [i, failure] of events.entries()) {
    if (failure.to_status !== 'failed' || failure.from_status === 'failed') continue
    const began = events.slice(0, i).findLastIndex(({ to_status }) => to_status === 'processing')
    const next = events.findIndex(({ to_status }, n) => n > i && to_status === 'processing')
    const [claimed, start] = [events[began], events[next]]
    if (claimed && start) yield { failure, claimed, start, since: events.slice(began, next) }
  }
}

test(`after a failure each thread does as it says, whatever operators do meanwhile (SEED=${seed})`, async ({
  pool,
  start,
}) => {
  const random = new Random(seed)
  const own = () => new Random(random.below(2 ** 31))
  for (const { id, policy } of threads) {
    await pool.query('insert into threads (id, on_failure) values ($1, $2)', [id, policy])
  }
  for (let i = 0; i < 3; i++) {
    const mine = own()
    await start((claim) => execute(claim, mine), { concurrency: 4, pollMs: 10 })
  }
  let writing = true
  const withClient = async (work: (client: pg.PoolClient) => Promise<void>) => {
    const client = await pool.connect()
    await work(client).finally(() => client.release(true))
  }
  const operators = Array.from({ length: 2 }, () =>
    withClient((client) => operate(client, own(), () => !writing)),
  )
  await Promise.all(Array.from({ length: 5 }, () => withClient((client) => write(client, own()))))
  writing = false
  await Promise.all(operators)

  await waitFor(
    async () => {
      for (const { id } of threads)
        await pool.query('select resume_thread($1)', [id]).catch(tolerate)
      return (
        (await pool.query('select from thread_operations where finished_at is null')).rowCount === 0
      )
    },
    { timeoutMs: 15_000 },
  )
  await expectHealthy(pool, { without: ['results_are_there'] })

  const { rows: events } = await pool.query<Event>(
    `select thread_id, operation_id, from_status, to_status, at from operation_events order by id`,
  )
  const { rows: operations } = await pool.query('select id, created_at from thread_operations')
  const createdAt = new Map<number, Date>(operations.map(({ id, created_at }) => [id, created_at]))
  let seen = 0
  for (const { id, policy } of threads) {
    const story = events.filter(({ thread_id }) => thread_id === id)
    for (const { failure, claimed, start, since } of startsAfterFailures(story)) {
      seen++
      const what = `${policy}: ${start.operation_id} was started after ${failure.operation_id} had failed`
      const toldBack = (id: number) =>
        since.some((event) => event.operation_id === id && event.from_status === 'failed')
      if (policy === 'halt') expect(toldBack(failure.operation_id), what).toBe(true)
      if (policy === 'cancel_rest') {
        const wasSentBack = since.some(
          (event) =>
            event.operation_id === start.operation_id && /failed|cancelled/.test(event.from_status),
        )
        const isLater = Number(createdAt.get(start.operation_id)) >= Number(claimed.at)
        expect(isLater || wasSentBack || toldBack(failure.operation_id), what).toBe(true)
      }
    }
  }
  expect(seen).toBeGreaterThan(20)
})
