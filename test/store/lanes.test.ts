import type pg from 'pg'
import { describe, expect } from 'vitest'
import { listLanes, resumeLane } from '../../src/store/lane-states.ts'
import {
  enterLane,
  forgiveLanes,
  type LaneId,
  limitLane,
  type Pause,
  pauseLane,
  probeLane,
  readLanes,
} from '../../src/store/lanes.ts'
import { HandDriven, retryIn } from '../support/hand-driven.ts'
import { insertRow, refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { withTransaction } from '../support/transaction.ts'

const key = '0123456789ab'
const lane: LaneId = { provider: 'responses', key, model: 'm' }
const whole: LaneId = { ...lane, model: '' }
const rateLimit: Pause = { reason: 'rate_limited', untilProof: false }
const noQuota: Pause = { reason: 'insufficient_quota', untilProof: true }

const database = (pool: pg.Pool) => ({
  query: async (text: string, values: readonly unknown[] = []) =>
    (await pool.query(text, [...values])).rows,
  schema: 'public',
})
const states = async (pool: pg.Pool) =>
  (await listLanes(database(pool))).map(({ model, state, reason }) => ({ model, state, reason }))
/** As if all that happened to the lane had happened longer ago. */
const age = (pool: pg.Pool, ms: number) =>
  pool.query(
    `update lanes set paused_at = paused_at - $1 * interval '1 millisecond',
                      probed_at = probed_at - $1 * interval '1 millisecond',
                      paused_until = case when paused_until = never() then never()
                                          else paused_until - $1 * interval '1 millisecond' end`,
    [ms],
  )
const strikes = async (pool: pg.Pool) => (await pool.query('select strikes from lanes')).rows

describe('a pause', () => {
  test('lasts as long as the provider asks for', async ({ pool }) => {
    expect(await pauseLane(pool, lane, { ...rateLimit, retryAfterMs: 7_000 })).toBe(7_000)
    expect(await states(pool)).toEqual([{ model: 'm', state: 'resting', reason: 'rate_limited' }])
  })

  test('that is refused for again while it lasts is no further strike', async ({ pool }) => {
    const pauses = Array.from({ length: 20 }, () => pauseLane(pool, lane, rateLimit))
    const longest = Math.max(...(await Promise.all(pauses)))
    expect(longest).toBeLessThanOrEqual(2_000)
    expect(await strikes(pool)).toEqual([{ strikes: 1 }])
  })

  test('doubles with each strike, up to a minute', async ({ pool }) => {
    for (const most of [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      const ms = await pauseLane(pool, lane, rateLimit)
      expect(ms).toBeLessThanOrEqual(most)
      expect(ms).toBeGreaterThanOrEqual(most / 2)
      await age(pool, ms + 1)
    }
  })

  test('is prolonged by a later Retry-After, and never cut short by an earlier one', async ({
    pool,
  }) => {
    await pauseLane(pool, lane, { ...rateLimit, retryAfterMs: 10_000 })
    expect(await pauseLane(pool, lane, { ...rateLimit, retryAfterMs: 60_000 })).toBe(60_000)
    const ms = await pauseLane(pool, lane, { ...rateLimit, retryAfterMs: 1_000 })
    expect(ms).toBeGreaterThan(50_000)
    await pauseLane(pool, whole, noQuota)
    expect(await pauseLane(pool, whole, { ...rateLimit, retryAfterMs: 1 })).toBeGreaterThan(1e9)
  })

  test('is over by itself, and the strikes stay until something succeeds', async ({ pool }) => {
    await pauseLane(pool, lane, { ...rateLimit, retryAfterMs: 1_000 })
    await age(pool, 1_001)
    expect(await states(pool)).toEqual([{ model: 'm', state: 'open', reason: null }])
    const [known] = await readLanes(pool, { responses: key }, 1_000)
    expect(known).toMatchObject({ rests_ms: 0, is_struck: true })
    await forgiveLanes(pool, lane, new Date().toISOString())
    expect(await strikes(pool)).toEqual([{ strikes: 0 }])
  })

  test('is not ended by the success of what was claimed before it', async ({ pool }) => {
    const before = new Date(Date.now() - 1_000).toISOString()
    await pauseLane(pool, whole, noQuota)
    await forgiveLanes(pool, lane, before)
    expect(await states(pool)).toMatchObject([{ state: 'resting' }])
    const { rows } = await pool.query('select clock_timestamp()::text as now')
    await forgiveLanes(pool, lane, rows[0].now)
    expect(await states(pool)).toMatchObject([{ state: 'open' }])
  })

  test('of one key says nothing about another key, provider or model', async ({ pool }) => {
    await pauseLane(pool, lane, { ...rateLimit, retryAfterMs: 60_000 })
    expect(await readLanes(pool, { responses: 'ba9876543210' }, 1_000)).toEqual([])
    expect(await readLanes(pool, { assistants: key }, 1_000)).toEqual([])
    const other = { ...lane, model: 'other' }
    await forgiveLanes(pool, other, '9999-01-01')
    expect(await states(pool)).toMatchObject([{ model: 'm', state: 'resting' }])
  })

  test("waits for nobody's open transaction for long", async ({ pool }) => {
    await limitLane(pool, lane, 1)
    await withTransaction(pool, async (client) => {
      await client.query('update lanes set max_runs = 2')
      await expect(pauseLane(pool, lane, rateLimit)).rejects.toMatchObject({ code: '55P03' })
      await forgiveLanes(pool, lane, '9999-01-01')
    })
  })
})

describe('a probe', () => {
  const probe = (pool: pg.Pool) => probeLane(pool, 'responses', key, ['', 'responses'], 1_000)

  test('is one of the whole fleet, and no other until it is due again', async ({ pool }) => {
    await insertRow(pool, { thread_id: 't' })
    await pauseLane(pool, whole, noQuota)
    expect(await probe(pool)).toBe(false) // just refused
    await age(pool, 1_000)
    const probes = await Promise.all(Array.from({ length: 10 }, () => probe(pool)))
    expect(probes.filter(Boolean)).toHaveLength(1)
    expect(await probe(pool)).toBe(false)
    await age(pool, 1_000)
    expect(await probe(pool)).toBe(true)
  })

  test('is not spent while nobody waits', async ({ pool }) => {
    await pauseLane(pool, whole, noQuota)
    await age(pool, 1_000)
    expect(await probe(pool)).toBe(false)
    await insertRow(pool, { thread_id: 't' })
    expect(await probe(pool)).toBe(true)
  })

  test('is for a pause without an end alone', async ({ pool }) => {
    await insertRow(pool, { thread_id: 't' })
    await pauseLane(pool, whole, { ...rateLimit, retryAfterMs: 60_000 })
    await age(pool, 5_000)
    expect(await probe(pool)).toBe(false)
  })
})

describe('an operator', () => {
  test('resumes a lane, and is told whether it rested', async ({ pool }) => {
    await pauseLane(pool, whole, noQuota)
    expect(await resumeLane(pool, whole)).toBe(true)
    expect(await resumeLane(pool, whole)).toBe(false)
    expect(await states(pool)).toEqual([{ model: '', state: 'open', reason: null }])
  })

  test('who names a lane that is not there is told where to look', async ({ pool }) => {
    expect(
      await refusal(pool.query(`select resume_lane('responses', $1, 'm')`, [key])),
    ).toMatchObject({
      message: `there is no lane ${key}/m of responses`,
      hint: expect.stringContaining('from lane_states'),
    })
  })

  test('cannot set a maximum of nothing, nor a lane of no provider', async ({ pool }) => {
    const none = refusal(limitLane(pool, lane, 0))
    expect((await none).constraint).toBe('lane_max_runs_is_at_least_1')
    const nobody = refusal(limitLane(pool, { ...lane, provider: 'openai' as never }, 1))
    expect((await nobody).constraint).toBe('lane_provider_is_known')
  })
})

describe('a place', () => {
  /** Claims as many operations as asked for, each of a line of its own. */
  async function claimed(pool: pg.Pool, client: pg.ClientBase, count: number) {
    const dispatcher = await HandDriven.signOn(client)
    for (let i = 0; i < count; i++) {
      const data = { message: 'Hi', model: 'm' }
      await insertRow(pool, { thread_id: `t${i}`, operation: 'add_message_and_run', data })
    }
    const operations = await dispatcher.claim({ free: count })
    const enter = (nth: number, id = lane) => {
      const { id: operationId, attempts } = operations[nth] as (typeof operations)[number]
      return enterLane(pool, { dispatcherId: 'd1', id: operationId, attempts }, id)
    }
    return { dispatcher, operations, enter }
  }
  const places = async (pool: pg.Pool) => (await listLanes(database(pool))).map(({ runs }) => runs)

  test('is there for as many as the maximum, however many ask at once', async ({
    pool,
    connected,
  }) => {
    const { enter } = await claimed(pool, await connected(), 12)
    await limitLane(pool, lane, 5)
    const answers = await Promise.all(Array.from({ length: 12 }, (_, nth) => enter(nth)))
    expect(answers.filter((full) => full === null)).toHaveLength(5)
    expect(answers.filter((full) => full === `${key}/m`)).toHaveLength(7)
    expect(await places(pool)).toEqual([5])
  })

  test('is taken in the lane of the key and in that of the model', async ({ pool, connected }) => {
    const { enter } = await claimed(pool, await connected(), 4)
    await limitLane(pool, whole, 2)
    await limitLane(pool, lane, 1)
    const other = { ...lane, model: 'other' }
    expect(await enter(0)).toBeNull()
    expect(await enter(1)).toBe(`${key}/m`)
    expect(await enter(2, other)).toBeNull()
    expect(await enter(3, other)).toBe(key)
  })

  test('is the same for who asks twice', async ({ pool, connected }) => {
    const { enter } = await claimed(pool, await connected(), 2)
    await limitLane(pool, lane, 1)
    expect(await enter(0)).toBeNull()
    expect(await enter(0)).toBeNull()
    expect(await enter(1)).toBe(`${key}/m`)
  })

  test('is free when the operation is settled, and while it waits without a run', async ({
    pool,
    connected,
  }) => {
    const { dispatcher, operations, enter } = await claimed(pool, await connected(), 3)
    const [first, second] = operations as [(typeof operations)[0], (typeof operations)[0]]
    await limitLane(pool, lane, 1)
    expect(await enter(0)).toBeNull()
    await dispatcher.settle(first)
    expect(await places(pool)).toEqual([0])
    expect(await enter(1)).toBeNull()
    await dispatcher.settle(second, retryIn(60_000))
    expect(await places(pool)).toEqual([0])
    expect(await enter(2)).toBeNull()
  })

  test.for([
    ['its run is known', { progress: { run_id: 'resp_1' } }, 1],
    ['its run may have been started', { intent: { call: 'start_run' } }, 1],
    ['its run has failed', { progress: { run_id: 'r1', failed_run_ids: ['r1'] } }, 0],
    ['only its message may have been added', { intent: { call: 'add_message' } }, 0],
  ] as const)('of a dispatcher that has gone: %s', async ([, noted, kept], { pool, connected }) => {
    const { progress, intent }: { progress?: object; intent?: object } = noted
    const { dispatcher, operations, enter } = await claimed(pool, await connected(), 2)
    const [first] = operations as [(typeof operations)[0]]
    await limitLane(pool, lane, 1)
    await enter(0)
    await pool.query('select note_progress($1, $2, $3, $4, $5)', [
      dispatcher.id,
      first.id,
      first.attempts,
      intent ?? null,
      progress ?? {},
    ])
    await pool.query('select give_back_operations($1, $2, $3)', [
      dispatcher.id,
      [first.id],
      [first.attempts],
    ])
    expect(await places(pool)).toEqual([kept])
    expect(await enter(1)).toBe(kept ? `${key}/m` : null)
  })

  test('is not held by who waits for an operator', async ({ pool, connected }) => {
    const { dispatcher, operations, enter } = await claimed(pool, await connected(), 1)
    const [first] = operations as [(typeof operations)[0]]
    await limitLane(pool, lane, 1)
    await enter(0)
    await pool.query(`select note_progress('d1', $1, $2, '{"call": "start_run"}', '{}')`, [
      first.id,
      first.attempts,
    ])
    expect(await places(pool)).toEqual([1])
    await dispatcher.settle(first, {
      status: 'held',
      error: { code: 'outcome_unknown', message: '' },
    })
    expect(await places(pool)).toEqual([0])
  })

  test('is not for a claim that was lost', async ({ pool, connected }) => {
    const { operations } = await claimed(pool, await connected(), 1)
    const [first] = operations as [(typeof operations)[0]]
    await limitLane(pool, lane, 1)
    await enterLane(pool, { dispatcherId: 'd2', id: first.id, attempts: 1 }, lane)
    await enterLane(pool, { dispatcherId: 'd1', id: first.id, attempts: 2 }, lane)
    expect((await pool.query('select from lane_runs')).rowCount).toBe(0)
  })

  test("is not waited for while somebody's open transaction holds the lane", async ({
    pool,
    connected,
  }) => {
    const { enter } = await claimed(pool, await connected(), 1)
    await limitLane(pool, lane, 5)
    await withTransaction(pool, async (client) => {
      await client.query('update lanes set max_runs = 6')
      expect(await enter(0)).toBe(`${key}/m`)
    })
    expect(await enter(0)).toBeNull()
  })
})
